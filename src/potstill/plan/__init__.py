"""Before and beside a run: what this machine allows, what each form of student would cost, and what each step gains."""

"""Search: which settings of distillation make the best student."""

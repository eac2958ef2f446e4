"""Mistakes a user can mend, told in one line."""


class UserError(Exception):
    """Bad input: what is wrong, where (file, row, key) and what to do, in one line.

    Commands print it without a traceback and exit with code 2.
    """

"""Mistakes of a user, told in one line without a traceback."""


class UserError(Exception):
    """Something the user asked for cannot be done; the message says what was expected and found."""

"""Mistakes of a user, which the command line prints as one line without a traceback."""


class UserError(Exception):
    """Something the user asked for cannot be done; the message says what was expected and found."""

"""The one error that a user's or a source's data can cause."""


class DataError(ValueError):
    """Data that are not what they should be.

    The message is one line that says what was expected, what was found and where, fit to be shown
    without a traceback.
    """

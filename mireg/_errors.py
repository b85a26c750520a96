"""What can go wrong, as types."""


class MiregError(Exception):
    """Any error that mireg raises on purpose."""


class InputError(MiregError, ValueError):
    """An image, transform or option that cannot be used.

    The message is one line: what is wrong, where, and what to do about it.
    """


class MiregWarning(UserWarning):
    """An input is odd, and the work went on; the message says how."""

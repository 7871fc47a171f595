"""The one exception for what a user can mend.

Commands print its message without a traceback and exit with status 2; services answer INVALID_ARGUMENT with it.
"""


class InputError(ValueError):
    """Bad input. The message names the file, the field and the value, and says what would be right."""


class QueueFull(Exception):
    """There is no room, or the frame would wait, or has waited, too long.

    Parameters
    ----------
    message
        Why.
    retry_after
        Seconds after which a frame may be taken; None where nobody can tell.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Expired(Exception):
    """The deadline passed, or would have, before the frame could be answered."""


class Unauthenticated(Exception):
    """The call has no known token, or none any more."""


class Closed(Exception):
    """The queue takes no more work."""

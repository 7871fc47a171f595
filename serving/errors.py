"""The one exception for what a user can mend.

Commands print its message without a traceback and exit with status 2; services answer INVALID_ARGUMENT with it.
"""


class InputError(ValueError):
    """Bad input. The message names the file, the field and the value, and says what would be right."""

"""The error of an untrusted file that asks for too much."""

from novum.core.errors import InputError, printable


class Untrusted(InputError):
    """A request that an untrusted file may not make; completes a sentence that starts with it.

    Warnings show it without escaping, so control characters are spelt out here.
    """

    def __init__(self, text: str) -> None:
        super().__init__(printable(" ".join(text.split())))

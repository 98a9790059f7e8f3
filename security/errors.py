"""The error of an untrusted file that asks for too much."""


class Untrusted(ValueError):
    """What a file asks for that it may not have; completes a sentence that starts with the file."""

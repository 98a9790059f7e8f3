"""Names of places that are no files of this machine."""

HUB = "hf://"
DATASETS = "hf://datasets/"


def is_hub(place: object) -> bool:
    """Return True of a place on the Hugging Face Hub."""
    return isinstance(place, str) and place.startswith(HUB)

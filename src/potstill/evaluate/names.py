"""The models that are judged, and how they are called in tables and figures."""

# From the plainest to the smallest, then the rival.
MODELS = ("baseline", "control", "teacher", "student", "edge", "champion")
NAMES = {"edge": "edge model"}


def name_of(model: str) -> str:
    """A model's name for a reader."""
    return NAMES.get(model, model)

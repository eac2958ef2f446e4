"""The models that are judged, and how they and the steps of compression are called in tables and figures."""

# Files of an evaluation: here, so that who only reads them loads nothing that draws.
SUMMARY, VERDICT, FIGURES, PREDICTIONS = "summary.json", "verdict.json", "figures.json", "predictions.parquet"
# From the plainest to the smallest, then the rival.
MODELS = ("baseline", "control", "teacher", "student", "edge", "champion")
NAMES = {"edge": "edge model"}


def name_of(model: str) -> str:
    """A model's name for a reader."""
    return NAMES.get(model, model)


STEPS = {
    "export": "student",
    "trim": "vocabulary trimmed",
    "sparse": "smallest weights zero",
    "cascade": "behind a smaller one",
}


def step_name(step: str) -> str:
    """What a step of compression did, for a reader."""
    return STEPS.get(step, f"int8, {step.replace('_', ' ')}")

"""The images that the components run in. Nothing is installed in them at run time."""

# Without torch: reading, registering, closing.
CORE = "potstill-core-python:0.1.0"
# With torch: training, compressing, evaluating.
TRAIN = "potstill-train-python:0.1.0"

"""The images that the components run in, as images.lock.yaml calls them. Nothing is installed in them at run time."""

# Without torch: reading, registering, closing.
CORE = "core"
# With torch: training, compressing, evaluating.
TRAIN = "train"

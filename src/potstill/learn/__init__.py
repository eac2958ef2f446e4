"""Teachers and students in torch. Knows no pipeline, no tracker and no bucket."""

from transformers.utils import logging

# Its load reports and bars would drown the lines that a person wants to read.
logging.set_verbosity_error()
logging.disable_progress_bar()

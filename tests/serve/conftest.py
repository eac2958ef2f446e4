"""prometheus_client looks where to keep figures when it is imported: a service's parent process says it before."""

import os
import tempfile

os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", tempfile.mkdtemp(prefix="potstill-tests-"))

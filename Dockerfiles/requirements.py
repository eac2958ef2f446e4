"""Print what Potstill and some of its extras require, as pyproject.toml pins it, a requirement a line.

python requirements.py train pipeline
"""

import sys
import tomllib
from itertools import chain
from pathlib import Path

project = tomllib.loads(Path(__file__).with_name("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = sys.argv[1:]
print(*project["dependencies"], *chain(*(project["optional-dependencies"][extra] for extra in extras)), sep="\n")

"""One of several processes that teach a teacher together, as the step starts them."""

import functools
import json
import sys
from pathlib import Path

from potstill.errors import UserError
from potstill.learn.processes import EXIT_BAD_INPUT, joined, tell
from potstill.recipe import Teacher
from potstill.steps.teach import teach_here


def main() -> None:
    """Teach what the request, the one argument, asks for."""
    request = json.loads(sys.argv[1])
    dataset, teacher, kept = (request[name] and Path(request[name]) for name in ("dataset", "teacher", "kept"))
    settings = Teacher.model_validate(request["settings"])
    with joined():
        try:
            told = functools.partial(tell, "epoch")
            tell("found", teach_here(dataset, settings, teacher, told, request["cross_fit"], kept))
        except UserError as error:
            tell("mistake", str(error))
            sys.exit(EXIT_BAD_INPUT)


if __name__ == "__main__":
    main()

"""A CSV of some rows, what a recipe says of them, and what a survey says of each."""

from potstill.data.formats import Columns
from potstill.data.survey import Reason
from potstill.recipe import Task

TASK = Task()
COLUMNS = Columns(("text",), ("label",))
GROUPED = Columns(("text",), ("label",), "shop")
RATE = Task(kind="rate", label="clicks", of="shown")
COUNTED = Columns(("text",), ("clicks",), weight="shown", group="test", holds=("share",))
DATED = Columns(("text",), ("label",), time="week")


def csv(path, rows, header="text,label"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def reasons(found):
    return [Reason(code).words for code in found.reason]

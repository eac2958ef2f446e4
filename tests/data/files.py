"""A CSV of some rows, and what a survey says of each."""

from potstill.data.survey import Reason


def csv(path, rows, header="text,label"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def reasons(found):
    return [Reason(code).words for code in found.reason]

"""Card: what a service must know of an edge model, as JSON beside the graph."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.edge import CARD


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write the card of the model in a folder."""
    (folder / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False), encoding="utf-8")


def read_card(folder: Path) -> dict[str, Any]:
    """Read it."""
    card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
    return card

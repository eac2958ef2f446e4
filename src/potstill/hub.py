"""Whether an encoder's folder can be loaded safely, seen without loading it."""

import json
from pathlib import Path

from potstill.errors import UserError
from potstill.store import resolve

PICKLED_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")


def check_encoder(location: str, knob: str = "teacher.encoder") -> None:
    """Refuse an encoder folder that can't be loaded safely. A hub name is left to the hub.

    Raises:
        UserError: no such folder or package, no config, no weights, or pickled weights only.
    """
    folder = Path(resolve(location))
    if not folder.exists():
        if location.startswith((".", "/", "~")) or location.count("/") > 1:
            raise UserError(f"{knob}: {location}: no such folder")
        return
    if not (folder / "config.json").is_file():
        raise UserError(f"{knob}: {location}: no config.json; expected a Hugging Face folder")
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(p.name for pattern in PICKLED_WEIGHTS for p in folder.glob(pattern))
        found = (
            f"only {', '.join(pickled)}, which may run code when loaded; convert it to"
            if pickled
            else "no weights; expected"
        )
        raise UserError(f"{knob}: {location}: {found} model.safetensors")


def check_layers(location: str, layers: int | list[int]) -> None:
    """Refuse a student of layers that a local encoder hasn't. An encoder on a hub is judged when it is loaded.

    Args:
        location: of the encoder.
        layers: how many, or which ones, from 0.

    Raises:
        UserError: the encoder has fewer layers.
    """
    has = layers_of(location)
    needed = layers if isinstance(layers, int) else max(layers) + 1
    if has is not None and needed > has:
        raise UserError(f"student.layers: {layers}: the encoder has {has} layers, numbered from 0")


def layers_of(location: str) -> int | None:
    """How many layers a local encoder has; none, where it is on a hub or does not say."""
    path = Path(resolve(location), "config.json")
    if not path.is_file():
        return None
    config = json.loads(path.read_text(encoding="utf-8"))
    found: int | None = config.get("num_hidden_layers", config.get("n_layers"))
    return found

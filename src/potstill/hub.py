"""Whether an encoder's folder can be loaded safely, seen without loading it."""

from pathlib import Path

from potstill.errors import UserError
from potstill.store import resolve

PICKLED_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")


def check_encoder(location: str) -> None:
    """Refuse an encoder folder that can't be loaded safely. A hub name is left to the hub.

    Raises:
        UserError: no such folder or package, no config, no weights, or pickled weights only.
    """
    folder = Path(resolve(location))
    if not folder.exists():
        if location.startswith((".", "/", "~")) or location.count("/") > 1:
            raise UserError(f"teacher.encoder: {location}: no such folder")
        return
    if not (folder / "config.json").is_file():
        raise UserError(f"teacher.encoder: {location}: no config.json; expected a Hugging Face folder")
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(p.name for pattern in PICKLED_WEIGHTS for p in folder.glob(pattern))
        found = (
            f"only {', '.join(pickled)}, which may run code when loaded; convert it to"
            if pickled
            else "no weights; expected"
        )
        raise UserError(f"teacher.encoder: {location}: {found} model.safetensors")

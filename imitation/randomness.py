"""One generator per run: run k of a stack draws what the single run with its seed draws."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Generators:
    """R independent random streams on one device; every draw has a leading axis R.

    A draw of run k depends on that run's stream alone, never on how many runs there are, and nothing here
    touches torch's global generator.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._streams = [torch.Generator(self.device).manual_seed(_mix(seed)) for seed in seeds]

    def __len__(self) -> int:
        return len(self._streams)

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers (R, *shape)."""
        return torch.stack([torch.randn(shape, generator=g, device=self.device) for g in self._streams])

    def uniform(self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform numbers in [low, high) (R, *shape)."""
        drawn = torch.stack([torch.rand(shape, generator=g, device=self.device) for g in self._streams])
        return drawn * (high - low) + low

    def integers(self, high: int, shape: tuple[int, ...]) -> Tensor:
        """Uniform integers in [0, high) (R, *shape), int64."""
        return torch.stack([torch.randint(high, shape, generator=g, device=self.device) for g in self._streams])

    def state(self) -> Tensor:
        """The streams' state (R, bytes), uint8, on the CPU."""
        return torch.stack([g.get_state() for g in self._streams])

    def set_state(self, state: Tensor) -> None:
        """Continue from :meth:`state`."""
        for generator, row in zip(self._streams, state, strict=True):
            generator.set_state(row.cpu().clone())  # a view into a file may not be aligned


def _mix(seed: int) -> int:
    """Spread neighbouring seeds over 63 bits (SplitMix64's finaliser), so that streams 0, 1, 2 … are unrelated."""
    mask = (1 << 64) - 1
    value = (seed + 0x9E3779B97F4A7C15) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return (value ^ (value >> 31)) >> 1

"""DiffAIL: a diffusion model as the discriminator, the control for score matching."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..diffusion import NOISE_ROWS, NoisePredictor, signal_levels
from ..networks import Activation, StackedMLP
from ..randomness import Generators
from ..replay import Batch
from .gan import GanConfig, GanReward

_MOST = math.log1p(-1e-6)  # a log-probability stays below 0 by this


@dataclasses.dataclass(frozen=True)
class DiffusionConfig(GanConfig):
    """A classifier's settings, in the paper's sizes (reference/algorithms.md 3.15), and the schedule's ``times``."""

    hidden: tuple[int, ...] = (128, 128, 128)
    activation: Activation = "silu"
    learning_rate: float = 3e-5
    update_every: int = 1
    penalty_weight: float = 0.1
    times: int = 10


class DiffusionReward(GanReward):
    """DiffAIL (Wang et al. 2023, arXiv 2312.06348): D(x) = exp(−error of the noise predictor on x), trained as GAIL's.

    In training each row has one random time; the reward's D̄ is the mean over all times and dimensions of exp(−squared
    error), as in the released code. The logit is log D − log(1 − D), so everything else, early ends
    included, is as in :class:`~understudy.imitation.rewards.GanReward`.
    """

    Config: ClassVar[type[Any] | None] = DiffusionConfig
    config: DiffusionConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    noise: Tensor
    when: Tensor

    def build(self, runs: int, size: int) -> None:
        """The noise predictors."""
        config = self.config
        leading, signal = (runs, config.members), signal_levels(config.times)
        self.predictor = NoisePredictor(leading, size, config.hidden, signal, config.activation)
        self.register_buffer("noise", torch.zeros(runs, config.times, NOISE_ROWS, size))
        self.register_buffer("when", torch.zeros(runs, NOISE_ROWS, dtype=torch.int64))

    def stacks(self) -> list[StackedMLP]:
        """The networks to train."""
        return self.predictor.stacks()

    def prepare(self, generators: Generators) -> None:
        """New noise and times."""
        self.noise.copy_(generators.normal(tuple(self.noise.shape[1:])))
        self.when.copy_(generators.integers(self.config.times, (NOISE_ROWS,)))

    def scores(self, inputs: Tensor, batch: Batch, *, exact: bool = False) -> Tensor:
        """Each member's logits (R, M, B), every row at a time of its own."""
        every = inputs.unsqueeze(1).expand(-1, self.config.members, -1, -1)
        return _logits(self._errors(every, exact=exact).neg())

    def member_scores(self, inputs: Tensor) -> Tensor:
        """The same of inputs of each member's own (R, M, B, X)."""
        return _logits(self._errors(inputs, exact=True).neg())

    def _errors(self, inputs: Tensor, *, exact: bool) -> Tensor:
        which = torch.arange(inputs.shape[-2], device=inputs.device) % NOISE_ROWS
        noise = self.noise[:, 0, which].unsqueeze(1).expand_as(inputs)
        times = self.when[:, which].unsqueeze(1).expand(inputs.shape[:-1])
        return self.predictor.squares(inputs, noise, times, exact=exact).mean(-1)

    def judged(self, inputs: Tensor, batch: Batch) -> Tensor:
        """Each member's logits (R, M, B) by the mean of D over all times, with noise of each time's own."""
        members, (count, size), times = self.config.members, inputs.shape[-2:], self.config.times
        which = torch.arange(count, device=inputs.device) % NOISE_ROWS
        shape = (len(inputs), members, times * count)
        noise = self.noise[:, :, which].flatten(1, 2).unsqueeze(1).expand(*shape, size)
        rows = inputs.repeat(1, times, 1).unsqueeze(1).expand(*shape, size)
        when = torch.arange(times, device=inputs.device).repeat_interleave(count).expand(shape)
        likeness = self.predictor.squares(rows, noise, when).neg().unflatten(-2, (times, count))
        return _logits(likeness.logsumexp((-1, -3)) - math.log(times * size))


def _logits(log_probability: Tensor) -> Tensor:
    """log D − log(1 − D) from log D, of D ≤ 1 − 1e-6: above it the reward −log(1 − D) has no bound.

    From the logarithm, as the D of a row that is far from all data is 0 in floating point, and log 0 ends a training.
    """
    bounded = log_probability.clamp(max=_MOST)
    return bounded - torch.log(-torch.expm1(bounded))

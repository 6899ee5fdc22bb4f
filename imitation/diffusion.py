"""Noising rows and learning to name the noise: what score rewards and diffusion policies share.

The forward process is that of DDPM (Ho et al. 2020, arXiv 2006.11239): x_t = √ᾱ_t x + √(1 − ᾱ_t) ε, with ε standard
normal, and ᾱ falling from almost 1 to almost 0 over the times t = 0 … T − 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .networks import Activation, StackedMLP
from .randomness import Generators

NOISE_ROWS = 256  # a reward's noise at a time: drawn with each of its updates, shared by the batches until the next
_WAVES, _EMBEDDED = 16, 16  # sizes of a time's sines and of what the network makes of them


def signal_levels(times: int) -> Tensor:
    """ᾱ (T,) of diffusers' default schedule (β linear from 1e-4 to 0.02 over ``times`` T)."""
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler  # slow to import, and few need it

    return DDPMScheduler(num_train_timesteps=times).alphas_cumprod.clone()


def stratified_times(uniform: Tensor, end: int) -> Tensor:
    """Times (..., L, B) in [0, ``end``) from uniform numbers (..., L, B): each row has one in each of L equal strata.

    So every row meets every noise level. The released SMILING tiles rows and times alike, and a row meets only the
    times whose number is its own modulo their greatest common divisor (reference/field.md 6.4, item 1).
    """
    strata = torch.arange(uniform.shape[-2], device=uniform.device)[:, None]
    return ((strata + uniform) * (end / uniform.shape[-2])).long().clamp(max=end - 1)


class NoisePredictor(nn.Module):
    """ε̂(x_t, t) for each index of the leading axes (R,) or (R, M): a perceptron on x_t and an embedding of t.

    ``signal`` (T,) are the ᾱ of the schedule. Sizes as in the released SMILING (reference/algorithms.md 3.14).
    """

    signal: Tensor
    waves: Tensor

    def __init__(
        self,
        leading: Sequence[int],
        size: int,
        hidden: Sequence[int],
        signal: Tensor,
        activation: Activation = "leaky_relu",
    ) -> None:
        super().__init__()
        self.register_buffer("signal", signal.float(), persistent=False)
        self.register_buffer("waves", _sines(len(signal)), persistent=False)
        self.embedding = StackedMLP(leading, (_WAVES, 2 * _EMBEDDED, _EMBEDDED), activation=activation)
        self.net = StackedMLP(leading, (size + _EMBEDDED, *hidden, size), activation=activation)

    def stacks(self) -> list[StackedMLP]:
        """The networks to train."""
        return [self.embedding, self.net]

    def initialise(self, generators: Generators) -> None:
        """Draw each run's parameters from its own generator."""
        for stack in self.stacks():
            stack.initialise(generators)

    def noised(self, rows: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """x_t (..., B, X) of rows and noise (..., B, X) at times (..., B)."""
        signal = self.signal[times].unsqueeze(-1)
        return signal.sqrt() * rows + (1 - signal).sqrt() * noise

    def forward(self, noised: Tensor, times: Tensor, *, exact: bool = False) -> Tensor:
        """The noise ε̂ (*leading, B, X) in x_t (*leading, B, X) at times (*leading, B); ``exact`` in float32."""
        embedded = self.embedding(self.waves[times], exact=exact)
        return self.net(torch.cat((noised, embedded), -1), exact=exact)

    def squares(self, rows: Tensor, noise: Tensor, times: Tensor, *, exact: bool = False) -> Tensor:
        """(ε̂ − ε)² (*leading, B, X) for rows and noise (*leading, B, X) at times (*leading, B)."""
        return (self(self.noised(rows, noise, times), times, exact=exact) - noise).square()


def _sines(times: int) -> Tensor:
    """Sines and cosines (T, 16) of each time at geometric frequencies, from 1 to 1e-4 (Vaswani et al. 2017)."""
    half = _WAVES // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half) / (half - 1))
    angles = torch.arange(times)[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), -1)

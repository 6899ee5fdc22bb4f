"""Noising rows and learning to name the noise: what score rewards and diffusion policies share.

The forward process is that of DDPM (Ho et al. 2020, arXiv 2006.11239): x_t = √ᾱ_t x + √(1 − ᾱ_t) ε, with ε standard
normal, and ᾱ falling from almost 1 to almost 0 over the times t = 0 … T − 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from .networks import Activation, StackedMLP
from .randomness import Generators

NOISE_ROWS = 256  # a reward's noise at a time: drawn with each of its updates, shared by the batches until the next
_LEAST_SIGNAL = 0.02
_WAVES, _EMBEDDED = 16, 16  # sizes of a time's sines and of what the network makes of them


def signal_levels(times: int, schedule: Literal["linear", "squaredcos_cap_v2"] = "linear") -> Tensor:
    """ᾱ (T,) of a schedule of diffusers' over ``times`` T: its default (β linear from 1e-4 to 0.02), or that of images
    and actions (ᾱ a squared cosine, Nichol and Dhariwal 2021, arXiv 2102.09672), which ends in all but pure noise.
    """
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler  # slow to import, and few need it

    return DDPMScheduler(num_train_timesteps=times, beta_schedule=schedule).alphas_cumprod.clone()


def sampling_times(times: int, count: int) -> list[int]:
    """``count`` of ``times`` T, evenly from the last one down ("trailing": Lin et al. 2023, arXiv 2305.08891)."""
    return [round(times - index * times / count) - 1 for index in range(count)]


def sampling_times_of_second_order(signal: Tensor, count: int) -> list[int]:
    """``count`` times with another, 0, at the end, evenly from where ᾱ is 0.02.

    Above that what a row would be without noise is hardly known, and the second step would lean on it.
    """
    first = _first_of_second_order(signal)
    return [round(first - index * first / count) for index in range(count)]


def most_of_second_order(signal: Tensor) -> int:
    """How many times :func:`sampling_times_of_second_order` has at most of a schedule of ᾱ (T,)."""
    return max(_first_of_second_order(signal), 0)


def _first_of_second_order(signal: Tensor) -> int:
    """The last time at which ᾱ, which falls, is 0.02; −1 where it never is."""
    return int((signal >= _LEAST_SIGNAL).sum()) - 1


def cleaned(rows: Tensor, noise: Tensor, signal: Tensor) -> Tensor:
    """What rows at ᾱ ``signal`` would be without the noise that is said to be in them, kept in [−1, 1], where actions
    are."""
    return ((rows - (1 - signal).sqrt() * noise) / signal.sqrt()).clamp(-1, 1)


def denoised(rows: Tensor, clean: Tensor, signal: Tensor, less: Tensor) -> Tensor:
    """One step of DDIM without noise of its own (Song et al. 2020, arXiv 2010.02502, equation 12).

    From rows at ᾱ ``signal``, which would be ``clean`` without noise, to the ᾱ of ``less`` noise.
    """
    left = (rows - signal.sqrt() * clean) / (1 - signal).sqrt()
    return less.sqrt() * clean + (1 - less).sqrt() * left


def clean_to_reach(rows: Tensor, after: Tensor, signal: Tensor, less: Tensor) -> Tensor:
    """The clean rows with which :func:`denoised` leads from ``rows`` at ᾱ ``signal`` to ``after`` at the ᾱ of ``less``
    noise: what a single step has to take for clean to go as far as several did."""
    ratio = ((1 - less) / (1 - signal)).sqrt()
    return (after - ratio * rows) / (less.sqrt() - ratio * signal.sqrt())


def ahead(clean: Tensor, before: Tensor, signals: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """What to step towards instead of ``clean`` in the second-order solver DPM-Solver++(2M): ``clean``, and as far on
    from ``before``, the one of the last step, as half the step that is next asks for (Lu et al. 2022, arXiv 2211.01095,
    algorithm 2). ``signals`` are the ᾱ of the last time, of this one and of the next."""
    last, now, then = (signal.logit() / 2 for signal in signals)  # λ = log √ᾱ − log √(1 − ᾱ)
    return (clean + (then - now) / (2 * (now - last)) * (clean - before)).clamp(-1, 1)


def stratified_times(uniform: Tensor, end: int) -> Tensor:
    """Times (..., L, B) in [0, ``end``) from uniform numbers (..., L, B): each row has one in each of L equal strata.

    So every row meets every noise level. The released SMILING tiles rows and times alike, and a row meets only the
    times whose number is its own modulo their greatest common divisor (reference/field.md 6.4, item 1).
    """
    strata = torch.arange(uniform.shape[-2], device=uniform.device)[:, None]
    return ((strata + uniform) * (end / uniform.shape[-2])).long().clamp(max=end - 1)


class NoisePredictor(nn.Module):
    """ε̂(x_t, t) for each index of the leading axes (R,) or (R, M): a perceptron on x_t and an embedding of t.

    ``signal`` (T,) are the ᾱ of the schedule, which are part of its state with ``keeps``. ``given`` is the size of what
    else the noise may depend on. Sizes as in the released SMILING (reference/algorithms.md 3.14).
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
        *,
        given: int = 0,
        keeps: bool = False,
    ) -> None:
        super().__init__()
        self.register_buffer("signal", signal.float(), persistent=keeps)
        self.register_buffer("waves", _sines(len(signal)), persistent=False)
        self.embedding = StackedMLP(leading, (_WAVES, 2 * _EMBEDDED, _EMBEDDED), activation=activation)
        self.net = StackedMLP(leading, (size + _EMBEDDED + given, *hidden, size), activation=activation)

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

    def forward(self, noised: Tensor, times: Tensor, *, given: Tensor | None = None, exact: bool = False) -> Tensor:
        """The noise ε̂ (*leading, B, X) in x_t (*leading, B, X) at times (*leading, B); ``exact`` in float32."""
        embedded = self.embedding(self.waves[times], exact=exact)
        parts = (noised, embedded) if given is None else (noised, embedded, given)
        return self.net(torch.cat(parts, -1), exact=exact)

    def squares(
        self, rows: Tensor, noise: Tensor, times: Tensor, *, given: Tensor | None = None, exact: bool = False
    ) -> Tensor:
        """(ε̂ − ε)² (*leading, B, X) for rows and noise (*leading, B, X) at times (*leading, B)."""
        return (self(self.noised(rows, noise, times), times, given=given, exact=exact) - noise).square()


def _sines(times: int) -> Tensor:
    """Sines and cosines (T, 16) of each time at geometric frequencies, from 1 to 1e-4 (Vaswani et al. 2017)."""
    half = _WAVES // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half) / (half - 1))
    angles = torch.arange(times)[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), -1)

"""What tests of agents against another implementation's share: sizes, batches, and networks as lists of layers."""

from __future__ import annotations

from collections.abc import Iterable

import gymnasium
import numpy as np
import torch
from torch import Tensor

from understudy.imitation.replay import Batch

O, A, B, HIDDEN = 11, 3, 64, (64, 64)  # noqa: E741
RUNS = 2


class Spaces(gymnasium.Env[np.ndarray, np.ndarray]):
    """The spaces alone: nothing steps it."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (O,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (A,), np.float32)


def random_batch(seed: int, runs: int = RUNS, size: int = B) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(runs, size, *shape, generator=generator)

    return Batch(normal(O), normal(A).tanh(), normal(O), normal(), (normal() > 1).float(), torch.zeros(runs, size))


def random_noise(seed: int, runs: int = RUNS, size: int = B) -> Tensor:
    return torch.randn(runs, 2, size, A, generator=torch.Generator().manual_seed(10_000 + seed))


def reference_layers(network: torch.nn.Module, *, gradients: bool = False) -> list[tuple[Tensor, Tensor]]:
    """Weights (in, out) and biases (out) of a reference network, or their gradients; two heads as one layer."""
    linear = [m for m in network.modules() if isinstance(m, torch.nn.Linear)]
    tensors = [(m.weight.grad, m.bias.grad) if gradients else (m.weight, m.bias) for m in linear]
    layers = [(weight.T.clone(), bias.clone()) for weight, bias in tensors]  # pyright: ignore
    if hasattr(network, "log_std"):
        (w1, b1), (w2, b2) = layers[-2:]
        layers[-2:] = [(torch.cat((w1, w2), 1), torch.cat((b1, b2)))]
    return layers


def our_layers(tensors: Iterable[Tensor], where: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
    """The same of one run (and member) from tensors in the order weights, then biases."""
    tensors = list(tensors)
    half = len(tensors) // 2
    return [(w[where], b[where].squeeze(0)) for w, b in zip(tensors[:half], tensors[half:], strict=True)]

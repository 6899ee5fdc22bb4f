"""Optimisers over stacked parameters. One step moves all runs, each by its own gradient alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from .networks import StackedMLP

Optimiser = Literal["adam", "oadam"]


class Adam:
    """Adam (Kingma and Ba 2015) over the float32 parameters of stacked networks, fused where torch can.

    The loss is the sum of the runs' losses, so gradients of different runs never meet. Gradients are taken at
    the networks' computing copies (bfloat16 or the parameters themselves) and applied in float32.
    """

    def __init__(
        self,
        networks: Sequence[StackedMLP],
        learning_rate: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        extra: Sequence[Tensor] = (),
    ) -> None:
        self._networks = list(networks)
        self._extra = list(extra)
        self.parameters: list[Tensor] = [p for net in networks for p in net.master()] + self._extra
        self._betas, self._weight_decay = betas, weight_decay
        device = self.parameters[0].device
        # A tensor, so that a schedule reaches an update that was recorded as a CUDA graph.
        self._rate = torch.tensor(learning_rate, device=device)
        self._gradients = [torch.zeros_like(p) for p in self.parameters]
        self._first = [torch.zeros_like(p) for p in self.parameters]
        self._second = [torch.zeros_like(p) for p in self.parameters]
        self._steps = [torch.zeros((), device=device) for _ in self.parameters]

    def set_learning_rate(self, value: float) -> None:
        """Use another learning rate from the next step on."""
        self._rate.fill_(value)

    def leaves(self) -> list[Tensor]:
        """What the loss is differentiated by."""
        return [leaf for net in self._networks for leaf in net.leaves()] + self._extra

    def step(self, loss: Tensor) -> None:
        """Move the parameters down the gradient of ``loss`` (a scalar: the sum over runs)."""
        self.apply(torch.autograd.grad(loss, self.leaves()))

    def apply(self, gradients: Sequence[Tensor]) -> None:
        """Move the parameters by given gradients, in the order of :meth:`leaves`."""
        with torch.no_grad():
            # Copied: into float32, and the fused step takes them as laid out like the parameters.
            torch._foreach_copy_(self._gradients, list(gradients))  # pyright: ignore
            adamw(
                self.parameters, self._gradients, self._first, self._second, [], self._steps,
                lr=self._rate, beta1=self._betas[0], beta2=self._betas[1], eps=1e-8,
                weight_decay=self._weight_decay, amsgrad=False, maximize=False, fused=True,
            )  # fmt: skip
        for net in self._networks:
            net.refresh()

    def state(self) -> dict[str, Tensor]:
        """The moments and step counts, by parameter index."""
        names = ("step", "exp_avg", "exp_avg_sq")
        columns = zip(self._steps, self._first, self._second, strict=True)
        return {f"{i}.{n}": v for i, values in enumerate(columns) for n, v in zip(names, values, strict=True)}

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Continue from :meth:`state`."""
        for name, value in self.state().items():
            value.copy_(state[name])


class OptimisticAdam:
    """OAdam (Daskalakis et al. 2018, as the released hybrid-IRL code has it): p += s·u_{t−1} − 2·s·u_t.

    u_t is Adam's direction m_t/(√v_t + ε), s the bias-corrected rate. :meth:`restart` forgets the moments; the
    first step after it is exactly −2·rate·sign(gradient) (reference/algorithms.md 2.3), which is what the
    released discriminators are trained by.
    """

    def __init__(
        self,
        networks: Sequence[StackedMLP],
        learning_rate: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        self._networks = list(networks)
        self._rate, self._betas, self._epsilon = learning_rate, betas, epsilon
        self.parameters: list[Tensor] = [p for net in networks for p in net.master()]
        self._first = [torch.zeros_like(p) for p in self.parameters]
        self._second = [torch.zeros_like(p) for p in self.parameters]
        self._steps = 0

    def restart(self, learning_rate: float) -> None:
        """Forget the moments and use another rate."""
        self._rate, self._steps = learning_rate, 0
        for moment in (*self._first, *self._second):
            moment.zero_()

    def set_learning_rate(self, value: float) -> None:
        """Use another learning rate from the next step on."""
        self._rate = value

    def leaves(self) -> list[Tensor]:
        """What the loss is differentiated by."""
        return [leaf for net in self._networks for leaf in net.leaves()]

    def step(self, loss: Tensor) -> None:
        """Move the parameters down the gradient of ``loss`` (a scalar: the sum over runs)."""
        self.apply(torch.autograd.grad(loss, self.leaves()))

    def apply(self, gradients: Sequence[Tensor]) -> None:
        """Move the parameters by given gradients, in the order of :meth:`leaves`."""
        self._steps += 1
        beta1, beta2 = self._betas
        scale = self._rate * (1 - beta2**self._steps) ** 0.5 / (1 - beta1**self._steps)
        with torch.no_grad():
            for index, (parameter, gradient) in enumerate(zip(self.parameters, gradients, strict=True)):
                first, second = self._first[index], self._second[index]
                parameter.add_(first / (second.sqrt() + self._epsilon), alpha=scale)
                first.lerp_(gradient.float(), 1 - beta1)
                second.lerp_(gradient.float().square(), 1 - beta2)
                parameter.add_(first / (second.sqrt() + self._epsilon), alpha=-2 * scale)
        for net in self._networks:
            net.refresh()

    def state(self) -> dict[str, Tensor]:
        """The moments by parameter index, and the step count."""
        moments = {f"{i}.first": m for i, m in enumerate(self._first)}
        moments |= {f"{i}.second": m for i, m in enumerate(self._second)}
        return moments | {"steps": torch.tensor(self._steps)}

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Continue from :meth:`state`."""
        for index in range(len(self.parameters)):
            self._first[index].copy_(state[f"{index}.first"])
            self._second[index].copy_(state[f"{index}.second"])
        self._steps = int(state["steps"])

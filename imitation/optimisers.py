"""Optimisers over stacked parameters. One step moves all runs, each by its own gradient alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .networks import StackedMLP


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
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        on_gpu = self.parameters[0].is_cuda
        self._optimiser = torch.optim.AdamW(
            self.parameters, lr=learning_rate, betas=betas, weight_decay=weight_decay,
            fused=True, capturable=on_gpu,
        )  # fmt: skip
        self._prepare()

    def _prepare(self) -> None:
        """Create the moments now, not at the first step, so that a checkpoint always holds them."""
        for parameter in self.parameters:
            self._optimiser.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }

    def set_learning_rate(self, value: float) -> None:
        """Use another learning rate from the next step on."""
        for group in self._optimiser.param_groups:
            group["lr"] = value

    def leaves(self) -> list[Tensor]:
        """What the loss is differentiated by."""
        return [leaf for net in self._networks for leaf in net.leaves()] + self._extra

    def step(self, loss: Tensor) -> None:
        """Move the parameters down the gradient of ``loss`` (a scalar: the sum over runs)."""
        self.apply(torch.autograd.grad(loss, self.leaves()))

    def apply(self, gradients: Sequence[Tensor]) -> None:
        """Move the parameters by given gradients, in the order of :meth:`leaves`."""
        with torch.no_grad():
            stored = [parameter.grad for parameter in self.parameters]
            torch._foreach_copy_(stored, list(gradients))  # pyright: ignore
            self._optimiser.step()
        for net in self._networks:
            net.refresh()

    def state(self) -> dict[str, Tensor]:
        """The moments and step counts, by parameter index."""
        return {
            f"{index}.{name}": value
            for index, parameter in enumerate(self.parameters)
            for name, value in self._optimiser.state[parameter].items()
        }

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Continue from :meth:`state`."""
        for index, parameter in enumerate(self.parameters):
            for name, value in self._optimiser.state[parameter].items():
                value.copy_(state[f"{index}.{name}"])


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

"""Stacked networks: every parameter carries leading axes, so R runs (and M ensemble members) are one product.

Shapes: R runs, M members, B batch, O observation, A action. A layer's weight is (R, in, out) or (R, M, in, out);
`Gaussian actors`, `twin critics` and `discriminators` below are thin uses of one stacked perceptron.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..robots.errors import InputError
from .randomness import Generators

Initialisation = Literal["linear", "orthogonal"]
Activation = Literal["relu", "tanh", "elu", "leaky_relu", "silu", "none"]

_ACTIVATIONS = {
    "relu": torch.relu_,  # in place: a layer's result is needed by nothing else
    "tanh": torch.tanh,
    "elu": nn.functional.elu,
    "leaky_relu": nn.functional.leaky_relu,
    "silu": nn.functional.silu,
    "none": nn.Identity(),  # a linear function, for ablations
}


def activation_of(name: Activation) -> Callable[[Tensor], Tensor]:
    """The function of an activation; relu's works in place."""
    return _ACTIVATIONS[name]


class StackedMLP(nn.Module):
    """Perceptrons, one for each index of the leading axes.

    ``leading`` is (R,) or (R, M) and ``sizes`` the widths from input to output. With ``layer_norm`` each hidden
    layer is normalised before its activation (no learned scale or shift).

    The parameters are float32. :meth:`set_precision` with bfloat16 adds copies for the matrix products of the
    hidden layers, which the optimiser differentiates instead of the parameters and refreshes after each step.
    """

    def __init__(
        self,
        leading: Sequence[int],
        sizes: Sequence[int],
        *,
        layer_norm: bool = False,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.leading = tuple(leading)
        self.sizes = tuple(sizes)
        self.activation: Activation = activation
        self._activation = _ACTIVATIONS[activation]
        self.layer_norm = layer_norm
        shapes = list(zip(self.sizes[:-1], self.sizes[1:], strict=True))
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros(*leading, i, o)) for i, o in shapes)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(*leading, 1, o)) for _, o in shapes)
        self._inner: list[int] = []
        self._copies: list[Tensor] = []
        self._train_copies = False

    def initialise(self, generators: Generators, kind: Initialisation = "linear") -> None:
        """Draw each run's parameters from its own generator.

        ``linear`` is the default of ``torch.nn.Linear`` (uniform in ±1/√fan-in for weights and biases);
        ``orthogonal`` draws orthogonal weights and leaves the biases at the default.
        """
        with torch.no_grad():
            for weight, bias in zip(self.weights, self.biases, strict=True):
                bound = 1 / math.sqrt(weight.shape[-2])
                drawn = generators.uniform(tuple(weight.shape[1:]), -bound, bound)
                if kind == "orthogonal":
                    drawn = _orthogonal(generators.normal(tuple(weight.shape[1:])))
                weight.copy_(drawn)
                bias.copy_(generators.uniform(tuple(bias.shape[1:]), -bound, bound))
        self.refresh()

    def set_precision(self, dtype: torch.dtype, *, train: bool = True) -> None:
        """Multiply the hidden layers' matrices in ``dtype`` (float32 or bfloat16) from now on.

        The first and the last layer stay in float32: bfloat16 has 8 bits, which would make steps of 1 of values
        around 200, and steps of 8 mm of a torso's height. They are narrow, so they cost little. With
        ``train=False`` gradients are still taken at the float32 parameters (through ``exact=True``).
        """
        self._train_copies = train
        layers = len(self.weights)
        inner = [index for index in range(2 * layers) if 0 < index % layers < layers - 1]
        self._inner = inner if dtype != torch.float32 else []
        master = self.master()
        self._copies = list(master)
        for index in self._inner:
            copied = master[index].detach().to(dtype)
            self._copies[index] = copied.requires_grad_(train and master[index].requires_grad)

    def master(self) -> list[nn.Parameter]:
        """The float32 parameters: weights, then biases."""
        return [*self.weights, *self.biases]

    def leaves(self) -> list[Tensor]:
        """The tensors to differentiate: the parameters, with the copies of those that have one in their place."""
        return self._copies if self._inner and self._train_copies else list(self.master())

    def refresh(self) -> None:
        """Bring the computing copies up to the parameters."""
        master = self.master()
        with torch.no_grad():
            for index in self._inner:
                self._copies[index].copy_(master[index])

    def forward(self, inputs: Tensor, *, exact: bool = False) -> Tensor:
        """(*leading, B, in) or broadcastable to it -> float32 (*leading, B, out).

        ``exact`` computes in float32 whatever the precision: for acting, and where second derivatives are taken.
        """
        tensors = self._copies if self._inner and not exact else list(self.master())
        layers = len(self.weights)
        # One flat batch of matrices is what baddbmm takes; twin critics see the same rows twice.
        hidden = inputs.expand(*self.leading, *inputs.shape[-2:]).flatten(0, len(self.leading) - 1)
        for layer in range(layers):
            weight, bias = tensors[layer].flatten(0, -3), tensors[layers + layer].flatten(0, -3)
            hidden = _affine(hidden.to(weight.dtype), weight, bias)
            if layer < layers - 1:
                if self.layer_norm:
                    hidden = nn.functional.layer_norm(hidden, hidden.shape[-1:])
                hidden = self._activation(hidden)
        return hidden.unflatten(0, self.leading)

    def extra_repr(self) -> str:
        """The shape at a glance."""
        return f"leading={self.leading}, sizes={self.sizes}, layer_norm={self.layer_norm}"


def _affine(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Stacked (B, in) @ (in, out) + (1, out), each in the form that is fastest for its shape.

    A float32 product of few columns is an order of magnitude slower than it need be in MKL, and the last layer
    of every network here is one.
    """
    columns = weight.shape[-1]
    if weight.dtype == torch.float32 and columns == 1:
        return (inputs * weight.mT).sum(-1, keepdim=True) + bias
    if weight.dtype == torch.float32 and columns < 32:
        return torch.baddbmm(bias.mT, weight.mT, inputs.mT).mT
    return torch.baddbmm(bias, inputs, weight)


def _orthogonal(normal: Tensor) -> Tensor:
    """Orthogonal matrices from standard normal ones (*leading, in, out), by QR with the signs made unique."""
    tall = normal if normal.shape[-2] >= normal.shape[-1] else normal.mT
    q, r = torch.linalg.qr(tall)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    q = q * torch.diagonal(r, dim1=-2, dim2=-1).sign().unsqueeze(-2)
    return q if normal.shape[-2] >= normal.shape[-1] else q.mT


class Normaliser(nn.Module):
    """Standardises observations with fixed statistics, kept as buffers so that they travel with the networks.

    (x − mean) / std, clipped to ±``limit``. The identity when made with :meth:`identity`. What a view does not show is
    0 for a policy (:meth:`hiding`), whose file has the task's sizes, and no input at all for rewards and the critics of
    SAC and TD3 (:meth:`showing`): noise would be told from it, and a slope taken there.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, limit: float = 10.0) -> None:
        super().__init__()
        self.register_buffer("mean", mean.detach().clone().float())
        self.register_buffer("std", std.detach().clone().float())
        self.limit = limit

    @classmethod
    def identity(cls, size: int) -> Normaliser:
        """Changes nothing."""
        return cls(torch.zeros(size), torch.ones(size), limit=math.inf)

    @classmethod
    def of(cls, *observations: np.ndarray, floor: float = 1e-2, limit: float = 10.0) -> Normaliser:
        """From sets of observations (N, O), each of which counts as much as the others whatever its size.

        ``floor`` bounds the deviation of a dimension that hardly moves in them.
        """
        means = np.stack([rows.mean(0, dtype=np.float64) for rows in observations])
        variances = np.stack([rows.var(0, dtype=np.float64) for rows in observations])
        std = torch.as_tensor(np.sqrt(variances.mean(0) + means.var(0))).clamp(min=floor)
        return cls(torch.as_tensor(means.mean(0)), std, limit)

    def hiding(self, view: np.ndarray | None) -> Normaliser:
        """Another, which is 0 where the mask ``view`` (O,) is 0; nothing is hidden without one.

        It is one of its own in any case: moving it to a device leaves this where it is.
        """
        hidden = torch.zeros_like(self.mean, dtype=torch.bool)
        if view is not None:
            hidden = torch.from_numpy(view == 0).to(self.mean.device)
        # Finite, so that a policy's file still has numbers alone; whatever is divided by it is nothing.
        return Normaliser(self.mean.masked_fill(hidden, 0.0), self.std.masked_fill(hidden, _HIDDEN), self.limit)

    def showing(self, view: np.ndarray | None) -> Normaliser:
        """Another, of those columns alone where the mask ``view`` (O,) is not 0; of all without one."""
        if view is None:
            return self.hiding(None)
        return _Shown(self, torch.from_numpy(view.nonzero()[0]).to(self.mean.device))

    def forward(self, observations: Tensor) -> Tensor:
        """(..., O) -> (..., O)."""
        if math.isinf(self.limit):
            return (observations - self.mean) / self.std
        return ((observations - self.mean) / self.std).clamp(-self.limit, self.limit)


class _Shown(Normaliser):
    """A normaliser of some columns (V,), which leaves the others out: (..., O) -> (..., V)."""

    columns: Tensor

    def __init__(self, whole: Normaliser, columns: Tensor) -> None:
        super().__init__(whole.mean[columns], whole.std[columns], whole.limit)
        self.register_buffer("columns", columns)  # saved, to be told from another view of as many

    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations.index_select(-1, self.columns))


_HIDDEN = 1e30
LOG_STD_RANGE = (-20.0, 2.0)  # as in stable-baselines3's SAC
_SQUASH_EPSILON = 1e-6  # the same, inside the logarithm of the tanh's slope


def load_networks(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Continue with a checkpoint's parameters and buffers, those of ``what``: a reward or an agent.

    Errors: :class:`InputError` when a size differs, as that of what has a view does from earlier versions, or when it
    sees other columns.
    """
    for name, value in module.state_dict().items():
        if name in state and state[name].shape != value.shape:
            raise InputError(
                f"the checkpoint's {what} does not fit this configuration ({name} is {tuple(state[name].shape)} there "
                f"and {tuple(value.shape)} here): restore its config.yaml, or start anew if an earlier version made it"
            )
        if name in state and name.endswith("columns") and not torch.equal(state[name].cpu(), value.cpu()):
            raise InputError(f"the checkpoint's {what} sees other columns: give the view it was trained with")
    module.load_state_dict(dict(state))


class GaussianActor(nn.Module):
    """A tanh-squashed Gaussian policy for each run (SAC's actor).

    The network gives mean and log standard deviation (clamped to [−20, 2]) before the squashing.
    """

    def __init__(self, runs: int, observation_size: int, action_size: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.net = StackedMLP((runs,), (observation_size, *hidden, 2 * action_size))

    def forward(self, observations: Tensor, *, exact: bool = False) -> tuple[Tensor, Tensor]:
        """(R, B, O) -> mean and log standard deviation before squashing, each (R, B, A)."""
        mean, log_std = self.net(observations, exact=exact).chunk(2, dim=-1)
        return mean, log_std.clamp(*LOG_STD_RANGE)

    def sample(self, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (R, B, A) in (−1, 1) made from standard normal ``noise``, and log π (R, B)."""
        mean, log_std = self(observations)
        raw = mean + log_std.exp() * noise
        actions = raw.tanh()
        gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        return actions, (gaussian - (1 - actions.square() + _SQUASH_EPSILON).log()).sum(-1)

    def log_prob(self, observations: Tensor, actions: Tensor, *, edge: float = 1e-5) -> Tensor:
        """log π(a|s) (R, B) of given actions; those at the edge are moved ``edge`` inside, where it is finite."""
        mean, log_std = self(observations)
        inside = actions.clamp(-1 + edge, 1 - edge)
        noise = (inside.atanh() - mean) * (-log_std).exp()
        gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        return (gaussian - (1 - inside.square() + _SQUASH_EPSILON).log()).sum(-1)


class DeterministicActor(nn.Module):
    """A tanh policy without noise for each run (TD3's actor; behaviour cloning by squared error)."""

    def __init__(self, runs: int, observation_size: int, action_size: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.net = StackedMLP((runs,), (observation_size, *hidden, action_size))

    def forward(self, observations: Tensor, *, exact: bool = False) -> Tensor:
        """(R, B, O) -> actions (R, B, A) in (−1, 1)."""
        return self.net(observations, exact=exact).tanh()


class TwinCritic(nn.Module):
    """Two (or ``members``) action values for each run: one stacked network with an ensemble axis."""

    def __init__(
        self,
        runs: int,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int],
        *,
        layer_norm: bool = False,
        members: int = 2,
    ) -> None:
        super().__init__()
        sizes = (observation_size + action_size, *hidden, 1)
        self.net = StackedMLP((runs, members), sizes, layer_norm=layer_norm)

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """(R, B, O) and (R, B, A) -> (R, M, B)."""
        return self.net(torch.cat((observations, actions), -1).unsqueeze(1)).squeeze(-1)


class Discriminator(nn.Module):
    """A score for each run, or one from each of M members: high on expert data, low on the learner's."""

    def __init__(
        self, runs: int, input_size: int, hidden: Sequence[int], members: int = 1, activation: Activation = "relu"
    ) -> None:
        super().__init__()
        self.net = StackedMLP((runs, members), (input_size, *hidden, 1), activation=activation)

    def forward(self, inputs: Tensor, *, exact: bool = False) -> Tensor:
        """(R, B, X) -> (R, M, B)."""
        return self.net(inputs.unsqueeze(1), exact=exact).squeeze(-1)

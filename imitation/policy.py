"""The deployable policy: a directory that contains everything the controller needs."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ..robots import Disturbances, InputError, Spaces, Task, find_task
from .files import new_directory, own_folder, read_json, read_tensors, write_json, write_tensors
from .networks import LOG_STD_RANGE, Activation, Normaliser, StackedMLP

Head = Literal["squashed-gaussian", "deterministic", "clipped-gaussian", "clipped", "chunk", "chunk-diffusion"]
FORMAT_VERSION = 1
_FILES = ("config.json", "model.safetensors")


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
    """What `config.json` says besides the weights.

    ``head`` is how the network's output becomes an action: ``squashed-gaussian`` tanh of a Gaussian whose
    mean and log standard deviation the network gives (SAC), ``deterministic`` tanh of the output (TD3, and
    cloning by squared error), ``clipped-gaussian`` a Gaussian in the environment's units, clipped to its
    bounds, with a standard deviation of its own per action (PPO, TRPO), ``clipped`` the same without noise
    (this suite's PPO, and zips with state-dependent exploration: only the mean is kept); those of
    :class:`~.chunk_policy.ChunkPolicy` are ``chunk`` and ``chunk-diffusion``. ``control_rate`` is in Hz, the
    action bounds are the environment's own, (A,). ``mean_limit`` bounds the mean before the squashing.
    ``training`` says where the policy comes from.
    """

    head: Head
    observation_size: int
    action_size: int
    hidden: tuple[int, ...]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    task: str
    control_rate: float
    activation: Activation = "relu"
    observation_limit: float | None = None
    mean_limit: float | None = None
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])

    @property
    def output_size(self) -> int:
        """Width of the network's last layer."""
        return self.action_size * (2 if self.head == "squashed-gaussian" else 1)

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Self:
        """From the values of `config.json`. Errors: :class:`ValueError` with a clause that says why."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name in values:
            if name not in fields:
                raise ValueError(f"it has an unknown key {name!r}")
        for name, field in fields.items():
            required = field.default is field.default_factory is dataclasses.MISSING
            if name not in values and required:
                raise ValueError(f"it has no {name!r}")
        for name, value in values.items():
            _check_value(name, value, values)
        if any(low >= high for low, high in zip(values["action_low"], values["action_high"], strict=True)):
            raise ValueError("'action_low' must be below 'action_high'")
        arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return cls(**cast(dict[str, Any], arguments))


class Policy(nn.Module):
    """A controller: observations in, actions in the environment's units out.

    The normaliser and the action scale are inside. Make one with :meth:`from_pretrained` or from a training.
    """

    config_class: ClassVar[type[PolicyConfig]] = PolicyConfig
    heads: ClassVar[tuple[Head, ...]] = ("squashed-gaussian", "deterministic", "clipped-gaussian", "clipped")
    _kinds: ClassVar[dict[str, type[Policy]]] = {}  # by their heads
    config: PolicyConfig
    _scale: Tensor
    _offset: Tensor

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        Policy._kinds.update(dict.fromkeys(cls.heads, cls))

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        identity = Normaliser.identity(config.observation_size)
        if config.observation_limit is not None:
            identity.limit = config.observation_limit
        self.normaliser = identity
        self.net = self.make_network()
        self.log_std = nn.Parameter(torch.zeros(config.action_size)) if config.head == "clipped-gaussian" else None
        low, high = torch.tensor(config.action_low), torch.tensor(config.action_high)
        self.register_buffer("_scale", (high - low) / 2, persistent=False)
        self.register_buffer("_offset", (high + low) / 2, persistent=False)
        self._generator = torch.Generator().manual_seed(0)

    def make_network(self) -> nn.Module:
        """The network that the configuration describes."""
        config = self.config
        sizes = (config.observation_size, *config.hidden, config.output_size)
        return StackedMLP((1,), sizes, activation=config.activation)

    @staticmethod
    def described(task: Task, spaces: Spaces, normaliser: Normaliser, training: Mapping[str, Any]) -> dict[str, Any]:
        """What the configuration says of the task, whichever the network is."""
        return {
            "observation_size": spaces.observation_size,
            "action_size": spaces.action_size,
            "action_low": tuple(spaces.action_low.tolist()),
            "action_high": tuple(spaces.action_high.tolist()),
            "task": task.name,
            "control_rate": spaces.control_rate,
            "observation_limit": None if np.isinf(normaliser.limit) else normaliser.limit,
            "training": training,
        }

    @classmethod
    def of_network(
        cls,
        net: StackedMLP,
        run: int,
        normaliser: Normaliser,
        head: Head,
        task: Task,
        spaces: Spaces,
        training: Mapping[str, Any],
    ) -> Self:
        """The policy of one run of a stacked actor network, whose actions are in [−1, 1]."""
        about = cls.described(task, spaces, normaliser, training)
        policy = cls(PolicyConfig(**about, head=head, hidden=net.sizes[1:-1], activation=net.activation))
        own = policy.net
        assert isinstance(own, StackedMLP)
        with torch.no_grad():
            for mine, theirs in zip(own.master(), net.master(), strict=True):
                mine.copy_(theirs[run : run + 1])
            if head in ("clipped-gaussian", "clipped"):  # these heads' outputs are in the environment's units
                own.weights[-1].mul_(policy._scale)
                own.biases[-1].mul_(policy._scale).add_(policy._offset)
        policy.normaliser.load_state_dict(normaliser.state_dict())
        return policy

    @property
    def task(self) -> Task:
        """The task the policy is for, with the disturbances that it was trained under."""
        known = self.config.training.get("disturbances") or {}
        return dataclasses.replace(find_task(self.config.task), disturbances=Disturbances.of_values(known))

    @torch.no_grad()
    def act(self, observations: Tensor, *, deterministic: bool = True) -> Tensor:
        """Actions (..., A) in [−1, 1] for observations (..., O); float32."""
        flat = self.normaliser(observations.reshape(1, -1, self.config.observation_size))
        output = self.net(flat, exact=True)
        if self.config.head == "squashed-gaussian":
            mean, log_std = output.chunk(2, -1)
        else:
            mean, log_std = output, self.log_std
        if self.config.mean_limit is not None:
            mean = mean.clamp(-self.config.mean_limit, self.config.mean_limit)
        if not deterministic:
            if log_std is None:
                raise InputError("this policy is deterministic: it has no distribution to sample from")
            noise = torch.randn(mean.shape, generator=self._generator).to(mean.device)
            mean = mean + log_std.clamp(*LOG_STD_RANGE).exp() * noise
        if self.config.head in ("clipped-gaussian", "clipped"):
            actions = ((mean - self._offset) / self._scale).clamp(-1, 1)
        else:
            actions = mean.tanh()
        return actions.view(*observations.shape[:-1], self.config.action_size)

    def controller(
        self, seeds: Sequence[int] | None = None, *, deterministic: bool = True
    ) -> Callable[[Tensor], Tensor]:
        """What acts in episodes that start together, (..., O) to (..., A): it may remember them, and is for these.

        ``seeds`` are the episodes' own, for policies that draw.
        """
        return functools.partial(self.act, deterministic=deterministic)

    def predict(
        self,
        observation: np.ndarray,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, Any]:
        """Actions in the environment's units: (O,) -> (A,), or (N, O) -> (N, A); as stable-baselines3.

        The policy has no memory, so the returned state is none. Errors: :class:`InputError` for an
        observation of another size or one that is not finite.
        """
        return self._scaled(self.act(self._observations(observation), deterministic=deterministic)), None

    def _observations(self, observation: np.ndarray) -> Tensor:
        """Observations as tensors. Errors: :class:`InputError` for those of another size or not finite."""
        array = np.asarray(observation, np.float32)
        size = self.config.observation_size
        if array.ndim not in (1, 2) or array.shape[-1] != size:
            raise InputError(f"the policy takes observations of {size} numbers, not an array of shape {array.shape}")
        if not np.isfinite(array).all():
            raise InputError("the observation has NaN or infinite numbers")
        return torch.tensor(array, device=self._scale.device)

    def _scaled(self, actions: Tensor) -> np.ndarray:
        """Actions in [−1, 1] in the environment's units, within its bounds."""
        scaled = (actions * self._scale + self._offset).cpu().numpy()
        low = np.asarray(self.config.action_low, np.float32)
        return np.clip(scaled, low, np.asarray(self.config.action_high, np.float32))

    def seed(self, seed: int) -> None:
        """Restart the stream of numbers that sampled actions use."""
        self._generator.manual_seed(seed)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write `config.json` and `model.safetensors`, whole or not at all, in a folder of their own.

        Errors: :class:`InputError` when the disk refuses, and when the folder holds anything else.
        """
        path = own_folder(directory, _FILES, "a policy")
        values = {"format": "understudy-policy", "version": FORMAT_VERSION, **dataclasses.asdict(self.config)}
        with new_directory(path) as folder:
            write_tensors(folder / "model.safetensors", self.state_dict())
            write_json(folder / "config.json", values)

    @classmethod
    def from_pretrained(cls, directory: str | os.PathLike[str]) -> Self:
        """Read a policy directory.

        Errors: :class:`InputError` when it is missing, damaged or of another kind.
        """
        path = Path(directory)
        if not path.is_dir():
            raise InputError(f"{path} is not a policy directory: it does not exist or is a file")
        values = read_json(path / "config.json")
        if values.pop("format", None) != "understudy-policy":
            raise InputError(f"{path / 'config.json'} does not describe a policy of this suite")
        version = values.pop("version", None)
        if version != FORMAT_VERSION:
            raise InputError(f"{path}: policy format version {version} is not {FORMAT_VERSION}: update understudy")
        kind: type[Policy] = Policy._kinds.get(str(values.get("head")), Policy)
        if not issubclass(kind, cls):
            raise InputError(
                f"{path} is a policy with head {values.get('head')!r}: read it with Policy.from_pretrained"
            )
        try:
            config = kind.config_class.of_json(values)
        except ValueError as error:
            raise InputError(f"{path / 'config.json'} is damaged: {error}; restore it from a copy") from error
        weights = path / "model.safetensors"
        tensors = read_tensors(weights)
        with torch.device("meta"):  # the shapes alone: nothing is allocated that a damaged file asks for
            expected = {name: tensor.shape for name, tensor in kind(config).state_dict().items()}
        for name in sorted(expected.keys() | tensors.keys()):
            if name not in expected or name not in tensors:
                what = "has no" if name in expected else "has an unknown"
                raise InputError(f"{weights} is damaged: it {what} tensor {name!r}; restore it from a copy")
            if tensors[name].shape != expected[name]:
                shapes = f"{tuple(tensors[name].shape)} instead of {tuple(expected[name])}"
                raise InputError(f"{weights} does not fit its config.json: tensor {name!r} is {shapes}")
            if not tensors[name].isfinite().all():
                raise InputError(f"{weights}: tensor {name!r} has NaN or infinite numbers, so it cannot control")
        policy = kind(config)
        policy.load_state_dict(tensors)
        if (problem := policy.problem()) is not None:
            raise InputError(f"{path / 'config.json'} is damaged: {problem}; restore it from a copy")
        return policy

    def problem(self) -> str | None:
        """What of its settings does not go with its weights, as a clause; mostly nothing that shapes do not say."""
        return None


def _check_value(name: str, value: Any, values: Mapping[str, Any]) -> None:
    """Check one value of `config.json`. Errors: :class:`ValueError` that says what it must be."""

    def number(item: Any) -> bool:
        return isinstance(item, (int, float)) and not isinstance(item, bool) and math.isfinite(item)

    def count(item: Any) -> bool:
        return isinstance(item, int) and not isinstance(item, bool) and item > 0

    def every(check: Callable[[Any], bool]) -> bool:
        return isinstance(value, list) and all(check(item) for item in cast(list[Any], value))

    match name:
        case "head" | "activation":
            known = get_args(Head if name == "head" else Activation)
            good, what = value in known, f"one of {', '.join(known)}"
        case "solver":
            good, what = value in ("ddim", "dpm"), "ddim or dpm"
        case "observation_size" | "action_size" | "history" | "chunk" | "acts" | "times" | "samples":
            good, what = count(value), "a positive whole number"
        case "goal":
            good, what = value == 0 or count(value), "a whole number"
        case "guidance":
            good, what = number(value) and value >= 0, "a number of at least 0"
        case "place":
            good, what = value is None or every(number), "a list of numbers or null"
        case "hidden":
            good, what = every(count), "a list of positive whole numbers"
        case "action_low" | "action_high":
            good = every(number) and len(value) == values["action_size"]
            what = "a list of as many numbers as there are actions"
        case "control_rate":
            good, what = number(value) and value > 0, "a positive number"
        case "observation_limit" | "mean_limit":
            good, what = value is None or (number(value) and value > 0), "a positive number or null"
        case "training":
            good, what = isinstance(value, dict), "an object"
        case _:
            good, what = isinstance(value, str), "a text"
    if not good:
        raise ValueError(f"{name!r} must be {what}")

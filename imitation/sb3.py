"""Policies out of stable-baselines3 zips, read without unpickling anything.

A zip holds `policy.pth`, tensors by name that torch reads with ``weights_only=True``, and `data`, JSON whose
``:serialized:`` fields are pickles. Those are never touched; the readable text beside them is enough.
SAC, TQC, TD3, DDPG, PPO, A2C and TRPO with a plain perceptron are understood, of any version.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import logging
import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..robots import TASKS, InputError, Spaces, Task
from .networks import Activation, StackedMLP
from .policy import Head, Policy, PolicyConfig

_log = logging.getLogger(__name__)

# A policy is a few megabytes. A file that unpacks to more is broken, or made to fill the memory.
_LARGEST = 256 * 2**20
_ACTIVATIONS: Mapping[str, Activation] = {
    "ReLU": "relu",
    "Tanh": "tanh",
    "ELU": "elu",
    "LeakyReLU": "leaky_relu",
    "SiLU": "silu",
}
_CLIP_MEAN = 2.0  # SAC's default with state-dependent exploration (gSDE)
_UNDERSTOOD = "SAC, TQC, TD3, DDPG, PPO, A2C and TRPO policies with a plain perceptron are understood"

Layer = tuple[Tensor, Tensor]
"""Weight (out, in) and bias (out,)."""


@dataclasses.dataclass(frozen=True)
class _Network:
    """What a zip says about its actor. ``log_std`` (A,) is that of a clipped Gaussian."""

    family: str
    head: Head
    layers: list[Layer]
    activation: Activation
    log_std: Tensor | None = None
    mean_limit: float | None = None

    @property
    def observation_size(self) -> int:
        return self.layers[0][0].shape[1]

    @property
    def action_size(self) -> int:
        return self.layers[-1][0].shape[0] // (2 if self.head == "squashed-gaussian" else 1)


def read_sb3_policy(path: str | os.PathLike[str], task: Task | None = None) -> Policy:
    """The policy in a stable-baselines3 zip, for ``task`` or the one task of the table that its sizes fit.

    With state-dependent exploration (gSDE) only the deterministic actions are kept.
    Errors: :class:`InputError` when the file is damaged, holds something else than a policy of the algorithms
    above, or does not fit the task.
    """
    file = Path(path)
    values, tensors = _read_zip(file)
    network = _network(file, values, tensors)
    task = task or _task_of_sizes(file, network.observation_size, network.action_size)
    spaces = task.spaces
    if (network.observation_size, network.action_size) != (spaces.observation_size, spaces.action_size):
        raise InputError(
            f"{file} takes {network.observation_size} observations and gives {network.action_size} actions, "
            f"but {task.name} has {spaces.observation_size} and {spaces.action_size}: name its own with task="
        )
    if network.head in (
        "clipped-gaussian",
        "clipped",
    ):  # the others' actions are in [−1, 1] whatever the range
        _check_bounds(file, values, spaces, task)
        if values.get("_last_original_obs") is not None:
            _log.warning(
                "%s was trained with VecNormalize, whose pickled statistics are not read: "
                "the policy acts badly unless only rewards were normalised",
                file,
            )
    return _policy(network, task, spaces, file)


def _read_zip(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The values of `data` and the tensors of `policy.pth`."""
    try:
        with zipfile.ZipFile(path) as archive:
            missing = {"data", "policy.pth"} - set(archive.namelist())
            if missing:
                what = " and no ".join(sorted(missing))
                raise InputError(f"{path} is damaged or not a stable-baselines3 zip: it has no {what}")
            _check_size(path, archive, ["data", "policy.pth"])
            data, weights = archive.read("data"), archive.read("policy.pth")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    # zipfile raises NotImplementedError for a compression it does not know, and RuntimeError for an encrypted file.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise InputError(f"{path} is damaged or not a zip file ({error}): get it anew") from error
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: its data is not JSON ({error}): get the file anew") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: its data is not a JSON object: get the file anew")
    return cast(dict[str, Any], values), _read_tensors(path, weights)


def _check_size(path: Path, archive: zipfile.ZipFile, names: list[str]) -> None:
    size = sum(archive.getinfo(name).file_size for name in names)
    if size > _LARGEST:
        raise InputError(f"{path} unpacks to {size / 2**20:.0f} MiB, which no policy does: it is not read")


def _read_tensors(path: Path, weights: bytes) -> dict[str, Tensor]:
    """The actor's tensors: everything but the critics'. Nothing that could run code is unpickled."""
    buffer = io.BytesIO(weights)
    if zipfile.is_zipfile(buffer):
        try:
            with zipfile.ZipFile(buffer) as archive:
                _check_size(path, archive, archive.namelist())
        except zipfile.BadZipFile as error:
            raise InputError(f"{path}: its policy.pth is damaged ({error}): get the file anew") from error
    buffer.seek(0)
    try:
        state = torch.load(buffer, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile file can make torch's reader fail in any way
        reason = str(error).split("\n")[0][:200]
        raise InputError(f"{path}: its policy.pth is damaged or holds more than tensors ({reason})") from error
    if not isinstance(state, dict):
        raise InputError(f"{path}: its policy.pth does not hold tensors by name")
    tensors: dict[str, Tensor] = {}
    for name, tensor in cast(dict[object, object], state).items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise InputError(f"{path}: its policy.pth does not hold tensors by name")
        if name.startswith(("critic.", "critic_target.", "actor_target.", "value_net.")):
            continue
        # Strides can make a huge tensor of a small file.
        dense = tensor.layout is torch.strided and tensor.device.type == "cpu" and tensor.is_floating_point()
        if not dense or tensor.numel() * 4 > _LARGEST or not tensor.isfinite().all():
            raise InputError(f"{path}: tensor {name!r} is not an array of finite numbers, so it cannot control")
        tensors[name] = tensor.detach().float()
    return tensors


def _network(path: Path, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> _Network:
    """Recognise the algorithm by the tensors' names and put its actor into one perceptron."""
    options = values.get("policy_kwargs")
    kwargs = cast(dict[str, Any], options) if isinstance(options, dict) else {}
    _check_standard(path, values)
    if "action_net.weight" in tensors:
        return _actor_critic(path, kwargs, tensors)
    if any(name.startswith("actor.latent_pi.") for name in tensors) or "actor.mu.weight" in tensors:
        return _soft_actor(path, kwargs, tensors)
    if "actor.mu.0.weight" in tensors:
        layers = _take(path, tensors, ["actor.mu"], [])
        return _Network("TD3", "deterministic", layers, _activation(path, kwargs, "relu"))
    raise InputError(f"{path} holds no actor: {_UNDERSTOOD}")


def _soft_actor(path: Path, kwargs: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> _Network:
    """SAC and TQC: a trunk with a head for the mean and, without gSDE, one for the log standard deviation."""
    activation = _activation(path, kwargs, "relu")
    if "actor.log_std.weight" in tensors:
        layers = _take(path, tensors, ["actor.latent_pi"], ["actor.mu", "actor.log_std"])
        return _Network("SAC", "squashed-gaussian", layers, activation)
    clipped = "actor.mu.0.weight" in tensors
    mean = "actor.mu.0" if clipped else "actor.mu"
    rest = {name: tensor for name, tensor in tensors.items() if name != "actor.log_std"}
    limit = kwargs.get("clip_mean", _CLIP_MEAN)
    if not isinstance(limit, (int, float)) or limit < 0:
        raise InputError(f"{path}: its clip_mean is {limit!r} instead of a number")
    layers = _take(path, rest, ["actor.latent_pi"], [mean])
    return _Network("SAC", "deterministic", layers, activation, mean_limit=float(limit) if clipped else None)


def _actor_critic(path: Path, kwargs: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> _Network:
    """PPO, A2C and TRPO; old versions can begin with layers that the value shares."""
    activation = _activation(path, kwargs, "tanh")
    log_std = tensors.get("log_std")
    if log_std is None:
        raise InputError(f"{path} has discrete actions, but the tasks' are continuous")
    rest = {
        name: tensor
        for name, tensor in tensors.items()
        if name != "log_std" and not name.startswith("mlp_extractor.value_net.")
    }
    trunk = ["mlp_extractor.shared_net", "mlp_extractor.policy_net"]
    layers = _take(path, rest, trunk, ["action_net"])
    if log_std.shape == (layers[-1][0].shape[0],):
        return _Network("PPO", "clipped-gaussian", layers, activation, log_std=log_std)
    squashed = kwargs.get("squash_output") is True  # possible with gSDE, whose log_std is a matrix
    return _Network("PPO", "deterministic" if squashed else "clipped", layers, activation)


def _take(path: Path, tensors: Mapping[str, Tensor], trunk: list[str], heads: list[str]) -> list[Layer]:
    """The layers of sequences `<trunk>.<number>` one after the other; the heads side by side as the last one.

    Every tensor must be used, or the network is more than the perceptron that comes out.
    """
    names: list[str] = []
    for prefix in trunk:
        matches = (re.fullmatch(rf"{re.escape(prefix)}\.(\d+)\.weight", name) for name in tensors)
        names += [f"{prefix}.{index}" for index in sorted(int(match[1]) for match in matches if match)]
    used = {f"{name}.{part}" for name in [*names, *heads] for part in ("weight", "bias")}
    for name in sorted(used ^ set(tensors)):
        which = "has no" if name in used else "has an unexpected"
        raise InputError(f"{path} {which} tensor {name!r}: {_UNDERSTOOD}")
    layers = [(tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in names]
    ends = [(tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in heads]
    chains = [[*layers, end] for end in ends] or [layers]
    if not all(_is_chain(chain) for chain in chains) or len({weight.shape for weight, _ in ends}) > 1:
        raise InputError(f"{path}: its layers do not fit one another: {_UNDERSTOOD}")
    if ends:
        layers.append((torch.cat([weight for weight, _ in ends]), torch.cat([bias for _, bias in ends])))
    return layers


def _is_chain(layers: list[Layer]) -> bool:
    """Whether each layer takes what the one before gives."""
    matrices = all(weight.ndim == 2 and bias.shape == weight.shape[:1] for weight, bias in layers)
    return matrices and all(second[0].shape[1] == first[0].shape[0] for first, second in itertools.pairwise(layers))


def _activation(path: Path, kwargs: Mapping[str, Any], default: Activation) -> Activation:
    text = kwargs.get("activation_fn")
    if text is None:
        return default
    match = re.search(r"(\w+)'>$", str(text))
    name = match[1] if match else str(text)
    if name not in _ACTIVATIONS:
        raise InputError(f"{path} uses the activation {name}: {', '.join(_ACTIVATIONS)} are understood")
    return _ACTIVATIONS[name]


def _check_standard(path: Path, values: Mapping[str, Any]) -> None:
    """A policy class of the user's own, or observations in parts, could compute anything from the tensors."""
    module = _text(values, "policy_class", "__module__")
    if module and not module.startswith(("stable_baselines3.", "sb3_contrib.")):
        raise InputError(f"{path} has a policy class of its own, from {module}: {_UNDERSTOOD}")
    kind = _text(values, "observation_space", ":type:")
    if kind and not kind.endswith(".Box'>"):
        raise InputError(f"{path} takes observations of the space {kind}: only arrays of numbers are understood")


def _text(values: Mapping[str, Any], name: str, key: str) -> str:
    """One readable text of an object in `data`, or nothing."""
    described = values.get(name)
    text = cast(dict[str, Any], described).get(key) if isinstance(described, dict) else None
    return text if isinstance(text, str) else ""


def _check_bounds(path: Path, values: Mapping[str, Any], spaces: Spaces, task: Task) -> None:
    """Actions in an environment's units only mean the same where the range is the same."""
    for key, expected in (("low", spaces.action_low), ("high", spaces.action_high)):
        numbers = re.findall(r"[-+]?[\d.]+(?:e[-+]?\d+)?", _text(values, "action_space", key))
        if len(numbers) == len(expected) and not np.allclose(np.array(numbers, float), expected, rtol=1e-4):
            raise InputError(
                f"{path} was trained with actions from {_text(values, 'action_space', 'low')} to "
                f"{_text(values, 'action_space', 'high')}, which is not the range of {task.name}"
            )


def _task_of_sizes(path: Path, observations: int, actions: int) -> Task:
    spaces = [(task, task.spaces) for task in TASKS.values() if not task.needs_robotics]
    fitting = [task for task, s in spaces if (s.observation_size, s.action_size) == (observations, actions)]
    if len(fitting) == 1:
        return fitting[0]
    names = " and ".join(task.name for task in fitting) or "no task of the table"
    raise InputError(
        f"{path} does not name its task, and its {observations} observations and {actions} actions fit "
        f"{names}: name the task with task="
    )


def _policy(network: _Network, task: Task, spaces: Spaces, path: Path) -> Policy:
    config = PolicyConfig(
        head=network.head,
        observation_size=spaces.observation_size,
        action_size=spaces.action_size,
        hidden=tuple(weight.shape[0] for weight, _ in network.layers[:-1]),
        action_low=tuple(spaces.action_low.tolist()),
        action_high=tuple(spaces.action_high.tolist()),
        task=task.name,
        control_rate=spaces.control_rate,
        activation=network.activation,
        mean_limit=network.mean_limit,
        training={"source": "stable-baselines3", "file": path.name, "algorithm": network.family},
    )
    policy = Policy(config)
    layers = len(network.layers)
    assert isinstance(policy.net, StackedMLP)
    parameters = policy.net.master()
    with torch.no_grad():
        for index, (weight, bias) in enumerate(network.layers):
            parameters[index].copy_(weight.T.unsqueeze(0))
            parameters[layers + index].copy_(bias.view(1, 1, -1))
        if policy.log_std is not None and network.log_std is not None:
            policy.log_std.copy_(network.log_std)
    return policy

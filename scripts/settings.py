"""The configuration of `train`: groups made from the dataclasses of the library, composed by hydra."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import itertools
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..imitation import rewards
from ..imitation.agents import PPO, SAC, TD3, TD3BC, IQLearn
from ..imitation.chunk_cloning import ChunkConfig
from ..imitation.dagger import DaggerConfig
from ..imitation.interactive import InteractiveConfig
from ..imitation.offline import CloningConfig
from ..imitation.offline_agent import OfflineConfig
from ..imitation.on_policy import OnPolicyConfig
from ..imitation.parts import Part
from ..imitation.resets import ExpertResets, InitialResets, MixtureResets, OfflineResets, RollInResets
from ..imitation.rounds import RoundsConfig
from ..imitation.worlds import ModelConfig
from ..robots import InputError, find_task, nearest
from .idle import IDLE

_log = logging.getLogger(__name__)
LEARNERS = Path(__file__).parent / "conf" / "learner"

# Settings that stand elsewhere in the configuration: steps at the top, the expert share with the mixture.
_ELSEWHERE = ("steps", "expert_share")


@dataclasses.dataclass(frozen=True)
class Choice:
    """One choice on an axis: what it is in a line, the part that it makes, and its settings' dataclass."""

    about: str
    part: type[Part] | None = None
    config: type[Any] | None = None

    @property
    def settings(self) -> type[Any] | None:
        """The dataclass of its settings; none when it has none."""
        return self.config if self.part is None else getattr(self.part, "Config", None)


AXES: Mapping[str, dict[str, Choice]] = {
    "loop": {
        "interactive": Choice("act and update in turn", config=InteractiveConfig),
        "rounds": Choice("the released code's rounds: act under a frozen reward, then update it", config=RoundsConfig),
        "on_policy": Choice("act for a round, then improve the policy by that round alone", config=OnPolicyConfig),
        "cloning": Choice("regression on the demonstrations alone", config=CloningConfig),
        "chunks": Choice("cloning of chunks of actions, by diffusion or regression", config=ChunkConfig),
        "offline": Choice("an agent with its reward in its critic, on the demonstrations alone", config=OfflineConfig),
        "dagger": Choice("regression on what an expert says where the learner gets to", config=DaggerConfig),
    },
    "agent": {
        "sac": Choice("soft actor-critic", SAC),
        "td3": Choice("twin delayed deterministic policy gradient", TD3),
        "td3_bc": Choice("TD3 with a cloning term on expert rows", TD3BC),
        "iq_learn": Choice("soft actor-critic whose critic's loss is the inverse objective (reward=implicit)", IQLearn),
        "ppo": Choice("proximal policy optimisation, by stable-baselines3 (loop=on_policy)", PPO),
        "none": Choice("no agent (cloning, dagger)"),
    },
    "reward": {
        "gan": Choice("a classifier's logit: softplus, logit or log-sigmoid", rewards.GanReward),
        "airl": Choice(
            "a classifier's shaped reward, the policy's log-probability taken off its logit", rewards.AirlReward
        ),
        "wasserstein": Choice("moment matching: difference of means", rewards.WassersteinReward),
        "score": Choice("score matching: the learner's error in naming noise less the expert's", rewards.ScoreReward),
        "diffusion": Choice("a classifier that is a diffusion model", rewards.DiffusionReward),
        "constant": Choice("1 on the expert's rows, 0 on the learner's", rewards.ConstantReward),
        "implicit": Choice("none but what the agent's critic implies (agent=iq_learn)", rewards.ImplicitReward),
        "task": Choice("the task's true reward, to train experts", rewards.TaskReward),
        "none": Choice("no reward (cloning)"),
    },
    "mixture": {
        "learner": Choice("the learner's own rows"),
        "hybrid": Choice("a scheduled share of expert rows in every batch (mixture.expert_share)"),
        "none": Choice("no replay (cloning)"),
    },
    "resets": {
        "initial": Choice("the task's initial states", InitialResets),
        "expert": Choice("a share of episodes from the expert's states", ExpertResets),
        "offline": Choice("a share of episodes from the states of the offline data", OfflineResets),
        "roll_in": Choice("a share of episodes after a cloned policy has acted for a random time", RollInResets),
        "mixture": Choice("any weighted mixture of these", MixtureResets),
        "none": Choice("no episodes (cloning)"),
    },
    "world": {
        "simulator": Choice("the simulator's own rows"),
        "model": Choice("roll-outs in an ensemble fitted to them, which start where resets= says", config=ModelConfig),
    },
}
OPEN_AXES = ("agent", "reward", "resets")  # those that take a part of the user's by its import path


def _register(axis: str, name: str, choice: Choice) -> None:
    ConfigStore.instance().store(group=axis, name=name, node=_defaults(axis, name, choice))


def _defaults(axis: str, name: str, choice: Choice) -> dict[str, Any]:
    """A choice's settings with their defaults. Errors: :class:`InputError` for a setting that has none."""
    node: dict[str, Any] = {"kind": name}
    for field in dataclasses.fields(choice.settings) if choice.settings is not None else ():
        if field.name in _ELSEWHERE:
            continue
        if field.default is not dataclasses.MISSING:
            node[field.name] = _plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            node[field.name] = _plain(field.default_factory())
        else:
            raise InputError(f"{axis}={name}: its setting {field.name!r} has no default: give it one in its Config")
    if (axis, name) == ("mixture", "hybrid"):
        node["expert_share"] = 0.5
    return node


def find_choice(axis: str, name: str) -> Choice:
    """A choice of an axis by its name, or by the import path of a part of the user's.

    Errors: :class:`InputError` with the nearest names, or why there is no part at the path.
    """
    if name not in AXES[axis] and axis in OPEN_AXES and ":" in name:
        AXES[axis][name] = _imported(axis, name)
        _register(axis, name, AXES[axis][name])
    if name not in AXES[axis]:
        raise InputError(f"unknown {axis} {name!r}: {nearest(name, list(AXES[axis]))}")
    return AXES[axis][name]


def _imported(axis: str, path: str) -> Choice:
    module_name, _, class_name = path.partition(":")
    here = str(Path.cwd())  # where `python -m` looks too, and the installed command does not
    if here not in sys.path:
        sys.path.append(here)
    try:
        part = getattr(importlib.import_module(module_name), class_name, None)
    except Exception as error:  # the module is the user's: whatever is wrong in it is theirs to read
        raise InputError(f"{axis}={path}: {type(error).__name__}: {error}") from error
    if part is None or not callable(getattr(part, "create", None)):
        raise InputError(f"{axis}={path}: {module_name} has no class {class_name!r} with a `create` to make it with")
    return Choice((part.__doc__ or path).strip().splitlines()[0], part)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value  # pyright: ignore[reportUnknownArgumentType]


for _axis, _choices in AXES.items():
    for _name, _choice in _choices.items():
        _register(_axis, _name, _choice)


def prepared(arguments: Sequence[str], *, sweep: bool = False) -> list[str]:
    """Arguments as hydra takes them: `data=x` names the data, whose other settings are `data.…`.

    Paths are quoted, because hydra's grammar has its own ideas of spaces, commas, brackets and equals signs;
    not in a sweep, where a comma separates values.
    """
    paths = {"data": "data.name", "data.name": "data.name", "offline": "offline.name", "offline.name": "offline.name"}
    paths |= {"directory": "directory", "resume": "resume", "start": "start", "expert": "expert"}
    paths |= {"disturbances": "disturbances.file"}
    found: list[str] = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key in paths:
            if not sweep and value not in ("null", "auto"):
                value = "'" + value.replace("'", "\\'") + "'"
            argument = f"{paths[key]}={value}"
        found.append(argument)
    return found


def compose(arguments: Sequence[str]) -> tuple[DictConfig, str]:
    """The configuration for `key=value` arguments, and the name of its learner.

    Errors: :class:`InputError` for an unknown option or choice, with the nearest names.
    """
    overrides = prepared(arguments)
    check_choices(overrides)
    try:
        with hydra.initialize_config_module("understudy.scripts.conf", version_base="1.3"):
            config = hydra.compose("train", overrides, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(_in_a_sentence(error, overrides)) from error
    learner = config.hydra.runtime.choices["learner"]
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    _check_used(config, overrides)
    leave_out_others(config, learner, overrides)
    return config, learner


def _check_used(config: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse settings that would do nothing: those of another part than the chosen one, or idle beside others."""
    given = _given(overrides)
    for group in ("data", "offline"):
        if not isinstance(config[group], DictConfig):
            return  # refused later, with everything else of the wrong kind
    for idle, names, why in IDLE:
        if idle(config) and (found := [given[name] for name in names if name in given]):
            raise InputError(f"{found[0]}: {why}")
    for argument in overrides:
        axis, _, name = argument.partition("=")[0].partition(".")
        if axis not in AXES or not name:
            continue
        kind = str(config[axis]["kind"])
        known = _defaults(axis, kind, find_choice(axis, kind)).keys() - {"kind"}
        if name.partition(".")[0] not in known:
            raise InputError(f"{argument}: {axis}={kind} has no {name!r}: {nearest(name, sorted(known))}")


def leave_out_others(config: DictConfig, learner: str, overrides: Sequence[str]) -> None:
    """Take out settings of other parts than the chosen ones, which presets bring, so that the configuration says
    what is in use; and a preset's settings of its own reward when another is chosen."""
    preset, given = yaml.safe_load((LEARNERS / f"{learner}.yaml").read_text()), _given(overrides)
    own: Mapping[str, Mapping[str, Any]] = {axis: preset.get(axis, {}) for axis in AXES}
    usual = {key: kind for entry in preset["defaults"] if isinstance(entry, dict) for key, kind in entry.items()}
    for axis in AXES:
        kind = str(config[axis]["kind"])
        defaults = _defaults(axis, kind, find_choice(axis, kind))
        if axis == "reward" and kind != usual.get("override /reward", kind):
            for name in own[axis]:
                if name in defaults and f"{axis}.{name}" not in given:
                    config[axis][name] = defaults[name]
        for name in [name for name in config[axis] if name not in defaults]:
            if axis == "agent" and name in own[axis]:
                _log.warning("%s=%s has no %s, which learner=%s sets: left out", axis, kind, name, learner)
            del config[axis][name]


def _given(overrides: Sequence[str]) -> dict[str, str]:
    return {argument.partition("=")[0]: argument for argument in overrides}


def each_of_sweep(arguments: Sequence[str]) -> Iterator[list[str]]:
    """The arguments of each training of a sweep: `seed=1,2` becomes `seed=1`, then `seed=2`."""
    parsed = OverridesParser.create().parse_overrides(list(arguments))
    swept = {o.input_line: list(o.sweep_string_iterator()) for o in parsed if o.is_sweep_override()}
    choices = [[f"{a.partition('=')[0]}={value}" for value in swept[a]] if a in swept else [a] for a in arguments]
    return map(list, itertools.product(*choices))


def check_choices(overrides: Sequence[str]) -> None:
    """Refuse arguments that are not `key=value`, and unknown learners, choices and tasks, before hydra does.

    Errors: :class:`InputError` for the first that cannot be meant.
    """
    learners = [path.stem for path in LEARNERS.glob("*.yaml")]
    seen: set[str] = set()
    for argument in overrides:
        try:
            override = OverridesParser.create().parse_override(argument)
        except HydraException as error:
            raise InputError(f"{argument!r} is not an option: options are written key=value") from error
        key = override.key_or_group
        if override.type is not OverrideType.CHANGE or not key or key.partition(".")[0] == "hydra":
            raise InputError(f"{argument!r} is not an option: options are written key=value, of what --help lists")
        if key in seen:
            raise InputError(f"{key}= is given twice: give it once")
        seen.add(key)
        if key.endswith(".kind"):
            axis = key.removesuffix(".kind")
            raise InputError(f"{argument}: choose by {axis}=, which brings the settings that belong to it")
        values = override.sweep_string_iterator() if override.is_sweep_override() else [override.value()]
        for value in map(str, values if key in AXES or key in ("task", "learner") else ()):
            if key == "task":
                find_task(value)  # so that a sweep does not find out after hours
            elif key != "learner":
                find_choice(key, value)
            elif value not in learners:
                raise InputError(f"unknown learner {value!r}: {nearest(value, learners)}")


def _in_a_sentence(error: Exception, overrides: Sequence[str]) -> str:
    first = str(error).strip().splitlines()[0]
    if first.startswith("Ambiguous value"):
        return "several values for one option make a sweep: add --multirun"
    key = re.search(r"(?:override|append to config|find)\w* '([^']+)'", first)
    if key is None:
        return first
    with hydra.initialize_config_module("understudy.scripts.conf", version_base="1.3"):
        axes = [o for o in overrides if o.partition("=")[0] in ("learner", *AXES)]
        config = hydra.compose("train", axes)
    names = list(_keys(OmegaConf.to_container(config)))  # pyright: ignore[reportArgumentType]
    axis = key[1].partition(".")[0]
    if axis in AXES and str(config[axis]["kind"]) == "none":
        return f"unknown option {key[1]!r}: this learner has no {axis}, its own settings are loop.…, see --cfg job"
    close = difflib.get_close_matches(key[1], names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else "understudy train --help lists the options"
    return f"unknown option {key[1]!r}: {hint}"


def _keys(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in config.items():
        if name == "kind":
            continue
        yield prefix + name
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{name}.")

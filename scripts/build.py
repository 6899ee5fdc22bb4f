"""From a resolved configuration to the objects of the library."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch

from ..datasets import Demonstrations, Parts, Recorded, bundled, check_environment, load, recorded_disturbances, sources
from ..imitation.chunk_cloning import ChunkCloning, ChunkConfig
from ..imitation.dagger import DaggerConfig, DaggerTraining
from ..imitation.fit import FitConfig, References
from ..imitation.interactive import InteractiveConfig, InteractiveTraining
from ..imitation.loading import load_policy
from ..imitation.networks import Normaliser
from ..imitation.offline import BehaviourCloning, CloningConfig
from ..imitation.offline_agent import OfflineConfig, OfflineTraining
from ..imitation.on_policy import OnPolicyConfig, OnPolicyTraining
from ..imitation.parts import Setting
from ..imitation.resets import InitialResets
from ..imitation.rewards import ImplicitReward
from ..imitation.rounds import RoundsConfig, RoundsTraining, check_rounds
from ..imitation.training import Training
from ..robots import Disturbances, InputError, Task, find_task
from .parts import check_fit, make_part, make_world
from .terminal import fetching
from .values import expert_share, settings_of

logger = logging.getLogger(__name__)
Values = Mapping[str, Any]
_MOST_THREADS = 1024
_LARGEST_SEED = 10**9  # seeds of roll-outs are made from it, and have to stay within 63 bits


@dataclasses.dataclass(frozen=True)
class Built:
    """A training and what goes with it; ``notes`` are choices worth a line in the log."""

    training: Training
    fit: FitConfig
    references: References
    device: torch.device
    precision: torch.dtype
    notes: tuple[str, ...]


def build(config: Values, demonstrations: Demonstrations | None = None, offline: Demonstrations | None = None) -> Built:
    """The training that a configuration describes, from given demonstrations and offline data or those that it names.

    Errors: :class:`InputError` for everything that does not fit together, before anything starts.
    """
    device = find_device(_text(config, "device"))
    precision = find_precision(_text(config, "precision"), device)
    for group in ("data", "offline", "disturbances", "evaluation", "checkpoint"):
        if not isinstance(config[group], Mapping):
            raise InputError(f"{group}={config[group]}: its settings are {group}.<name>=, see --help")
    _flag(config, "quiet")
    threads = available_threads() if config["threads"] is None else _count(config, "threads")
    if threads > _MOST_THREADS:
        raise InputError(f"threads={threads}: at most {_MOST_THREADS} are expected")
    torch.set_num_threads(threads)
    task = find_disturbed_task(config)
    for given in (demonstrations, offline):
        if given is not None:
            check_environment(given.source, task, Recorded(given.environment_id, given.environment_keywords))
    if demonstrations is None:
        demonstrations = read_demonstrations(config, task)
    if offline is None:
        offline = read_demonstrations(config, task, "offline")
    first = _count(config, "seed", least=0)
    if first > _LARGEST_SEED:
        raise InputError(f"seed={first}: a number of at most {_LARGEST_SEED} is expected")
    seeds = tuple(first + k for k in range(_count(config, "runs")))
    spaces = task.spaces
    known = [given.observations for given in (demonstrations, offline) if given is not None]
    known = known if _flag(config, "normalise") else []
    normaliser = Normaliser.of(*known) if known else Normaliser.identity(spaces.observation_size)
    setting = Setting(task, spaces, seeds, normaliser, precision, device, demonstrations, offline)
    notes = [f"disturbances: {task.disturbances.to_values()}"] if task.disturbances != Disturbances() else []
    notes += [note for given in (demonstrations, offline) if given is not None for note in _recorded_on(given, task)]
    loop = config["loop"]["kind"]
    if config["expert"] is not None and loop != "dagger":
        raise InputError(f"expert={config['expert']}: only learner=dagger asks an expert")
    build_training = {"cloning": _cloning, "chunks": _cloning, "dagger": _dagger, "offline": _offline}.get(
        loop, _interactive
    )
    training = build_training(config, setting, notes)
    evaluation, checkpoint = config["evaluation"], config["checkpoint"]
    fit = FitConfig(
        evaluate_every=_count(evaluation, "every", "evaluation.every"),
        evaluation_episodes=_count(evaluation, "episodes", "evaluation.episodes"),
        checkpoint_every=_count(checkpoint, "every", "checkpoint.every"),
        log_every=_count(config, "log_every"),
        keep_checkpoints=_count(checkpoint, "keep", "checkpoint.keep"),
    )
    return Built(training, fit, _references(task, demonstrations), device, precision, tuple(notes))


def _recorded_on(recorded: Demonstrations, task: Task) -> list[str]:
    """A note where the robot of a recording is not the training's, which may be meant and may be a slip."""
    suffered = recorded_disturbances(Path(recorded.source), recorded.metadata)
    if suffered in (task.disturbances, Disturbances()):  # an expert without the learner's troubles is the usual case
        return []
    return [f"{recorded.source} was recorded under other disturbances: {suffered.to_values()}"]


def find_disturbed_task(config: Values) -> Task:
    """The task, with the disturbances that its robot suffers from. Errors: :class:`InputError`."""
    given = {name: value for name, value in config["disturbances"].items() if value is not None}
    file = given.pop("file", None)
    if file is not None:
        given = {**Disturbances.of_file(Path(str(file))).to_values(), **given}
    task = dataclasses.replace(find_task(_text(config, "task")), disturbances=Disturbances.of_values(given))
    task.make().close()  # so that a joint or a body that it does not have is known at once
    return task


def find_device(name: str) -> torch.device:
    """`auto` (a GPU if there is one), `cpu` or `cuda[:n]`. Errors: :class:`InputError` when it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device={name}: auto, cpu, cuda or cuda:<number> is expected") from None
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise InputError(f"device={name}: torch sees {torch.cuda.device_count()} CUDA devices here; use device=cpu")
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device={name}: auto, cpu, cuda or cuda:<number> is expected")
    if device.type == "cuda":
        torch.cuda.set_device(device)  # CUDA graphs are recorded on the current device
    return device


def find_precision(name: str, device: torch.device) -> torch.dtype:
    """`float32`, `bfloat16`, or `auto`: bfloat16 where the hardware multiplies it natively."""
    if name == "auto":
        native = torch.cuda.is_bf16_supported() if device.type == "cuda" else _processor_has_bfloat16()
        return torch.bfloat16 if native else torch.float32
    if name not in ("float32", "bfloat16"):
        raise InputError(f"precision={name}: float32, bfloat16 or auto is expected")
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def available_threads() -> int:
    """The cores that this process may use, or fewer if OMP_NUM_THREADS asks for fewer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(asked)) if asked.isdecimal() and int(asked) else cores


def _processor_has_bfloat16() -> bool:
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check is not None and check())


def resolve_data(config: dict[str, Any]) -> None:
    """Put names in their final form: paths whole, disturbances read, the task's bundled demonstrations for `data=auto`.

    Errors: :class:`InputError` when none are bundled.
    """
    for group, key in (("data", "name"), ("offline", "name"), ("", "expert"), ("", "start")):
        values: Any = config.get(group) if group else config
        if isinstance(values, dict) and isinstance(values.get(key), str):  # pyright: ignore[reportUnknownMemberType]
            values[key] = _whole(cast(str, values[key]))
    if isinstance(config.get("disturbances"), dict) and config["disturbances"].get("file"):
        read = find_disturbed_task(config).disturbances.to_values()
        config["disturbances"] = {**config["disturbances"], **read, "file": None}
    if not isinstance(config["data"], dict) or config["data"]["name"] != "auto":
        return
    task = find_task(_text(config, "task"))
    names = sorted(name for name in bundled() if name.startswith(f"{task.name}-"))
    if not names:
        scripts = [f", or record some: understudy record {name} task={task.name} out=<file>" for name in task.scripts]
        raise InputError(f"no demonstrations are bundled for task {task.name}: give data=<file>{''.join(scripts[:1])}")
    expert = f"{task.name}-expert"
    config["data"]["name"] = expert if expert in names else names[0]


def _whole(name: str) -> str:
    """A name, or the names in brackets, with paths that are there in full: a run is resumed from anywhere."""
    if name.startswith("[") and name.endswith("]"):
        return f"[{', '.join(_whole(item.strip()) for item in name[1:-1].split(','))}]"
    tag = next((tag for tag in ("expert:", "offline:", "lerobot:") if name.startswith(tag)), "")
    path = name.removeprefix(tag)
    if tag in ("expert:", "offline:"):
        return tag + _whole(path)
    return tag + str(Path(path).resolve()) if Path(path).exists() else name


def _names(config: Values, which: str) -> list[str]:
    """The sources of the demonstrations or of the offline data; `data=[a, offline:b]` names both."""
    tagged = [] if config["data"]["name"] is None else sources(str(config["data"]["name"]))
    if which == "data":
        return [name for tag, name in tagged if tag == "expert"]
    own = config["offline"]["name"]
    return [name for tag, name in tagged if tag == "offline"] + (
        [] if own is None else [name for _, name in sources(str(own))]
    )


def read_demonstrations(config: Values, task: Task, which: str = "data") -> Demonstrations | None:
    """The demonstrations that a configuration names, or its offline data; none where it names none."""
    data, names = config[which], _names(config, which)
    if not names:
        return None
    chosen = settings_of(Parts, {key: data[key] for key in ("keys", "mask", "done_mode")}, which)
    return load(
        names,
        task,
        weights=_weights(data, which),
        parts=chosen,
        episodes=_optional_count(data, "episodes", which),
        every=_optional_count(data, "every", which),
        rows=_optional_count(data, "rows", which),
        min_return=_optional_number(data, "min_return", which),
        corruption=None if data["corrupt"] is None else str(data["corrupt"]),
        seed=_count(config, "seed", least=0),
        examine=True,
        strict=_flag(config, "strict"),
        progress=fetching(quiet=_flag(config, "quiet")),
    )


def _references(task: Task, demonstrations: Demonstrations | None) -> References:
    random, expert = task.random_return, task.expert_return
    if demonstrations is not None:
        random = demonstrations.random_return if demonstrations.random_return is not None else random
        expert = demonstrations.expert_return if demonstrations.expert_return is not None else expert
        if random is not None and random == expert:
            raise InputError(
                f"{demonstrations.source}: the random and the expert return are both {random:g}, so no score can be "
                "made: correct 'random_return' or 'expert_return' in the file"
            )
        if random is not None and expert is not None and expert < random:  # play, say; scores would run backwards
            logger.warning("%s: returns less than a random policy (%g): no scores", demonstrations.source, random)
            expert = None
    return References(random, expert)


def _cloning(config: Values, setting: Setting, notes: list[str]) -> Training:
    demonstrations = _only_demonstrations(config, setting)
    what = (setting.task, setting.spaces, demonstrations, setting.normaliser, list(setting.seeds))
    where, steps = (setting.device, setting.precision), _count(config, "steps")
    if config["loop"]["kind"] == "chunks":
        return ChunkCloning(settings_of(ChunkConfig, config["loop"], "loop", steps=steps), *what, *where)
    return BehaviourCloning(settings_of(CloningConfig, config["loop"], "loop", steps=steps), *what, *where)


def _dagger(config: Values, setting: Setting, notes: list[str]) -> Training:
    demonstrations = _only_demonstrations(config, setting)
    if config["expert"] is None:
        raise InputError("learner=dagger asks an expert: give expert=<policy or run directory, or an SB3 zip>")
    expert = load_policy(str(config["expert"]), setting.task)
    settings = settings_of(DaggerConfig, config["loop"], "loop", steps=_count(config, "steps"))
    return DaggerTraining(
        settings, setting.task, setting.spaces, demonstrations, expert, setting.normaliser, list(setting.seeds),
        setting.device, setting.precision,
    )  # fmt: skip


def _offline(config: Values, setting: Setting, notes: list[str]) -> Training:
    for axis, usual in (("mixture", "none"), ("resets", "none"), ("world", "simulator")):
        if config[axis]["kind"] != usual:
            raise InputError(
                f"{axis}={config[axis]['kind']}: loop=offline never acts in the task: choose {axis}={usual}"
            )
    if setting.demonstrations is None:
        raise InputError("this learner needs demonstrations: give data=<bundled name or file>")
    setting.demonstrations.need_actions("loop=offline", "choose learner=smiling")
    for axis in ("agent", "reward"):
        if config[axis]["kind"] == "none":
            raise InputError(f"{axis}=none: loop=offline needs an agent whose critic implies its reward")
    agent, reward = make_part("agent", config, setting), make_part("reward", config, setting)
    if not agent.implies_reward or not isinstance(reward, ImplicitReward):
        raise InputError(
            f"agent={config['agent']['kind']} reward={config['reward']['kind']}: loop=offline has no learner's rows "
            "to compare with: choose agent=iq_learn and reward=implicit, or loop=cloning"
        )
    settings = settings_of(OfflineConfig, config["loop"], "loop", steps=_count(config, "steps"))
    return OfflineTraining(
        settings, setting.task, setting.spaces, agent, setting.demonstrations, list(setting.seeds), setting.device
    )


def _only_demonstrations(config: Values, setting: Setting) -> Demonstrations:
    """For loops that regress on expert actions. Errors: :class:`InputError` for any other axis, or without data."""
    unused = [axis for axis in ("agent", "reward", "mixture", "resets") if config[axis]["kind"] != "none"]
    unused += ["world"] if config["world"]["kind"] != "simulator" else []
    if unused:
        chosen = f"{unused[0]}={config[unused[0]]['kind']}"
        raise InputError(f"{chosen}: loop={config['loop']['kind']} regresses on actions and has no {unused[0]}")
    if setting.demonstrations is None:
        raise InputError("this learner needs demonstrations: give data=<bundled name or file>")
    setting.demonstrations.need_actions(f"loop={config['loop']['kind']}", "choose learner=smiling")
    return setting.demonstrations


def _interactive(config: Values, setting: Setting, notes: list[str]) -> Training:
    missing = [axis for axis in ("agent", "reward", "mixture", "resets") if config[axis]["kind"] == "none"]
    if missing:
        raise InputError(f"{missing[0]}=none: loop={config['loop']['kind']} acts in the task and needs a choice")
    imagined = config["world"]["kind"] == "model"
    agent, reward = (make_part(axis, config, setting) for axis in ("agent", "reward"))
    resets = make_part("resets", config, dataclasses.replace(setting, imagined=imagined))
    mixed = config["mixture"]["kind"] == "hybrid"
    share, task = expert_share(config["mixture"]["expert_share"] if mixed else 0.0), setting.task
    hybrid = any(value for _, value in share)
    check_fit(config, agent, reward, hybrid=hybrid)
    if setting.demonstrations is not None:
        on_states = "choose a reward on states (reward.inputs=state or state-next-state)"
        pulled = bool(config["agent"].get("cloning_weight"))
        learns = {
            "mixture": (hybrid, "choose mixture=learner"),
            "agent": (
                getattr(agent, "wants_expert_rows", False),
                "choose agent.cloning_weight=0" if pulled else "choose learner=smiling",
            ),
            "reward": (
                getattr(reward, "sees_actions", True),
                "choose reward=gan reward.inputs=state" if reward.needs_log_prob else on_states,
            ),
        }
        for axis, (does, instead) in learns.items():
            if does:
                setting.demonstrations.need_actions(f"{axis}={config[axis]['kind']}", instead)
    if not task.terminates:
        notes.append(f"early ends: none, {task.name} always lasts {task.horizon} steps")
    else:
        notes.append(f"early ends: {getattr(agent, 'early_ends', reward.early_ends)}")
    notes.append(f"{'starts of roll-outs in the model' if imagined else 'resets'}: {resets.about}")
    steps = _count(config, "steps")
    more: dict[str, Any] = {"steps": steps, "expert_share": share}
    world = make_world(config, setting, reward, resets) if imagined else None
    episodes = resets
    if world is not None:
        episodes = InitialResets() if world.config.episodes == "initial" else make_part("resets", config, setting)
        notes.append(f"resets: {episodes.about}")
    parts = (agent, reward, episodes, setting.demonstrations, list(setting.seeds), setting.device, setting.offline)
    if config["loop"]["kind"] == "on_policy":
        settings = settings_of(OnPolicyConfig, config["loop"], "loop", steps=steps)
        rounds = OnPolicyTraining(settings, task, *parts)
        if rounds.total != steps:
            notes.append(f"steps: {rounds.total} instead of {steps}, whole rounds of {settings.round_steps}")
        return rounds
    if config["loop"]["kind"] == "rounds":
        check_rounds(reward)
        return RoundsTraining(settings_of(RoundsConfig, config["loop"], "loop", **more), task, *parts, world)
    return InteractiveTraining(settings_of(InteractiveConfig, config["loop"], "loop", **more), task, *parts, world)


def _text(values: Values, key: str) -> str:
    return str(values[key])


def _flag(values: Values, key: str) -> bool:
    if not isinstance(values[key], bool):
        raise InputError(f"{key}={values[key]}: true or false is expected")
    return values[key]


def _count(values: Values, key: str, option: str = "", *, least: int = 1) -> int:
    value = values[key]
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    whole = number and value == int(value)
    if not whole or value < least:
        raise InputError(f"{option or key}={value}: a whole number of at least {least} is expected")
    return int(value)


def _optional_count(data: Values, key: str, which: str) -> int | None:
    return None if data[key] is None else _count(data, key, f"{which}.{key}")


def _optional_number(data: Values, key: str, which: str) -> float | None:
    value = data[key]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"{which}.{key}={value}: a number is expected")
    return float(value)


def _weights(data: Values, which: str) -> tuple[int, ...]:
    given: Any = data["weights"] or []
    if not isinstance(given, list) or any(type(item) is not int for item in cast(list[Any], given)):
        raise InputError(f"{which}.weights={given}: a whole number for each source is expected, like [2,1]")
    return tuple(cast(list[int], given))

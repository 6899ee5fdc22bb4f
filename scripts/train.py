"""`understudy train`: from a configuration to a run directory with a controller in it. Wiring only."""

from __future__ import annotations

import datetime
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ..datasets import Demonstrations
from ..imitation.acting import ActingTraining
from ..imitation.checkpoint import load_checkpoint
from ..imitation.files import read_json, write_json, write_text
from ..imitation.fit import Run
from ..imitation.policy import Policy
from ..imitation.run_log import commit, hardware, versions
from ..imitation.training import State
from ..robots import InputError
from .build import Built, build, resolve_data
from .options import run_command
from .report import Reporter, learning_curve, result, table
from .settings import AXES, check_choices, compose, each_of_sweep, leave_out_others, prepared
from .signals import Signals
from .train_help import train_help
from .world_picture import world_picture

FLAGS = ("--help", "--multirun", "-m", "--cfg", "-c", "--resolve")
RESUMABLE = ("steps", "threads", "device", "quiet", "resume", "evaluation", "checkpoint", "log_every")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    arguments = ["strict=true" if argument == "--strict" else argument for argument in arguments]  # as other commands
    if any(argument in ("-h", "--help") for argument in arguments):
        return run_command(lambda: print(train_help()))
    if any(argument.startswith("-") for argument in arguments):
        return run_command(lambda: _through_hydra(arguments))
    return run_command(lambda: train(*compose(arguments), arguments))


def _through_hydra(arguments: list[str]) -> None:
    """Let hydra itself handle `--multirun`, `--cfg` and its other flags."""
    flags = [a for a in arguments if a.startswith("-")]
    for flag in flags:
        if flag.partition("=")[0] not in FLAGS:
            raise InputError(f"train has no {flag}: options are written key=value, the flags are {', '.join(FLAGS)}")
    follows = dict(zip(arguments, [*arguments[1:], ""], strict=True))
    shown = follows.get("--cfg", follows.get("-c"))
    if shown not in (None, "job", "hydra", "all"):
        raise InputError(f"--cfg {shown}: it is followed by job, hydra or all")
    if "--resolve" in flags and not {"--cfg", "-c"} & set(flags):
        raise InputError("--resolve goes with --cfg job")
    plain = prepared(arguments, sweep=True)
    options = [a for a in plain if "=" in a and not a.startswith("-")]
    follows = zip(["", *plain], plain, strict=False)
    strays = [a for flag, a in follows if "=" not in a and not a.startswith("-") and flag not in ("--cfg", "-c")]
    if strays:
        raise InputError(f"{strays[0]!r} is not an option: options are written key=value")
    if any(option.startswith("resume=") for option in options):
        raise InputError(f"resume= goes on with one run: leave {flags[0]} out")
    check_choices(options)
    if "--multirun" in flags or "-m" in flags:
        _check_sweep(options)
    else:
        config, _ = compose(options)
        if shown == "job":  # hydra's own has the settings of parts that are not chosen, too
            print(OmegaConf.to_yaml(config, resolve="--resolve" in flags), end="")
            return

    @hydra.main(version_base="1.3", config_path="pkg://understudy.scripts.conf", config_name="train")
    def job(config: DictConfig) -> None:
        about = HydraConfig.get()
        learner, overrides = str(about.runtime.choices["learner"]), list(about.overrides.task)
        OmegaConf.set_struct(config, False)
        leave_out_others(config, learner, overrides)
        code = run_command(lambda: train(config, learner, overrides))
        if code:
            raise SystemExit(code)

    # Hydra's own parser wants the options in one piece.
    sys.argv = ["understudy train", *options, *(a for a in plain if a not in options)]
    job()


def _check_sweep(options: Sequence[str]) -> None:
    """Make every training of a sweep once, so that what is wrong with the last is known before the first has run."""
    directories: set[str] = set()
    for arguments in each_of_sweep(options):
        config, learner = compose(arguments)
        values = {**resolved(config), "learner": learner}
        check_directory(values)
        if values["directory"] in directories:
            raise InputError(f"directory={values['directory']}: each run of a sweep needs its own: leave it out")
        if values["directory"] is not None:
            directories.add(values["directory"])
        resolve_data(values)
        build(values).training.close()


def train(config: DictConfig, learner: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Train as configured; returns what the last line of the command says.

    Errors: :class:`InputError` for anything that does not fit, before the run directory is made.
    """
    values = resolved(config)
    values["learner"] = learner
    if values["resume"] is None:
        check_directory(values)
        resolve_data(values)
        built = build(values)
        _take_over(values, built)
        summary = _fit(values, _new_directory(values), built, None)
    else:
        path = Path(str(values["resume"]))
        directory, values = stored_configuration(path, values, arguments)
        state = load_checkpoint(path)
        summary = _fit(values, directory, build(values), state)
    print(json.dumps(summary), flush=True)
    return summary


def learn(learner: str, demonstrations: Demonstrations, **options: Any) -> Policy:
    """Train from Python: the policy of the best run, by the measure that chose it or else by the final score.

    ``options`` are those of the command line (``steps=50_000, runs=3``; nested ones by a dictionary,
    ``**{"agent.learning_rate": 1e-4}``). The run directory is made as by the command.
    Errors: :class:`InputError` as the command.
    """
    for name in ("resume", "data"):
        if name in options:
            raise InputError(f"learn({name}=…): it is for the command; learn() trains anew on what it is given")
    given = {"task": demonstrations.task_name, "quiet": True, **options}
    arguments = [f"{name}={_as_text(value)}" for name, value in given.items()]
    config, _ = compose([f"learner={learner}", *arguments])
    values = resolved(config)
    values["learner"] = learner
    episodes = len(demonstrations.starts)
    values["data"] |= {"name": demonstrations.source, "in_memory": True, "episodes": episodes}
    check_directory(values)
    built = build(values, demonstrations)
    _take_over(values, built)
    summary = _fit(values, _new_directory(values), built, None)
    return Policy.from_pretrained(summary["policy"])


def _take_over(values: Mapping[str, Any], built: Built) -> None:
    """Begin with the agent and the reward of the training that ``start=`` names, if it names one."""
    if values["start"] is None:
        return
    source, training = str(values["start"]), built.training
    if not isinstance(training, ActingTraining):
        raise InputError(f"start={source}: learner={values['learner']} has no agent and no reward to begin with")
    training.take_over(load_checkpoint(Path(source)), source)


def resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain values. Errors: :class:`InputError` for a reference to what it does not have."""
    try:
        return OmegaConf.to_container(config, resolve=True)  # pyright: ignore
    except OmegaConfBaseException as error:
        raise InputError(f"an option refers to something that is not there: {str(error).splitlines()[0]}") from error


def _as_text(value: Any) -> str:
    """A value as the command line has it."""
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_as_text, value))}]"  # pyright: ignore[reportUnknownArgumentType]
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _fit(values: dict[str, Any], directory: Path, built: Built, state: State | None) -> dict[str, Any]:
    run = Run(built.training, directory, built.fit, built.references)
    if state is None:
        _describe(directory, values, built)
    else:
        run.resume(state)
        _describe(directory, values, built, resumed_at=run.training.steps)
    reporter = Reporter(run, values, built.notes, quiet=bool(values["quiet"]))
    try:
        with Signals() as signals, reporter:
            progress = run.fit(reporter, signals.received)
        about = {name: values[name] for name in ("learner", "task", "data")} | {"versions": versions()}
        about["disturbances"] = built.training.task.disturbances.to_values()
        if progress.stopped is not None:
            if progress.points:  # before the first evaluation nothing says which run's policy to put forward
                run.save_policies(about)
            raise Stopped(progress.stopped, progress.step, directory, resumable=not values["data"].get("in_memory"))
        policy = run.save_policies(about)
        learning_curve(run, directory / "learning_curve.png", f"{values['learner']} on {values['task']}")
        world_picture(directory)
        summary = result(run, directory, policy)
        write_json(directory / "result.json", summary)
        if not values["quiet"]:
            table(run, directory)
        return summary
    finally:
        built.training.close()


class Stopped(InputError):
    """A signal ended the training; the checkpoint is written. ``code`` is the exit code that shells expect."""

    def __init__(self, name: str, step: int, directory: Path, *, resumable: bool) -> None:
        onward = f"go on with understudy train resume={directory}"
        lost = "it cannot go on, for its demonstrations were in memory"
        super().__init__(f"stopped by {name} at step {step}: {onward if resumable else lost}")
        self.code = 128 + signal.Signals[name].value


def check_directory(values: dict[str, Any]) -> None:
    """Refuse to write into a folder that holds something. Errors: :class:`InputError`."""
    directory = Path(str(values["directory"]))
    if values["directory"] == "":
        raise InputError("directory= is empty: name a folder, or leave it out")
    if values["directory"] is None or not directory.exists():
        return
    if not directory.is_dir() or any(directory.iterdir()):
        raise InputError(f"directory={directory} is a file or not empty: choose another, or go on with resume=")


def _new_directory(values: dict[str, Any]) -> Path:
    """Make the run directory: the one asked for, or one of its own even if two runs start in the same second."""
    given = values["directory"]
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    first = Path("runs") / str(values["task"]) / str(values["learner"]) / stamp
    directory, count = Path(str(given)) if given is not None else first, 1
    while True:
        try:
            directory.mkdir(parents=True, exist_ok=given is not None)
            return directory
        except FileExistsError:
            if given is not None:  # nothing is to be found there by that name, and yet it is taken
                raise InputError(f"directory={given} is a link to nowhere: name a folder") from None
            count += 1
            directory = first.with_name(f"{stamp}-{count}")
        except OSError as error:
            raise InputError(f"cannot write {directory}: {error.strerror}") from error


def stored_configuration(
    path: Path, values: Mapping[str, Any], arguments: Sequence[str] = ()
) -> tuple[Path, dict[str, Any]]:
    """The run directory of a run or checkpoint, and its configuration with what may change on the way."""
    directory = path if (path / "config.yaml").is_file() else path.parent.parent
    if not (directory / "config.yaml").is_file():
        raise InputError(f"resume={path}: it is not a run directory with a config.yaml, nor one of its checkpoints")
    try:
        stored: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(directory / "config.yaml"))  # pyright: ignore
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise InputError(f"{directory / 'config.yaml'} is damaged: restore it from a copy") from error
    if not isinstance(stored, dict) or "learner" not in stored or "data" not in stored:  # pyright: ignore
        raise InputError(f"{directory / 'config.yaml'} is damaged: restore it from a copy")
    stored = completed(stored, directory / "config.yaml")
    if stored["data"].get("in_memory"):
        raise InputError(f"resume={path}: it was trained on demonstrations in memory, which are not in the run")
    for argument in arguments:
        name = argument.lstrip("+~").partition("=")[0].partition(".")[0]
        if name not in RESUMABLE:
            raise InputError(f"{argument}: a resumed run keeps its settings; only {', '.join(RESUMABLE)} may change")
        stored[name] = values[name] if "." not in argument.partition("=")[0] else _merged(stored, values, argument)
    return directory, stored


# What a configuration of before a setting was there meant, where that is not today's default.
_ONCE: Mapping[tuple[str, str, str], Any] = {
    ("agent", "iq_learn", "absorbing"): False,
    ("loop", "chunks", "predicts"): "noise",
}


def completed(stored: dict[str, Any], file: Path) -> dict[str, Any]:
    """A stored configuration with today's defaults where it says nothing.

    Errors: :class:`InputError` when a group of settings is no longer one.
    """
    axes = [f"{axis}={stored[axis]['kind']}" for axis in AXES if "kind" in (stored.get(axis) or {})]
    defaults, _ = compose([f"learner={stored['learner']}", *axes])
    values: dict[str, Any] = OmegaConf.to_container(defaults, resolve=True)  # pyright: ignore
    for (axis, kind, name), meant in _ONCE.items():
        if (stored.get(axis) or {}).get("kind") == kind:
            values[axis][name] = meant

    def merged(default: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        found = {**default, **given}
        for name, value in default.items():
            if isinstance(value, dict) and not isinstance(found[name], dict):
                raise InputError(f"{file} is damaged: {name} is {found[name]!r} where settings belong")
            if isinstance(value, dict):
                found[name] = merged(value, found[name])  # pyright: ignore[reportUnknownArgumentType]
        return found

    return merged(values, stored)


def _merged(stored: dict[str, Any], values: Mapping[str, Any], argument: str) -> Any:
    group, key = argument.partition("=")[0].split(".")[:2]
    return {**stored[group], key: values[group][key]}


def _describe(directory: Path, values: dict[str, Any], built: Built, resumed_at: int | None = None) -> None:
    """Write the resolved configuration, versions and hardware; those of a resumed run are added to the first ones."""
    resolved = {
        **values,
        "device": str(built.device),
        "precision": str(built.precision).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }
    write_text(directory / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(resolved)))
    about = {
        "versions": versions(),
        "commit": commit(),
        "hardware": hardware(built.device),
        "precision": str(built.precision).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "command": ["understudy", *sys.argv[1:]],
        "notes": list(built.notes),
        "references": {"random": built.references.random, "expert": built.references.expert},
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    if resumed_at is not None and (directory / "run.json").is_file():
        first = read_json(directory / "run.json")
        about = {**first, "resumed": [*first.get("resumed", []), {"step": resumed_at, **about}]}
    write_json(directory / "run.json", about)


if __name__ == "__main__":
    raise SystemExit(main())

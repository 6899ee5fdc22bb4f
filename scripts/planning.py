"""From the options of `compare` to a plan: what each learner is trained with on each task, checked before it begins."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..datasets.quality import measure
from ..imitation.adastop import AdaStopConfig
from ..imitation.comparison.matrix import Cell, Learner, Matrix, Plan, labels
from ..imitation.comparison.results import data_of
from ..imitation.comparison.scale import Scale, common_scale
from ..imitation.files import read_json, sha256
from ..robots import InputError, find_task
from .build import build, find_disturbed_task, read_demonstrations, resolve_data
from .settings import LEARNERS, compose
from .train import resolved

if TYPE_CHECKING:
    from .compare import CompareOptions

_OURS = ("task", "learner", "data", "runs", "seed", "directory", "resume", "quiet", "threads")
_NEVER_ACT = ("cloning", "chunks", "offline")  # loops whose steps are updates


def make_plan(options: CompareOptions, common: Sequence[str], old: Plan | None) -> Plan:
    """The plan of the options, with the tasks and learners that the directory has already.

    Errors: :class:`InputError` for a learner, a task or an option that is not known.
    """
    for argument in common:
        if argument.partition("=")[0] in _OURS:
            raise InputError(f"{argument}: compare gives this to each training itself")
    tasks, learners = tuple(find_task(task).name for task in items(options.tasks)), labels(items(options.learners))
    if old is not None:
        known = {learner.label for learner in learners}
        tasks = tuple(dict.fromkeys((*old.tasks, *tasks)))
        learners = (*(learner for learner in old.learners if learner.label not in known), *learners)
    pairs = [(task, learner) for task in tasks for learner in learners]
    made = {(task, learner.label): _options_of(options, common, task, learner) for task, learner in pairs}
    runs = _runs(options.runs)
    if runs is not None and old is not None and old.runs is not None:
        runs = max(runs, old.runs)
    if not 0 < options.level < 1:
        raise InputError(f"level={options.level:g}: a probability between 0 and 1 is expected")
    test = AdaStopConfig(options.group, options.stages, options.level)
    if runs is not None:
        test = AdaStopConfig(runs, 1, options.level)
    return Plan(
        tasks, learners, {pair: given for pair, (given, _) in made.items()},
        {pair: steps for pair, (_, steps) in made.items()}, runs, options.seed, test,
    )  # fmt: skip


def _options_of(
    options: CompareOptions, common: Sequence[str], task: str, learner: Learner
) -> tuple[tuple[str, ...], int]:
    """The options of `train` for a learner on a task, and the steps that they come to."""
    own = {option.partition("=")[0] for option in learner.options}
    shared = [option for option in common if option.partition("=")[0] not in own]
    base = learner.options[0].partition("=")[2]
    preset = _preset(base)
    if preset.get("data", {}).get("name", "auto") is not None:
        shared.append(f"data={_whole(options.data.replace('{task}', task))}")
    acts = not any(preset_loop in _NEVER_ACT for preset_loop in _loops(preset, learner.options))
    if not acts:
        shared = [option for option in shared if not option.startswith("steps=")]
    given = [f"task={task}", *learner.options, *shared, f"threads={options.threads}"]
    try:
        config, _ = compose([*given, "runs=1"])
    except InputError as error:
        raise InputError(f"{learner.label} on {task}: {error}") from error
    return tuple(given), int(config["steps"])


def _preset(learner: str) -> dict[str, Any]:
    path = LEARNERS / f"{learner}.yaml"
    return yaml.safe_load(path.read_text()) if path.is_file() else {}


def _loops(preset: Mapping[str, Any], options: Sequence[str]) -> list[str]:
    """The loop that a learner's own options choose, or else its preset."""
    own = [option.partition("=")[2] for option in options if option.startswith("loop=")]
    usual = [entry["override /loop"] for entry in preset.get("defaults", ()) if "override /loop" in entry]
    return own or usual


def _whole(name: str) -> str:
    return str(Path(name).resolve()) if Path(name).exists() else name


def _runs(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"runs={text}: a whole number of at least 1 is expected, or auto")
    return int(text)


def items(text: str) -> list[str]:
    """The items of a list `[a,b]` or `a,b`; commas within brackets do not separate. Errors: :class:`InputError`."""
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    found, depth = [""], 0
    for letter in inner:
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    found = [item.strip() for item in found]
    if not all(found):
        raise InputError(f"{text!r}: names with commas between them are expected")
    return found


def settings_of_launcher(text: str) -> dict[str, Any]:
    """`a=1,b=x` as names and values. Errors: :class:`InputError`."""
    found: dict[str, Any] = {}
    for item in items(text) if text else ():
        name, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"settings={text}: name=value is expected, not {item!r}")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(
                f"settings={text}: {value!r} is no value for {name}: write it in quotes if it is meant as text"
            ) from None
    return found


def directory_of(options: CompareOptions, common: Sequence[str]) -> Path:
    """The directory that the same comparison always has: by what is compared, not by how many runs or where."""
    compared = [options.tasks, options.learners, options.data, options.seed, options.runs == "auto", sorted(common)]
    return Path("comparisons") / hashlib.sha256(json.dumps(compared).encode()).hexdigest()[:8]


def check_cells(matrix: Matrix) -> None:
    """Make every training of a pair that has not begun once, and take note of what its data are.

    So that what is wrong with the last is known before the first has run. Errors: :class:`InputError`, also where a
    task's demonstrations would be scored on different scales.
    """
    scales: dict[str, list[Scale]] = {}
    for (task, label), given in matrix.plan.options.items():
        if begun := _scales(matrix, matrix.of(task, label)):
            scales.setdefault(task, []).extend(begun)
            continue
        try:
            config, learner = compose([*given, "runs=1", "quiet=true"])
            values = {**resolved(config), "learner": learner}
            resolve_data(values)
            built = build(values)
            built.training.close()
        except InputError as error:
            raise InputError(f"{label} on {task}: {error}") from error
        note_data(matrix, values)
        about = {"references": dataclasses.asdict(built.references)}
        scales.setdefault(task, []).append(Scale.of(label, values, about))
    for task, found in scales.items():
        common_scale(task, found)


def _scales(matrix: Matrix, cells: Sequence[Cell]) -> list[Scale]:
    """What cells are scored by that have written it down. Errors: :class:`InputError` for a damaged one."""
    paths = {cell.name: matrix.path(cell) for cell in cells if (matrix.path(cell) / "run.json").is_file()}
    found: list[Scale] = []
    for name, path in paths.items():
        try:
            values: Any = yaml.safe_load((path / "config.yaml").read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(
                f"{path / 'config.yaml'} is damaged: move the cell away, and it is trained anew"
            ) from error
        found.append(Scale.of(name, values, read_json(path / "run.json")))
    return found


def note_data(matrix: Matrix, values: Mapping[str, Any]) -> None:
    """Keep what the demonstrations of a configuration are, by their name and what is taken of them.

    Errors: :class:`InputError` when they cannot be read.
    """
    data = values["data"]
    if data["name"] is None:
        return
    name = data_of(values)
    known: dict[str, Any] = matrix.about.setdefault("data", {})
    if name in known:
        return
    task = find_disturbed_task(values)
    demonstrations = read_demonstrations(values, task)
    path = Path(str(data["name"]))
    quality = None
    if demonstrations is not None:
        expert = demonstrations.expert_return if demonstrations.expert_return is not None else task.expert_return
        random = demonstrations.random_return if demonstrations.random_return is not None else task.random_return
        quality = measure(demonstrations, random, expert).to_json()
    known[name] = {"task": task.name, "sha256": sha256(path) if path.is_file() else None, "quality": quality}

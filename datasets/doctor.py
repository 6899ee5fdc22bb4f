"""Whether data are what they say: every check over a table, and a report.

What people suffer from (reference/field.md 3.2): boundaries lost or off by one, terminals all zero, next observations
of the next episode, states that are not those of the observations, files swapped, downloads cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..robots import InputError, Task, observation_parts
from .check_columns import check_actions, check_duplicates, check_name, check_numbers, check_rewards
from .check_episodes import check_boundaries, check_ends
from .check_motion import check_motion
from .check_physics import check_physics
from .d4rl_table import DATASETS
from .examined import Examined, examine
from .findings import REFUSED, SEVERITIES, Finding, Report
from .limits import in_words
from .reading import HORIZON, read_table
from .recorded import World, recorded_environment, world_for
from .table import ReadOnce, Table, all_finite

_OTHERWISE = ("kitchen", "antmaze", "maze2d")  # families of D4RL's that tasks here are made for
_OF_TIME = ("lost-ends", "off-by-one", "goes-on", "jump", "too-long", "end-within")


def diagnose(
    table: Table, task: Task | None = None, *, name: str = "", physics: bool = True, every_row: bool = False
) -> Report:
    """Everything that is found in a table.

    ``task`` defaults to the one that the table names; without any, what needs one is left out, and a note says so.
    ``name`` is what the data are called, if that promises a return. ``physics`` tries states and steps in the
    simulator, a sample of them or, with ``every_row``, all.
    """
    table, findings = ReadOnce(table), list[Finding]()
    if table.refused:
        findings.append(Finding("refused", "error", table.refused, REFUSED))
    world, horizon = _world(table, task, findings)
    x, seen = examine(table, world, horizon)
    findings += seen
    known = DATASETS.get(str(table.attributes().get("d4rl")))
    if known is not None and known.fit.task is not None and physics and known.family in _OTHERWISE:
        message = f"{known.name} and the task here: {known.fit.remark}"
        findings.append(Finding("d4rl", "note", message, "training takes them as they are"))
    if x is not None:
        findings += _checks(x, name or table.path.name, physics=physics, every_row=every_row)
    if physics and world is not None and not any(finding.severity == "error" for finding in findings):
        try:
            read_table(table, task)
        except InputError as error:
            findings.append(Finding("refused", "error", str(error), REFUSED))
    order = {severity: index for index, severity in enumerate(SEVERITIES)}
    findings.sort(key=lambda finding: order[finding.severity])
    return Report(str(table.path), table.format, _schema(table), _facts(x, world), tuple(_once(findings)))


def _schema(table: Table) -> dict[str, str]:
    schema: dict[str, str] = {}
    for key in sorted(table.keys()):
        try:
            kind, shape = table.about(key)
        except InputError:  # told of when it is looked at
            schema[key] = "unreadable"
        else:
            schema[key] = f"{in_words(kind)} {shape}"
    return schema


def _checks(x: Examined, name: str, *, physics: bool, every_row: bool) -> list[Finding]:
    findings = [*check_numbers(x), *check_actions(x), *check_rewards(x), *check_duplicates(x)]
    if x.thinned:  # rows do not follow each other, and their sums are no returns
        what = "rows were left out between these, so what follows what is not compared"
        return [*findings, Finding("thinned", "note", what, "training takes them as they are")]
    findings += [*check_boundaries(x), *check_ends(x), *check_motion(x)]
    if not any(finding.check in _OF_TIME for finding in findings):  # otherwise returns are of no episodes
        findings += check_name(x, name)
    fits = x.world is None or x.columns["observations"].shape[1] == x.world.spaces.observation_size
    if physics and fits:
        findings += check_physics(x, every_row=every_row)
    return findings


def _world(table: Table, task: Task | None, findings: list[Finding]) -> tuple[World | None, int | None]:
    try:
        recorded = recorded_environment(table.path, table.attributes())
        if task is None and recorded is None and "task" not in table.attributes():
            what = "it does not say which task it is of, so nothing is compared with one: give task="
            if (known := DATASETS.get(str(table.attributes().get("d4rl")))) is not None:
                what = f"no task here is like it, so nothing is compared with one: {known.fit.remark}"
            findings.append(Finding("no-task", "note", what, "training knows its task"))
            return None, None
        world = world_for(table.path, task, table.attributes(), recorded)
    except InputError as error:
        findings.append(
            Finding("task", "note", str(error), "nothing is compared with a task")
            if task is None
            else Finding("task", "error", str(error), REFUSED)
        )
        return None, None
    limit = table.attributes().get(HORIZON) if recorded is None else recorded.limit
    return world, limit if isinstance(limit, int) else world.task.horizon


def _once(findings: list[Finding]) -> Iterator[Finding]:
    """Of findings of one kind the gravest, which comes first."""
    told: set[str] = set()
    for finding in findings:
        if finding.check in ("no-terminals", "unexpected-terminals") and finding.check in told:
            continue
        told.add(finding.check)
        yield finding


def _facts(x: Examined | None, world: World | None) -> dict[str, Any]:
    """What is known of the whole."""
    facts: dict[str, Any] = {"task": None if world is None else world.task.name}
    if x is None:
        return facts
    facts |= {"rows": len(x), "episodes": len(x.starts)}
    facts["lengths"] = _spread_of(x.lengths.astype(np.float64))
    returns = x.returns
    if returns is not None and np.isfinite(returns).all():
        facts["returns"] = _spread_of(returns)
    facts["terminal_episodes"] = int(x.marked("terminals").sum())
    facts["units"] = _units(x, world)
    return facts


def _units(x: Examined, world: World | None) -> dict[str, str]:
    """In what the numbers are, as far as it is known."""
    told: dict[str, str] = {}
    actions = x.get("actions")
    if actions is not None and all_finite(actions):
        told["actions"] = f"from {actions.min():.3g} to {actions.max():.3g}"
    if world is None:
        return told
    low, high = float(world.spaces.action_low.min()), float(world.spaces.action_high.max())
    bounds = f"in the environment's own units, {low:g} to {high:g}"
    told["actions"] = f"{told['actions']}, {bounds}" if "actions" in told else bounds
    parts, sizes = observation_parts(world.task), world.layout.sizes
    attitudes = ", quaternions" if sizes["qpos"] != sizes["qvel"] else ""
    units = {"positions": f" (m, rad{attitudes})", "velocities": " (m/s, rad/s)"}
    named = [f"{name} {part.start}:{part.stop}{units.get(name, '')}" for name, part in parts.items()]
    told["observations"] = ", ".join(named) or "as the task's environment has them"
    told["time"] = f"{world.spaces.control_rate:g} steps a second"
    return told


def _spread_of(values: np.ndarray) -> dict[str, float]:
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
    }

"""What trainings from elsewhere are called in a comparison: the same way on every task, and no two alike on one."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path

from ..imitation.comparison.matrix import Plan

# What a task, a machine or a comparison decides, and not a learner.
_NOT_THE_LEARNERS = ("task", "learner", "steps", "threads", "data", "evaluation", "checkpoint", "log_every")


@dataclasses.dataclass(frozen=True)
class Trained:
    """A training by its task, its learner's name, and all options of its cell."""

    task: str
    learner: str
    options: tuple[str, ...]

    @property
    def key(self) -> frozenset[str]:
        """The options that decide what comes out; data go by the name of their file, wherever it lies."""
        return frozenset(_by_name(option) for option in self.options if not option.startswith("threads="))

    @property
    def without_steps(self) -> frozenset[str]:
        """The key but for how long it was trained."""
        return frozenset(option for option in self.key if not option.startswith("steps="))

    @property
    def method(self) -> frozenset[str]:
        """The options that are the learner's own."""
        return frozenset(o for o in self.key if o.partition("=")[0].partition(".")[0] not in _NOT_THE_LEARNERS)


def labelled(
    runs: Sequence[Trained], old: Plan | None, stopped: Collection[tuple[str, str]] = frozenset()
) -> list[str]:
    """A label for each: that of the plan for the same learner, or else its name and what sets it apart from others.

    That is the options of its own that others of its name do not have, and on one task all that differ. Steps are no
    difference to what was ``stopped`` (task, label): it may have been given fewer or more to go on with.
    """
    known = [] if old is None else [(_trained(options), label) for (_, label), options in old.options.items()]
    found: list[str] = []
    for run in runs:
        same = [label for other, label in known if other.key == run.key
                or ((run.task, label) in stopped and other.without_steps == run.without_steps)]  # fmt: skip
        found.append(same[0] if same else _new_label(run, [*runs, *(other for other, _ in known)], known))
    return found


def _new_label(run: Trained, everyone: Sequence[Trained], known: Sequence[tuple[Trained, str]]) -> str:
    namesakes = [other for other in everyone if other.learner == run.learner]
    own = sorted(run.method - frozenset.intersection(*(other.method for other in namesakes)))
    likes = [label for other, label in known if (other.learner, other.method) == (run.learner, run.method)]
    rivals = [other for other in namesakes if (other.task, other.method) == (run.task, run.method)]
    apart = sorted(run.key - frozenset.intersection(*(other.key for other in rivals)))
    return "+".join([likes[0] if likes else "+".join([run.learner, *own]), *apart])


def _trained(options: Sequence[str]) -> Trained:
    given = dict(option.split("=", 1) for option in options)
    return Trained(given["task"], given["learner"], tuple(options))


def _by_name(option: str) -> str:
    name, equals, value = option.partition("=")
    return f"{name}={Path(value).name}" if equals and name.partition(".")[0] in ("data", "offline") else option

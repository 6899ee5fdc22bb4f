"""What the checks of `understudy diagnose` have in common."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..robots import InputError
from .terminal import progress

if TYPE_CHECKING:
    from ..imitation.acting import ActingTraining
    from ..imitation.training import State


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """A table, what it says in a sentence, and what was asked for."""

    title: str
    verdict: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    values: dict[str, Any]


def check_writable(directory: Path) -> None:
    """Try whether a file can be written to a folder, which is left as it was or not there.

    Errors: :class:`InputError` when it cannot.
    """
    made: list[Path] = []
    try:
        made = [path for path in (directory, *directory.parents) if not path.exists()]
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except (FileExistsError, NotADirectoryError):
        raise InputError(
            f"directory={directory} is a file, lies in one or is a link to nowhere: name a folder"
        ) from None
    except OSError as error:
        raise InputError(f"directory={directory} cannot be written to: {error.strerror}: name another") from error
    finally:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


def last_state(run: Path) -> State:
    """The last state of a run's training."""
    from ..imitation.checkpoint import load_checkpoint

    state = load_checkpoint(run)
    return dataclasses.replace(state, values=state.values["training"])


def learned_training(run: Path, threads: int, *, steps: int | None = None) -> tuple[ActingTraining, dict[str, Any]]:
    """The training of a run directory, without its state, and its configuration. It ends at ``steps``, if given.

    Errors: :class:`InputError` when its reward is not learned.
    """
    from ..imitation.acting import ActingTraining
    from .build import build
    from .train import stored_configuration

    if not (run / "checkpoints").is_dir():
        raise InputError(f"{run} has no checkpoints: give the directory of a run with a learned reward")
    _, values = stored_configuration(run, {})
    values |= {"threads": threads, "quiet": True, "steps": values["steps"] if steps is None else steps}
    training = build(values).training
    if not isinstance(training, ActingTraining) or not training.reward.learned:
        training.close()
        raise InputError(f"{run}: learner={values['learner']} has no learned reward")
    return training, values


def train_through(training: Any, title: str, *, quiet: bool) -> None:
    """Train to the end, with a bar."""
    with progress(title, training.total, quiet=quiet) as advance:
        while training.steps < training.total:
            before = training.steps
            training.advance()
            advance(training.steps - before)


def mean_returns(training: Any, episodes: int) -> np.ndarray:
    """Mean returns (R,) of the deployed policies."""
    from ..imitation.evaluation import FIRST_SEED, evaluate

    controller = training.controller(range(FIRST_SEED, FIRST_SEED + episodes))
    found = evaluate(controller, training.task, len(training.seeds), episodes, device=training.device)
    return found.returns.mean(1)

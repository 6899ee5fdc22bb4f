"""`understudy diagnose restless`: how much a learned reward moves between its updates. Wiring only."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from .diagnosing import Diagnosis, last_state, learned_training
from .options import option
from .terminal import progress

_COLUMNS = {
    "neighbours": "between neighbouring updates",
    "all": "over all of them",
    "tens": "of the means of ten each",
}


@dataclasses.dataclass(frozen=True)
class RestlessOptions:
    """Go on with a training from its last checkpoint, and ask its reward about the same rows after each of its updates.

    A reward that trembles moves much between neighbouring updates and no more over all of them, and the means of ten
    move little; one that drifts moves little at a step and on. The run itself stays as it is.
    """

    run: Path = option("the run directory of a learner with a learned reward")  # noqa: RUF009
    updates: int = option("updates of the reward to follow", 100, at_least=20)
    steps: int = option("environment steps that the training may go on for, at most", 20_000, at_least=1)
    rows: int = option("rows of the expert's and as many of the learner's newest", 256, at_least=2)
    threads: int = option("processor threads", 1, at_least=1)
    directory: Path | None = option(  # noqa: RUF009
        "where diagnosis.json goes; nowhere when left out", None
    )
    quiet: bool = option("print nothing but the line of JSON", False)


def restless(options: RestlessOptions) -> Diagnosis:
    """Errors: :class:`InputError` for a run without a learned reward or without checkpoints."""
    from ..imitation.restlessness import follow

    state = last_state(options.run)
    begin = int(state.values["clock"]["steps"])
    training, values = learned_training(options.run, options.threads, steps=begin + options.steps)
    try:
        training.set_state(state)
        with progress("updates of the reward", options.updates, quiet=options.quiet) as advance:
            found = follow(training, options.updates, options.rows, advance)
        end = training.steps
    finally:
        training.close()
    where = f"{values['learner']} on {values['task']}"
    measured = {name: getattr(found, name) for name in _COLUMNS}
    means = {name: float(np.mean(numbers)) for name, numbers in measured.items()}
    rows = [
        (f"run {run}", *(f"{numbers[run]:.2g}" for numbers in measured.values()))
        for run in range(len(found.neighbours))
    ]
    return Diagnosis(
        f"How restless the reward of {where} is",
        f"From step {begin:,} to {end:,} the reward of {where} moved by {means['neighbours']:.2g} of the variance "
        f"between rows from one update to the next, by {means['all']:.2g} over all {options.updates}, and by "
        f"{means['tens']:.2g} in means of ten (means over runs).",
        f"The variance over time of the rewards of the same {2 * options.rows} rows, in units of the variance between "
        f"these rows, over {options.updates} updates of the reward.",
        ("run", *_COLUMNS.values()), tuple(rows),
        {name: numbers.tolist() for name, numbers in measured.items()},
    )  # fmt: skip

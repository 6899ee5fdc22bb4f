"""`understudy deploy POLICY grid`: returns over delays, noise and pushes, in lockstep, as CSV and a picture."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..robots import InputError, Task, find_task
from .options import option
from .terminal import progress


@dataclasses.dataclass(frozen=True)
class GridOptions:
    """Map what a policy returns under delays, noise and pushes, every one with every other.

    Played in lockstep, which is the simulator of evaluations: the same starts everywhere, and delays rounded to control
    periods. Writes grid.csv and grid.png. The last line is JSON.
    """

    policy: str = option("a policy or run directory (its chosen policy), a stable-baselines3 zip, or a bundled one")
    delay: tuple[float, ...] = option("seconds until an observation arrives", (0.0, 0.01, 0.02, 0.04, 0.06), at_least=0)
    noise: tuple[float, ...] = option("deviations of noise on what is measured", (0.0, 0.01, 0.02, 0.05), at_least=0)
    push: tuple[float, ...] = option("m/s of pushes, one a second or so", (0.0,), at_least=0)
    episodes: int = option("episodes in every place", 10, at_least=1)
    seed: int = option("seed of the first episode; each further one has the next", 10_000_000, at_least=0)
    task: str | None = option("the task; a policy knows its own, a zip only if one task alone has its sizes", None)
    out: Path = option("the folder to write to", Path("grid"))  # noqa: RUF009
    overwrite: bool = option("replace its files if they exist", False)
    quiet: bool = option("print nothing but the line of JSON", False)


def grid(options: GridOptions) -> dict[str, Any]:
    """Play everywhere; returns what the last line says. Errors: :class:`InputError`."""
    import torch

    from ..imitation.evaluation import evaluate
    from ..imitation.files import write_bytes, write_text
    from ..imitation.loading import load_policy

    started = time.monotonic()
    if (options.out / "grid.csv").exists() and not options.overwrite:
        raise InputError(f"out={options.out} has a grid already: choose another name or add overwrite=true")
    torch.set_num_threads(1)
    policy = load_policy(options.policy, None if options.task is None else find_task(options.task))
    places = list(itertools.product(options.push, options.noise, options.delay))
    seeds = range(options.seed, options.seed + options.episodes)
    returns = np.zeros((len(options.push), len(options.noise), len(options.delay), options.episodes))
    with progress(f"playing {policy.config.task} in {len(places)} places", len(places), quiet=options.quiet) as advance:
        for index, place in zip(np.ndindex(returns.shape[:3]), places, strict=True):
            task = _disturbed(policy.task, *place)
            played = evaluate(policy.controller(list(seeds)), task, 1, options.episodes, seed=options.seed)
            returns[index] = played.returns[0]
            advance(1)
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["push", "noise", "delay", "return", "std", "episodes"])
    for index, place in zip(np.ndindex(returns.shape[:3]), places, strict=True):
        writer.writerow([*place, round(returns[index].mean(), 3), round(returns[index].std(), 3), options.episodes])
    write_text(options.out / "grid.csv", lines.getvalue())
    write_bytes(options.out / "grid.png", _picture(options, policy.config.task, returns.mean(-1)))
    result = {
        "policy": options.policy,
        "task": policy.config.task,
        "push": list(options.push),
        "noise": list(options.noise),
        "delay": list(options.delay),
        "return": returns.mean(-1).round(2).tolist(),
        "folder": str(options.out),
        "seconds": round(time.monotonic() - started, 1),
    }
    if not options.quiet:
        _show(options, returns.mean(-1))
    print(json.dumps(result), flush=True)
    return result


def _disturbed(task: Task, push: float, noise: float, delay: float) -> Task:
    changes: Any = {"push": push, "noise": noise, "observation_delay": delay}
    return dataclasses.replace(task, disturbances=dataclasses.replace(task.disturbances, **changes))


def _show(options: GridOptions, means: np.ndarray) -> None:
    for push, surface in zip(options.push, means, strict=True):
        print(f"return, push {push:g} m/s; delay in ms to the right, noise down")
        print(" " * 8 + "".join(f"{1000 * delay:9g}" for delay in options.delay))
        for noise, row in zip(options.noise, surface, strict=True):
            print(f"{noise:8g}" + "".join(f"{value:9.1f}" for value in row))


def _picture(options: GridOptions, task: str, means: np.ndarray) -> bytes:
    """A map for every push, all on one scale of colours."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1 + 4 * len(means), 3.6), layout="constrained")
    shown: Any = None
    for column, (push, surface) in enumerate(zip(options.push, means, strict=True)):
        axes = figure.add_subplot(1, len(means), column + 1)
        shown = axes.imshow(surface, vmin=min(0.0, means.min()), vmax=means.max(), origin="lower", aspect="auto")
        axes.set_xticks(range(len(options.delay)), [f"{1000 * delay:g}" for delay in options.delay])
        axes.set_yticks(range(len(options.noise)), [f"{noise:g}" for noise in options.noise])
        axes.set(xlabel="delay (ms)", ylabel="noise", title=f"{task}, push {push:g} m/s")
        for (row, place), value in np.ndenumerate(surface):
            axes.text(place, row, f"{value:.0f}", ha="center", va="center", color="white", fontsize=8)
    figure.colorbar(shown, ax=figure.axes, label="return")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    return image.getvalue()

"""The picture of a learned world: how far it is off, how sure it is, and whether the policy exploits it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..imitation.files import write_bytes

Curve = tuple[np.ndarray, np.ndarray]  # steps, and the mean over runs there


def world_picture(directory: Path) -> Path | None:
    """Draw `world.png` from a run's metrics; none where its world was not learned."""
    curves = _curves(directory / "metrics.csv")
    if "model_coverage" not in curves:
        return None
    import matplotlib  # slow to import, and only needed here

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (errors, calibration, returns) = pyplot.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    styles = {"1": ":", "5": "--", "25": "-"}
    for name, curve in curves.items():
        found = re.fullmatch(r"open_loop_(\d+)_(\w+)", name)
        if found is not None:
            colour = f"C{('visited', 'initial', 'expert').index(found[2])}"
            steps = "step" if found[1] == "1" else "steps"
            errors.plot(*curve, styles[found[1]], color=colour, marker=".", label=f"{found[1]} {steps}, {found[2]}")
        if name.startswith("return_"):
            what, where = name.removeprefix("return_").split("_", 1)
            colour = f"C{('visited', 'initial', 'expert').index(where)}"
            returns.plot(*curve, "-" if what == "real" else "--", color=colour, marker=".", label=f"{what}, {where}")
    calibration.plot(*curves["model_coverage"], marker=".", label="within the 95 % interval")
    calibration.plot(*curves["model_variance_ratio"], marker=".", label="squared error / variance")
    calibration.axhline(0.95, color="grey", linewidth=1, linestyle=":")
    calibration.axhline(1.0, color="grey", linewidth=1, linestyle="--")
    errors.set_yscale("log")
    for axes, title in (
        (errors, "open-loop error, in deviations of the states"),
        (calibration, "calibration on held-out rows"),
        (returns, "learned return within 25 steps"),
    ):
        axes.set_title(title)
        axes.set_xlabel("steps in the simulator")
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize="small")
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110)
    pyplot.close(figure)
    path = directory / "world.png"
    write_bytes(path, picture.getvalue())
    return path


def _curves(path: Path) -> Mapping[str, Curve]:
    """Every metric of a run's log, the mean over runs where it was logged."""
    values: dict[str, dict[int, list[float]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if name not in ("step", "run") and value:
                    values.setdefault(name, {}).setdefault(int(row["step"]), []).append(float(value))
    return {
        name: (np.array(list(found)), np.array([np.mean(each) for each in found.values()]))
        for name, found in values.items()
    }

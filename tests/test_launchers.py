"""Where the cells of a comparison are trained: it comes to the same."""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import pytest
from comparisons import SMALL, arguments, outcome
from conftest import make_demonstrations

from understudy.datasets import write_d4rl
from understudy.robots import InputError
from understudy.scripts.compare import main
from understudy.scripts.launchers import RayLauncher, SlurmLauncher, make_launcher


def ends_with(job: object, seconds: float = 60) -> int | None:
    begun = time.monotonic()
    while (code := job.code()) is None:  # pyright: ignore[reportAttributeAccessIssue]
        assert time.monotonic() - begun < seconds
        time.sleep(0.1)
    return code


PRINTS = [sys.executable, "-c", "print('hello'); raise SystemExit(3)"]


def test_submitit_starts_cells(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    launcher = SlurmLauncher(tmp_path / "jobs", 1, 2, {"timeout_min": 5}, cluster="local")
    assert ends_with(launcher.start(PRINTS, tmp_path / "log")) == 3
    assert (tmp_path / "log").read_text() == "hello\n"


@pytest.mark.slow
def test_a_ray_cluster_starts_cells(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    launcher = RayLauncher(1, 2, None)
    try:
        assert ends_with(launcher.start(PRINTS, tmp_path / "log")) == 3
        assert (tmp_path / "log").read_text() == "hello\n"
    finally:
        launcher.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "options"), [("submitit", ["launcher=slurm", "settings=cluster=local"]), ("ray", ["launcher=ray"])]
)
def test_a_comparison_comes_to_the_same_wherever_it_is_trained(
    package: str, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(package)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray lets everything else of the machine go first
    for task in ("hopper", "walker2d"):
        write_d4rl(tmp_path / f"{task}.hdf5", make_demonstrations(task_name=task))
    acting = "sqil+steps=300+agent.hidden=[16,16]+loop.random_steps=60+loop.update_every=20+loop.select_every=50"
    data = tmp_path / "{task}.hdf5"
    here, there = tmp_path / "here", tmp_path / "there"
    for directory, more in ((here, []), (there, options)):
        asked = ["tasks=[hopper,walker2d]", f"learners=[{SMALL},{acting}+loop.batch_size=16]", *more]
        assert main(arguments(directory, data, *asked, "processes=2")) == 0
    assert len(outcome(here)) == 4
    assert outcome(there) == outcome(here)
    tables = {path.name: path.read_text() for path in (here / "report" / "tables").glob("*.csv")}
    others = {path.name: path.read_text() for path in (there / "report" / "tables").glob("*.csv")}
    timed = ("steps.csv", "cells.csv")  # with hours, and hashes of files that have them
    assert {n: t for n, t in others.items() if n not in timed} == {n: t for n, t in tables.items() if n not in timed}
    one, two = ([row[:-2] for row in csv.reader(each["steps.csv"].splitlines())] for each in (tables, others))
    assert one == two
    if package == "submitit":
        assert len(list((there / "jobs").glob("*_submitted.pkl"))) == 4, "each cell was a job"


def test_settings_of_launchers_are_checked(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    pytest.importorskip("ray")
    for kind, settings, said in (("slurm", {"cluster": "moon"}, "cluster=moon"), ("ray", {"cores": 3}, "cores")):
        with pytest.raises(InputError, match=said):
            make_launcher(kind, tmp_path, threads=1, processes=None, settings=settings)


def test_a_launcher_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for kind in ("slurm", "ray"):
        with pytest.raises(InputError, match=r"understudy\[sweep\]"):
            make_launcher(kind, tmp_path, threads=1, processes=None, settings={})

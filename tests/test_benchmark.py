"""The benchmark measures what it says and reports it; nothing here depends on how fast the machine is."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from understudy.scripts import benchmark_data
from understudy.scripts.benchmark import main


def test_the_last_line_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sac", "runs=2", "updates=1", "blocks=3", "threads=1", "device=cpu"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 1 + 2 + 1
    result = json.loads(lines[-1])
    assert result["benchmark"] == "sac"
    assert [r["precision"] for r in result["results"]] == ["float32", "bfloat16"]
    for row in result["results"]:
        assert row["runs"] == 2
        assert row["low"] <= row["ratio"] <= row["high"]
        assert row["sb3"] > 0
        assert row["ours"] > 0
    assert result["versions"]["torch"]


def test_what_rewards_cost(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["rewards", "runs=2", "updates=1", "blocks=3", "threads=1", "precision=float32", "device=cpu"]
    assert main(options) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    result = json.loads(lines[-1])
    assert result["benchmark"] == "rewards"
    names = ["gan", "wasserstein", "score", "score at 4 levels", "score at 32 levels", "diffusion"]
    assert [row["what"] for row in result["results"]] == names
    assert len(lines) == 1 + 6 + 1
    for row in result["results"]:
        assert row["low"] <= row["ratio"] <= row["high"]
        assert row["task"] > 0
        assert row["learned"] > 0


@pytest.mark.slow
def test_what_a_learned_world_costs(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["world", "runs=1", "updates=1", "blocks=1", "threads=1", "precision=float32", "device=cpu"]
    assert main(options) == 0
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    names = [
        "5 x 5",
        "1 x 5",
        "10 x 5",
        "5 x 1",
        "5 x 25",
        "fit of 5 to 2000",
        "fit of 1 to 2000",
        "fit of 10 to 2000",
        "fit of 5 to 10000",
    ]
    assert [row["what"] for row in result["results"]] == names
    assert all(row["outside"] > 0 and row["inside"] > 0 for row in result["results"])


@pytest.mark.parametrize("compressed", ["true", "false"])
def test_loading_data(
    compressed: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def here(work: Callable[[Path], object], path: Path, *, traced: bool = False) -> float:
        try:
            return benchmark_data._measured(work, path, traced)
        finally:
            tracemalloc.stop()

    monkeypatch.setattr(benchmark_data, "_run", here)  # in this process, which has everything imported
    assert main(["data", "rows=[2000,3000]", "blocks=2", f"compressed={compressed}"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    result = json.loads(lines[-1])
    assert [row["rows"] for row in result["results"]] == [2000, 3000]
    assert len(lines) == 2 * 4 + 1
    for row in result["results"]:
        for side in (row["ours"], row["checked"]):
            assert side["low"] <= side["ratio"] <= side["high"]
            assert side["memory"] > 1
        assert row["by_row"] > 0
    assert not caplog.records  # its files are sound


def test_quiet_prints_only_json(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["sac", "runs=1", "updates=1", "blocks=1", "threads=1", "precision=float32", "device=cpu", "quiet=true"]
    assert main(options) == 0
    assert len(capsys.readouterr().out.strip().splitlines()) == 1


@pytest.mark.parametrize("bad", ["ppo", "runs=0", "precision=float8", "device=tpu", "thread=1"])
def test_bad_options_are_one_sentence(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([bad]) == 2
    assert capsys.readouterr().err.count("\n") == 1

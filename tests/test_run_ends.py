"""Where a run's folder and its end are not what they seem."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_train_command import options, refuse

from understudy.scripts.train import main


def test_a_run_is_not_said_to_have_ended_where_it_was_stopped(
    data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last choice and the last evaluation belong to the end; here they would not have been made."""
    run, often = tmp_path / "run", ("evaluation.every=100", "loop.select_every=70")
    assert main(options(data_file, "hype", run, "checkpoint.every=100", *often)) == 0
    kept = (run / "config.yaml").read_text()
    capsys.readouterr()
    sentence = refuse([f"resume={run / 'checkpoints' / '000000100'}", "steps=100", "quiet=true"], capsys)
    assert "at step 100 already: give a larger steps=" in sentence
    assert (run / "config.yaml").read_text() == kept


def test_random_steps_to_the_end_are_said_to_teach_nothing(
    data_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(options(data_file, "hype", tmp_path / "run", "steps=100", "loop.random_steps=100")) == 0
    assert "in which nothing is learned: give more steps=" in caplog.text


def test_a_link_to_nowhere_is_no_folder(data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert "a link to nowhere" in refuse(options(data_file, "bc", tmp_path / "link"), capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["link"]

"""What `understudy train` shows on the way and at the end, on a terminal and elsewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HYBRID, SMALL, last_of_each

from understudy.scripts.train import main


def shown(data_file: Path, directory: Path) -> list[str]:
    given = last_of_each("learner=hype", *SMALL, *HYBRID, f"directory={directory}", f"data={data_file}")
    return [option for option in given if option != "quiet=true"]


def test_a_training_shows_how_it_goes_and_ends_with_a_table(
    data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(shown(data_file, tmp_path / "run")) == 0
    lines = capsys.readouterr().out.splitlines()
    result = json.loads(lines[-1])
    assert lines[0].startswith(f"hype on hopper from {data_file}, 2 runs -> ")
    assert any("absorbing" in line for line in lines[1:4])
    evaluations = [line for line in lines if line.startswith("step ")]
    assert [line.split(":")[0] for line in evaluations] == ["step 100", "step 200"]
    assert all("steps/s" in line and line.endswith("left") for line in evaluations)
    rows = {cells[0].strip(): [c.strip() for c in cells] for line in lines if len(cells := line.split("│")[1:-1]) > 4}
    assert set(rows) == {"0", "1", "IQM"}
    for run in range(2):
        number, seed, score, returned, policy, *others = rows[str(run)]
        assert (number, seed, policy) == (str(run), str(run), "200")
        assert float(score) == pytest.approx(result["score"]["runs"][run], abs=6e-4)
        assert float(returned) == pytest.approx(result["return"]["runs"][run], abs=0.06)
        assert len(others) == 3, "selection, evaluation and updates"
    assert float(rows["IQM"][2]) == pytest.approx(result["score"]["iqm"], abs=6e-4)
    assert float(rows["IQM"][3]) == pytest.approx(result["return"]["iqm"], abs=0.06)
    ends = [line.split(" ")[0] for line in lines[-4:-1]]
    assert ends == ["time", "curve", "policy"]


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_on_a_terminal_there_is_a_bar_with_rate_and_time_left(data_file: Path, tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "understudy.scripts.train", *shown(data_file, tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(command, stdout=theirs, env=environment)
    os.close(theirs)
    seen = b""
    while chunk := _read(ours):
        seen += chunk
    assert process.wait() == 0
    text = seen.decode()
    assert "200/200 steps" in text
    assert "━" in text
    assert re.search(r"\d+ steps/s", text)
    assert re.search(r"0:00 left", text)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other end is closed
        return b""

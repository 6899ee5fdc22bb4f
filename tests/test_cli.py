"""The command line: options and their help, errors in one line, and what `understudy` finds where."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from policies import assert_sentence

from understudy.robots import InputError
from understudy.scripts import cli
from understudy.scripts.options import option, parse_options, run_command


@dataclasses.dataclass(frozen=True)
class Options:
    """Do something to a place.

    And more about it.
    """

    place: Path = option("where it is")
    episodes: int = option("how many", 20, at_least=1)
    noise: float = option("how loud", 0.5, at_least=0)
    quiet: bool = option("say nothing", False)
    name: str | None = option("what to call it", None)
    sizes: tuple[int, ...] = option("how large", (256, 256), at_least=1)
    kind: Literal["mean", "median"] = option("which", "mean")


def parse(*arguments: str) -> Options:
    return parse_options(
        Options, arguments, command="do", positional="place", examples=("understudy do here episodes=3",)
    )


def test_values_get_the_types_of_their_fields() -> None:
    assert parse("here") == Options(place=Path("here"))
    everything = parse(
        "place=there", "episodes=3", "noise=1e-2", "quiet=True", "name=a=b", "sizes=[64, 32]", "kind=median"
    )
    assert everything == Options(
        place=Path("there"), episodes=3, noise=0.01, quiet=True, name="a=b", sizes=(64, 32), kind="median"
    )
    assert parse("here", "name=null", "sizes=7").sizes == (7,)
    assert parse("here", "name=null").name is None


def test_a_path_may_look_like_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("learner=bc,task=hopper").mkdir()
    assert parse("learner=bc,task=hopper").place == Path("learner=bc,task=hopper")
    with pytest.raises(InputError, match="no option 'learner'"):
        parse("learner=gone")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), r"^place= is missing: where it is \(understudy do --help"),
        (("here", "there"), "place= is given twice"),
        (("here", "noise=1", "noise=2"), "noise= is given twice"),
        (("here", "epsodes=3"), "do has no option 'epsodes': did you mean episodes"),
        (("here", "disturbances.noise=3"), "do has no option 'disturbances.noise'"),
        (("here", "--episodes", "3"), "write episodes=VALUE"),
        (("here", "--episodes=3"), "write episodes=3"),
        (("here", "-v"), "understudy do --help"),
        (("here", "episodes=many"), "episodes=many: a whole number is expected"),
        (("here", "episodes=2.5"), "episodes=2.5: a whole number is expected"),
        (("here", "episodes="), "episodes=: a whole number is expected"),
        (("here", "episodes=0"), "episodes=0: it must be at least 1"),
        (("here", "sizes=[3,0]"), "must be at least 1"),
        (("here", "sizes=[3,x]"), "sizes=x: a whole number is expected"),
        (("here", "sizes=[]"), "a whole number is expected"),
        (("here", "noise=nan"), "noise=nan: a number is expected"),
        (("here", "noise=-1"), "at least 0"),
        (("here", "quiet=yes"), "quiet=yes: true or false is expected"),
        (("here", "kind=meen"), "kind=meen: did you mean mean"),
        (("place=",), "place=: a path is expected"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        parse(*arguments)
    assert_sentence(caught.value)


def test_help_is_made_of_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("here", "nonsense=1", "--help")
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: understudy do PLACE [key=value ...]\n\nDo something to a place.\n\nAnd more")
    for part in (
        "place=PATH\n      where it is (required)",
        "episodes=N\n      how many (default: 20)",
        "name=TEXT\n      what to call it (optional)",
        "sizes=N,…\n      how large (default: 256,256)",
        "kind=mean|median",
        "quiet=true|false\n      say nothing (default: false)",
        "examples:\n  understudy do here episodes=3",
    ):
        assert part in shown


def failing(error: BaseException) -> Any:
    def body() -> None:
        raise error

    return body


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: None) == 0
    assert run_command(failing(InputError("first\n  second"))) == 2
    assert capsys.readouterr().err == "understudy: first second\n"
    stopped = InputError("stopped")
    stopped.code = 143  # type: ignore[attr-defined]
    assert run_command(failing(stopped)) == 143
    assert run_command(failing(KeyboardInterrupt())) == 130
    with pytest.raises(ZeroDivisionError):  # our own mistakes keep their traceback
        run_command(failing(ZeroDivisionError()))


def start(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, env=variables
    )


def test_help_and_version_need_no_slow_imports() -> None:
    done = start(
        "import sys; from understudy.scripts.cli import main; codes = main(['--help']), main(['--version']), main([]);"
        "print(codes, [name for name in ('torch', 'mujoco', 'numpy', 'hydra') if name in sys.modules])"
    )
    assert done.stdout.endswith("(0, 0, 0) []\n"), done.stderr
    assert re.search(r"^understudy \d+\.\d+", done.stdout, re.MULTILINE)
    for command in cli.COMMANDS:
        assert re.search(rf"^  {command} +\w", done.stdout, re.MULTILINE)


def test_the_help_of_a_command_does_not_import_torch() -> None:
    done = start(
        "import sys; from understudy.scripts.cli import main\n"
        "for command in ('evaluate', 'record', 'info'):\n"
        "    try: main([command, '--help'])\n"
        "    except SystemExit as leave: assert leave.code == 0\n"
        "print('torch' in sys.modules)"
    )
    assert done.stdout.endswith("False\n"), done.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = (
        "import sys; from understudy.scripts.options import run_command\n"
        "def body():\n"
        "    while True: print('x' * 1000)\n"
        "sys.exit(run_command(body))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == ""


def test_opengl_that_does_not_load_is_one_sentence() -> None:
    done = start("import sys; from understudy.scripts.cli import main; sys.exit(main(['info']))", MUJOCO_GL="nonsense")
    assert done.returncode == 2
    assert "MUJOCO_GL=nonsense" in done.stderr
    assert_sentence(done.stderr.strip())


def test_a_module_can_be_run_as_well() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "understudy.scripts.evaluate", "missing"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "missing does not exist" in done.stderr
    assert_sentence(done.stderr.strip())


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_is_there_and_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        assert cli.main([command, "--help"]) == 0
    except SystemExit as leave:
        assert leave.code == 0
    shown = capsys.readouterr().out
    assert f"understudy {command}" in shown
    assert len(shown.splitlines()) >= 3


@pytest.mark.parametrize("name", ["evalute", "TRAIN", "recrod"])
def test_an_unknown_command_brings_the_nearest(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name]) == 2
    error = capsys.readouterr().err.strip()
    assert repr(name) in error
    assert any(command in error for command in cli.COMMANDS)
    assert_sentence(error)


def test_info_names_versions_and_devices(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert cli.main(["info"]) == 0
    facts = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    import torch

    assert facts["torch"] == torch.__version__
    assert facts["python"].startswith(".".join(map(str, sys.version_info[:3])))
    for name in ("gymnasium", "mujoco", "numpy", "stable-baselines3", "hydra-core", "h5py", "safetensors"):
        assert re.match(r"\d+\.\d+", facts[name])
    assert "MUJOCO_GL" in facts["rendering"]
    assert {"processor", "threads", "gpu"} <= facts.keys()
    assert cli.main(["info", "episodes=3"]) == 2


@pytest.mark.parametrize("size", [10**14, 2**62])
def test_too_little_memory_is_said_in_a_sentence(size: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: torch.zeros(size)) == 2
    said = capsys.readouterr().err
    assert said.startswith("understudy: not enough memory (")
    assert said.count("\n") == 1
    assert "fewer runs=" in said


def test_other_mistakes_keep_their_traceback() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        run_command(lambda: torch.zeros(2) @ torch.zeros(3, 4))

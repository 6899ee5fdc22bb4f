"""D4RL's data sets by name: against the package's own tables where its wheel is at hand, and numbers by hand."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import record

from understudy.datasets import d4rl_names, download, write_d4rl
from understudy.datasets.d4rl_names import find_d4rl, folders, normalised_score, resolve_d4rl
from understudy.datasets.d4rl_table import DATASETS, FAMILIES
from understudy.datasets.download import fetch, verify
from understudy.robots import TASKS, InputError, find_task

BESIDE = Path(__file__).parents[2] / "tmp" / "dl" / "d4rl-1.1-py3-none-any.whl"


def wheel_text(name: str) -> str:
    """A file of d4rl 1.1's wheel, as text: importing it would need mujoco-py."""
    path = Path(os.environ.get("D4RL_WHEEL", BESIDE))
    if not path.is_file():
        pytest.skip("give d4rl-1.1-py3-none-any.whl (pip download --no-deps d4rl==1.1) as D4RL_WHEEL")
    with zipfile.ZipFile(path) as wheel:
        return wheel.read(name).decode()


@pytest.fixture(scope="module")
def infos() -> dict[str, dict[str, Any]]:
    """What d4rl/infos.py defines; it imports nothing."""
    defined: dict[str, Any] = {}
    exec(wheel_text("d4rl/infos.py"), defined)
    return defined


def test_every_address_is_the_packages(infos: dict[str, dict[str, Any]]):
    assert len(infos["DATASET_URLS"]) == 155
    assert {name: DATASETS[name].address for name in infos["DATASET_URLS"]} == infos["DATASET_URLS"]


def test_every_reference_score_is_the_packages(infos: dict[str, dict[str, Any]]):
    low, high = infos["REF_MIN_SCORE"], infos["REF_MAX_SCORE"]
    assert low.keys() == high.keys() and len(low) == 147
    for name in low:
        assert (DATASETS[name].minimum, DATASETS[name].maximum) == (low[name], high[name]), name
        for score in (low[name], high[name], 0.0, 1234.5, -7.25):
            assert normalised_score(name, score) == (score - low[name]) / (high[name] - low[name])


REGISTRATION = re.compile(r"^register\((.*?)^\)", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    ("package", "without"), [("pointmaze", ()), ("locomotion", ()), ("kitchen", ()), ("carla", ("render",))]
)
def test_what_is_registered_is_known(package: str, without: tuple[str, ...]):
    """Names, addresses, scores and horizons as the environments are registered with, where all stand there in full."""
    text = re.sub(r'"""\nregister\(.*?"""', "", wheel_text(f"d4rl/{package}/__init__.py"), flags=re.DOTALL)
    text = text.replace("TOWN_STEPS,", "1000,")
    blocks = [match[1] for match in REGISTRATION.finditer(text)]
    assert len(blocks) > 2
    for block in blocks:
        said = {key: value for key, value in re.findall(r"""'?(\w+)'?\s*[=:]\s*'?([^',\s]+)'?""", block)}
        if any(word in said["id"] for word in without):
            continue
        found = DATASETS[said["id"]]
        address = re.search(r"http://[^']+", block)
        assert address is not None and found.address == address[0]
        assert (found.minimum, found.maximum) == (float(said["ref_min_score"]), float(said["ref_max_score"]))
        assert found.horizon == int(said["max_episode_steps"]), said["id"]


@pytest.mark.parametrize(
    ("name", "returned", "score"),
    [  # by hand: (return - minimum) / (maximum - minimum)
        ("hopper-medium-v2", 3234.3, 1.0),
        ("hopper-medium-v2", -20.272305, 0.0),
        ("hopper-expert-v0", 1607.0138475, 0.5),
        ("d4rl/halfcheetah-medium-expert-v2", 12135.0, 1.0),
        ("halfcheetah-random-v1", 5927.4105235, 0.5),
        ("walker2d-full-replay-v2", 2296.964504, 0.5),
        ("ant-medium-v2", 3879.7 + 4205.3, 2.0),
        ("door-human-v1", -56.512833, 0.0),
        ("pen-human-longhorizon-v1", 3076.8331017826877, 1.0),
        ("maze2d-umaze-v1", 161.86, 1.0),
        ("maze2d-eval-large-v1", 302.22, 1.0),
        ("antmaze-large-play-v2", 0.25, 0.25),
        ("kitchen-mixed-v0", 3.0, 0.75),
        ("bullet-maze2d-open-v0", 64.15, 1.0),
        ("carla-lane-v0", 1023.5784385429523, 1.0),
        ("minigrid-fourrooms-v0", 0.01442, 0.0),
    ],
)
def test_scores_by_hand(name: str, returned: float, score: float):
    made = normalised_score(name, returned)
    assert isinstance(made, float) and made == pytest.approx(score, abs=1e-12)


def test_scores_of_many_returns():
    returns = np.array([[-20.272305, 3234.3], [0.0, 1607.0138475]], np.float32)
    made = normalised_score("hopper-medium-v2", returns)
    assert made.shape == (2, 2) and made.dtype == np.float64
    np.testing.assert_allclose(made, [[0, 1], [0.0062288, 0.5]], atol=1e-6)
    assert normalised_score("hopper-medium-v2", [3234.3, 3234.3]).tolist() == [1.0, 1.0]
    assert np.isnan(normalised_score("hopper-medium-v2", float("nan")))
    for wrong in ("high", ["high"], {}, [[1.0], [1.0, 2.0]]):
        with pytest.raises(InputError, match=r"d4rl/hopper-medium-v2: returns are .* but must be numbers"):
            normalised_score("hopper-medium-v2", wrong)  # pyright: ignore


def test_the_table_is_consistent():
    files: dict[str, str] = {}
    for name, found in DATASETS.items():
        assert found.name == name and found.family in FAMILIES and found.minimum < found.maximum
        assert found.file.endswith(".hdf5") and "/" not in found.file
        # All lie in one folder: the same file name must be the same file.
        assert files.setdefault(found.file, found.address) == found.address
    assert {found.family for found in DATASETS.values()} == FAMILIES.keys()


@pytest.mark.parametrize("name", sorted({found.fit.task for found in DATASETS.values() if found.fit.task}))
def test_the_nearest_tasks_are_tasks(name: str):
    task = find_task(name)
    assert task.name == name and (name in TASKS or task.environment_id == name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hopper-expert", "did you mean hopper-expert-v"),
        ("hoper-expert-v2", "did you mean hopper-expert-v2"),
        ("d4rl/hopper_medium-v2", "did you mean hopper-medium-v2"),
        ("door-cloned-v3", "did you mean door-cloned-v"),
        ("antmaze-medium-v2", "did you mean antmaze-medium-"),
        ("", "names are like hopper-medium-v2, antmaze-umaze-v2"),
        ("cifar10", "names are like"),
    ],
)
def test_unknown_names(name: str, words: str):
    for use in (find_d4rl, resolve_d4rl, lambda name: normalised_score(name, 0.0)):  # pyright: ignore
        with pytest.raises(InputError, match=re.escape(words)) as caught:
            use(name)
        assert f"unknown D4RL data set '{name.removeprefix('d4rl/')}'" in str(caught.value)
        assert len(str(caught.value)) < 250


# Where files are.


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with nothing in it."""
    for name in ("UNDERSTUDY_DATA", "XDG_CACHE_HOME", "D4RL_DATASET_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Path]]]:
    """What is downloaded: nothing is."""
    calls: list[tuple[str, Path]] = []

    def pretend(url: str, target: Path, **_: Any) -> None:
        calls.append((url, target))

    monkeypatch.setattr(d4rl_names, "fetch", pretend)
    yield calls


def place(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a file")
    return path


def test_a_missing_file_is_downloaded(home: Path, fetched: list[tuple[str, Path]]):
    target = home / ".cache/understudy/datasets/d4rl/hopper_expert-v2.hdf5"
    assert resolve_d4rl("d4rl/hopper-expert-v2") == target
    address = "http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2/hopper_expert-v2.hdf5"
    assert fetched == [(address, target)]


def test_the_variables_say_where(home: Path, monkeypatch: pytest.MonkeyPatch):
    d4rl = home / ".d4rl/datasets"
    assert folders() == [home / ".cache/understudy/datasets/d4rl", d4rl]
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert folders() == [home / ".cache/understudy/datasets/d4rl", d4rl]
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch")
    assert folders() == [Path("/scratch/understudy/datasets/d4rl"), d4rl]
    monkeypatch.setenv("D4RL_DATASET_DIR", "/d4rl")
    assert folders() == [Path("/scratch/understudy/datasets/d4rl"), Path("/d4rl")]
    monkeypatch.setenv("UNDERSTUDY_DATA", "~/data")
    assert folders() == [home / "data/d4rl", home / "data", Path("/d4rl")]


def test_nowhere_to_keep_files(home: Path, monkeypatch: pytest.MonkeyPatch):
    def homeless(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(Path, "expanduser", lambda path: homeless() if str(path).startswith("~") else path)
    with pytest.raises(InputError, match="no home directory to keep data sets in; set UNDERSTUDY_DATA"):
        folders()
    monkeypatch.setenv("UNDERSTUDY_DATA", "/data")
    assert folders() == [Path("/data/d4rl"), Path("/data")]


@pytest.mark.parametrize(
    "folder", [".cache/understudy/datasets/d4rl", ".d4rl/datasets", "data/d4rl", "data", "cluster/d4rl"]
)
def test_a_file_that_is_there_is_used(
    home: Path, monkeypatch: pytest.MonkeyPatch, fetched: list[tuple[str, Path]], folder: str
):
    if folder.startswith("data"):
        monkeypatch.setenv("UNDERSTUDY_DATA", str(home / "data"))
    if folder.startswith("cluster"):
        monkeypatch.setenv("D4RL_DATASET_DIR", str(home / "cluster/d4rl"))
    path = place(home / folder / "hopper_mixed.hdf5")
    assert resolve_d4rl("hopper-medium-replay-v0") == path
    assert resolve_d4rl("hopper-medium-replay-v0", download=False) == path
    assert not fetched


def test_ours_is_preferred(home: Path, fetched: list[tuple[str, Path]]):
    place(home / ".d4rl/datasets/walker_mixed.hdf5")
    ours = place(home / ".cache/understudy/datasets/d4rl/walker_mixed.hdf5")
    assert resolve_d4rl("walker2d-medium-replay-v0") == ours


def test_without_a_download(home: Path, fetched: list[tuple[str, Path]]):
    with pytest.raises(InputError) as caught:
        resolve_d4rl("door-human-v1", download=False)
    said = str(caught.value)
    ours, theirs = home / ".cache/understudy/datasets/d4rl", home / ".d4rl/datasets"
    assert said.startswith(f"d4rl/door-human-v1: door-human-v1.hdf5 is in none of {ours}, {theirs}; allow the download")
    address = "http://rail.eecs.berkeley.edu/datasets/offline_rl/hand_dapg_v1/door-human-v1.hdf5"
    assert f"get it from {address} and put it at {ours / 'door-human-v1.hdf5'}" in said
    assert not fetched and not ours.exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [("minigrid-fourrooms-v0", "pictures of a grid"), ("carla-town-full-v0", "camera images")],
)
def test_pictures_are_refused(home: Path, fetched: list[tuple[str, Path]], name: str, words: str):
    with pytest.raises(InputError, match=rf"d4rl/{name}: its observations are {words}.*learns from states"):
        resolve_d4rl(name)
    assert not fetched


@pytest.fixture
def downloaded(home: Path) -> Path:
    """A file with a record of its hash, as sha256sum writes it."""
    path = place(home / ".cache/understudy/datasets/d4rl/hopper_expert-v2.hdf5")
    path.with_name(f"{path.name}.sha256").write_text(f"{hashlib.sha256(b'a file').hexdigest()}  {path.name}\n")
    return path


def test_a_file_is_read_again_only_when_it_changed(downloaded: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[Path] = []
    digest = download._digest  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(download, "_digest", lambda path: read.append(path) or digest(path))
    for times in ([downloaded], [downloaded, downloaded]):
        for _ in range(3):
            assert resolve_d4rl("hopper-expert-v2") == downloaded and read == times
        os.utime(downloaded, ns=(0, 10**18))
    record = downloaded.with_name(f"{downloaded.name}.sha256")
    assert record.read_text().startswith("# size 6, modified ") and verify(downloaded)


@pytest.mark.parametrize("content", [b"a fila", b"a fil", b""])
def test_a_file_that_is_not_the_one_downloaded_is_refused(downloaded: Path, content: bytes):
    assert verify(downloaded)
    downloaded.write_bytes(content)
    os.utime(downloaded, ns=(0, 10**18))
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"expert-v2\.hdf5: is not the file that was downloaded.*delete it to fetch"
        ):
            resolve_d4rl("hopper-expert-v2")


@pytest.mark.parametrize("text", ["", "nonsense", "abc  file.hdf5", "# size 6, modified 4\n"])
def test_a_record_that_is_none(downloaded: Path, text: str):
    downloaded.with_name(f"{downloaded.name}.sha256").write_text(text)
    with pytest.raises(InputError, match=r"hopper_expert-v2\.hdf5\.sha256: holds no SHA-256; delete it"):
        resolve_d4rl("hopper-expert-v2")


def test_a_server_that_is_down_is_one_sentence(home: Path, monkeypatch: pytest.MonkeyPatch):
    """Port 9 of this machine, where nobody listens, in the server's place."""
    monkeypatch.setenv("no_proxy", "*")
    local = "http://127.0.0.1:9/"

    def elsewhere(url: str, target: Path, **more: Any) -> None:
        fetch(url.replace("http://rail.eecs.berkeley.edu/", local), target, **more)

    monkeypatch.setattr(d4rl_names, "fetch", elsewhere)
    with pytest.raises(InputError) as caught:
        resolve_d4rl("hopper-expert-v2")
    said, target = str(caught.value), home / ".cache/understudy/datasets/d4rl/hopper_expert-v2.hdf5"
    assert said.startswith(f"{local}datasets/offline_rl/gym_mujoco_v2/hopper_expert-v2.hdf5: cannot be reached (")
    assert said.endswith(f"put it at {target}") and not list(target.parent.iterdir())


# The package d4rl.

READS_ANYWAY = """
import sys
from pathlib import Path
from understudy.datasets import load, read_d4rl
from understudy.datasets.d4rl_names import normalised_score, resolve_d4rl
from understudy.robots import find_task
path = resolve_d4rl("d4rl/hopper-expert-v2", download=False)
assert path == Path(sys.argv[1]), path
assert len(read_d4rl(path, find_task("hopper"))) == len(load(path)) == int(sys.argv[2])
assert normalised_score("hopper-expert-v2", 3234.3) == 1.0
assert not {"d4rl", "gym", "mujoco_py"} & sys.modules.keys()
try:
    import d4rl
except Exception as error:
    assert str(error) == "this d4rl is broken", error
else:
    raise AssertionError("the broken d4rl was not there")
"""


def test_a_broken_d4rl_is_not_noticed(home: Path, monkeypatch: pytest.MonkeyPatch):
    """One that raises a bare Exception, as mujoco-py does when it does not find MuJoCo."""
    for module in ("d4rl", "gym", "mujoco_py"):
        place(home / "broken" / module / "__init__.py").write_text(f"raise Exception('this {module} is broken')\n")
    path = place(home / "data/d4rl/hopper_expert-v2.hdf5")
    whole = record("hopper", 3, limit=10)
    write_d4rl(path, whole, overwrite=True)
    monkeypatch.setenv("UNDERSTUDY_DATA", str(home / "data"))
    monkeypatch.setenv("PYTHONPATH", str(home / "broken"))
    run = subprocess.run(
        [sys.executable, "-c", READS_ANYWAY, str(path), str(len(whole))], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr

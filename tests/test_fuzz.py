"""Whatever a file holds, reading it ends in demonstrations, a report, or one sentence that names the file.

Structure is made up here by hypothesis, always the same; bytes are spoiled by a seed (for longer by `fuzz_bytes.py`).
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import os
import random
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import samples
from fuzzed import check, examine, in_child, kept_worlds, spoil
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from understudy.datasets import load

TIMES = int(os.environ.get("FUZZ_EXAMPLES", "1"))  # how many times as many examples, for a longer hunt
SAME = {"derandomize": True, "database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}
COUNT = sum(samples.LENGTHS)
KEYS = (
    *samples.columns(), "metadata/episode_starts", "metadata/episode_lengths", "metadata/episode_returns",
    "metadata/episode_terminated", "metadata/episode_seeds", "metadata/episode_model/body_pos:frame_skip",
    "infos/final_observations", "infos/times", "infos/goal", "infos/flattened_states", "infos/simulator/ctrl",
    "infos/simulator/time", "infos", "metadata", "observation", "action", "\n",
)  # fmt: skip
NAMES = ("file.hdf5", "hopper_expert-v2.hdf5", "ant_expert-v2.hdf5", "maze2d-umaze-sparse-v1.hdf5", "expert.h5")
TYPES = (
    "f4", "f4", ">f4", "f8", ">f8", "f2", "g", "?", "i1", "u1", "i8", ">i8", "u8", "c8", "S3", "V5", "O",
    "i4,f4", "2f4",
)  # fmt: skip
FILLS: tuple[Any, ...] = (
    "noise",
    0,
    1,
    -1,
    0.5,
    np.nan,
    np.inf,
    1e38,
    1e300,
    2**62,
    2**63 - 1,
    "count",
    "rising",
    "flags",
)
TEXTS = (
    "", "hopper", "Hopper-v5", "Hopper-v4", "AntMaze_UMaze-v5", "reacher", "no\nsuch", "\x00", "{}", "[]", "{",
    "[" * 200,
    '{"frame_skip": 0}', '{"frame_skip": "x"}', '{"max_episode_steps": -1}', '{"xml_file": "/dev/null"}', "é" * 40,
    '{"sizes": {"qpos": 6, "none": null}, "left_out": {"none": "preceding action"}}', '{"nu": 1}', "9" * 500,
    '{"sizes": {"qpos": 6, "qvel": 6}, "left_out": {"qpos": "preceding action"}}',
    '{"env_name": "Hopper-v5", "type": 2}', '{"removed": ["foot"]}', '{"tremble": 1e999}',
    '{"bodies": {"torso": {"length": 900, "mass": 1e-9}}}', '{"frozen": ["rootz"], "actuators": {"leg_joint": 1e3}}',
)  # fmt: skip
ATTRIBUTES = (
    "env_id", "env_kwargs", "task", "horizon", "random_return", "expert_return", "return_mean", "understudy_format",
    "understudy_states", "disturbances", "env_args", "observation_parts", "total", "env", "other",
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def quickly() -> Iterator[None]:
    logging.disable()
    with kept_worlds():
        yield
    logging.disable(logging.NOTSET)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


# Anything.


@st.composite
def arrays(draw: st.DrawFn, rows: int = COUNT, types: tuple[str, ...] = TYPES) -> np.ndarray:
    """An array of any type, shape and numbers, more often one that nearly fits."""
    kind = np.dtype(draw(st.sampled_from(types)))
    count = draw(st.sampled_from((rows, rows, rows, rows, 3, 2, 1, 0, rows + 1)))
    rest = draw(st.sampled_from(((), (), (1,), (11,), (11,), (3,), (6,), (2,), (0,), (4, 4), (1, 1), (2, 3, 4))))
    shape = () if draw(st.integers(0, 20)) == 0 else (count, *rest)
    fill = draw(st.sampled_from(FILLS))
    size, generator = int(np.prod(shape)), np.random.default_rng(draw(st.integers(0, 3)))
    numbers: Any = {
        "noise": generator.normal(size=size), "count": np.full(size, rows), "rising": np.arange(size),
        "flags": generator.integers(0, 2, size),
    }.get(fill, np.full(size, fill))  # fmt: skip
    if kind.kind in "SVO" or kind.names or kind.subdtype:
        made = np.zeros(shape, kind)
        if kind.kind == "O":
            made[...] = b"text"
        return made
    with np.errstate(all="ignore"):
        return numbers.astype(kind).reshape(shape)


anything = st.one_of(
    st.sampled_from(TEXTS), st.sampled_from(TEXTS).map(lambda text: np.bytes_(text.encode())),
    st.integers(-(2**63), 2**63 - 1), st.floats(), st.booleans(), st.just(h5py.Empty("f4")),
    st.just(np.array([[1, 2], [3, 4]])), st.just(np.array(3 + 4j)),
    st.just(np.array([(1, 2.0)], "i4,f4")), st.just(np.array(["a", "b"], object)), st.just(np.zeros(3000)),
    st.just(np.void(b"\x00\xff")), arrays(3, ("f4", "i8", "u8", "?", "S3", "c8")),
)  # fmt: skip


def put(file: h5py.Group, key: str, how: str, array: np.ndarray) -> None:
    """An array under a key in some way, or what is no array; nothing where HDF5 itself refuses it."""
    with contextlib.suppress(ValueError, TypeError, OSError, RuntimeError, KeyError, AttributeError):
        if key in file:
            del file[key]
        if how == "group":
            file.create_group(key)["x"] = 1
        elif how == "soft":
            file[key] = h5py.SoftLink("/" + samples_key(array))
        elif how == "circle":
            file[key] = h5py.SoftLink("/" + key)
        elif how == "external":
            file[key] = h5py.ExternalLink("/dev/zero", "/x")
        elif how == "virtual":
            layout = h5py.VirtualLayout(array.shape, array.dtype)
            layout[...] = h5py.VirtualSource(".", key, array.shape)
            file.create_virtual_dataset(key, layout)
        elif how == "promise":
            file.create_dataset(key, (10**10, *array.shape[1:]), array.dtype, chunks=(1000, *array.shape[1:]))
        elif how == "type":
            file[key] = array.dtype
        elif how == "hard":
            file[key] = file["/"]
        else:
            options = {"packed": {"compression": "gzip", "shuffle": True}, "lzf": {"compression": "lzf"}}.get(how, {})
            options |= {"scaled": {"scaleoffset": 3}, "checked": {"fletcher32": True}}.get(how, {})
            options |= {"growing": {"maxshape": (None, *array.shape[1:]), "chunks": True}}.get(how, {})
            file.create_dataset(key, data=array, **options)


def samples_key(array: np.ndarray) -> str:
    return ("observations", "actions", "infos", "nowhere")[array.ndim % 4]


HOW = (
    "plain", "plain", "plain", "plain", "packed", "lzf", "scaled", "checked", "growing", "group", "soft", "circle",
    "external", "virtual", "promise", "type", "hard", "left out",
)  # fmt: skip
changes = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(HOW), arrays()), max_size=5)
said = st.dictionaries(st.sampled_from(ATTRIBUTES), anything, max_size=4)


def say(file: h5py.Group, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        with contextlib.suppress(ValueError, TypeError, OSError, RuntimeError, KeyError, AttributeError):
            file.attrs[name] = value


@settings(**SAME, max_examples=120 * TIMES)
@given(changes, said, st.sampled_from(NAMES), st.booleans(), st.booleans())
def test_any_structure_of_hdf5(
    edits: list[tuple[str, str, np.ndarray]], attributes: dict[str, Any], name: str, valid: bool, latest: bool
):
    with folder() as place:
        with h5py.File(place / name, "w", libver="latest" if latest else None) as file:
            if valid:
                samples.fill_d4rl(file)
                del file.attrs["task"]
            for key, how, array in edits:
                put(file, key, how, array)
            say(file, attributes)
            if isinstance(file.get("metadata", getlink=True), h5py.HardLink):
                say(file["metadata"], attributes)
        examine(place / name)


PLACES = (
    "data/demo_0/obs/flat", "data/demo_1/obs/flat", "data/demo_0/obs/more", "data/demo_2/next_obs/flat",
    "data/demo_0/actions", "data/demo_1/rewards", "data/demo_1/dones", "data/demo_2/dones", "data/demo_0/states",
    "data/demo_0", "data/demo_00", "data/demo_" + "9" * 30, "data", "data/else", "mask/train", "data/demo_0/obs",
    "data/demo_0/understudy/terminals", "data/demo_1/understudy/terminals", "data/demo_0/obs/a\nb",
)  # fmt: skip


@settings(**SAME, max_examples=60 * TIMES)
@given(
    st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(HOW), arrays(5)), max_size=4),
    said,
    st.dictionaries(
        st.sampled_from(("num_samples", "understudy_seed", "understudy_return", "x")), anything, max_size=2
    ),
)
def test_any_structure_of_robomimics_groups(
    edits: list[tuple[str, str, np.ndarray]], attributes: dict[str, Any], of_demo: dict[str, Any]
):
    with folder() as place:
        path = samples.robomimic(place)
        with h5py.File(path, "a") as file:
            say(file["data"], attributes)
            say(file["data/demo_0"], of_demo)
            for key, how, array in edits:
                put(file, key, how, array)
        examine(path)


MEMBERS = (
    *samples.columns(), "obs", "acts", "rews", "terminal", "indices", "dones", "episode_starts", "episode_lengths",
    "episode_returns", "episode_seeds", "final_observations", "times", "infos", "attributes", "infos/simulator/x\ny",
    "infos/flattened_states", "qpos", "qvel",
)  # fmt: skip


@settings(**SAME, max_examples=120 * TIMES)
@given(
    st.sampled_from((samples.npz, samples.npz_packed, None)),
    st.dictionaries(st.sampled_from(MEMBERS), arrays() | st.sampled_from(TEXTS).map(np.array), max_size=5),
    st.sampled_from((None, None, "left out", "objects", "promise", "short", "kind")),
)
def test_any_members_of_an_archive(make: Any, edits: dict[str, np.ndarray], more: str | None):
    with folder() as place:
        members = dict(np.load(make(place))) if make else {}
        members |= edits
        if more == "left out" and members:
            members.pop(min(members))
        path = place / "file.npz"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in members.items():
                content = io.BytesIO()
                np.save(content, array, allow_pickle=True)
                data = content.getvalue()
                if more == "promise" and name in ("obs", "observations"):
                    data = data.replace(b"'shape': (12,", b"'shape': (9**9,").replace(b"(9**9,", b"(99999999999,")
                data = data[:-3] if more == "short" else data
                data = data.replace(b"<f4", b"<f2") if more == "kind" else data
                archive.writestr(f"{name}.npy", data)
        examine(path)


# Descriptions.

DEEP: Any = functools.reduce(lambda inner, _: [inner], range(400), 1)
values = st.one_of(
    st.sampled_from(
        (0, -1, 1.5, float("inf"), float("nan"), 10**400, 2**63, True, None, [], {}, [0], [10**9], [[1]], DEEP)
    ),
    st.sampled_from((*TEXTS, "{chunk_index:0999999999d}", "{0}", "../x", "os:system", "S1000000000")),
    st.recursive(
        st.integers(-(2**70), 2**70) | st.floats(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("a", "id")), inner, max_size=2),
        max_leaves=4,
    ),
)
LEFT_OUT = object()
DESCRIPTIONS = (
    "minari_metadata", "lerobot_information", "lerobot_old_information", "lerobot_lines", "imitation_state",
)  # fmt: skip


def replaced(told: Any, chance: random.Random, value: Any) -> Any:
    """JSON with one of its parts, at any depth, replaced, or left out."""
    if isinstance(told, str) and told.startswith("{"):  # JSON within JSON
        inner = replaced(json.loads(told), chance, value)
        return inner if inner is LEFT_OUT else json.dumps(inner)
    if not isinstance(told, (dict, list)) or not told:
        return value
    key = chance.choice(list(told) if isinstance(told, dict) else list(range(len(told))))
    changed = value if chance.random() < 0.4 else replaced(told[key], chance, value)
    if isinstance(told, list):
        return [item for item in (*told[:key], changed, *told[key + 1 :]) if item is not LEFT_OUT]
    return {name: item for name, item in {**told, key: changed}.items() if item is not LEFT_OUT}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_any_description(name: str):
    @settings(**{"max_examples": 50 * TIMES, **SAME})
    @given(values | st.just(LEFT_OUT), st.integers(0, 10**6))
    @example([[], [], 0], 2440)
    def one(value: Any, seed: int) -> None:
        target.write_text(edited(valid, random.Random(seed), value))
        examine(root)

    with folder() as place:
        target = samples.SAMPLES[name](place)
        root, valid = samples.root_of(place, target), target.read_text()
        one()


def edited(text: str, chance: random.Random, value: Any) -> str:
    lines = text.splitlines()
    which = chance.randrange(len(lines))
    told = replaced(json.loads(lines[which]), chance, value)
    lines[which] = "" if told is LEFT_OUT else json.dumps(told)
    return "\n".join(lines)


# Bytes.


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_spoiled_bytes(name: str):
    """In a process of its own, which a crash of a C library ends."""

    def work() -> str:
        with folder() as place:
            target = samples.SAMPLES[name](place)
            valid, chance = target.read_bytes(), random.Random(name)
            assert examine(samples.root_of(place, target))[0] == "read"
            for _ in range(20):
                target.write_bytes(spoil(valid, chance))
                examine(samples.root_of(place, target))
        return "sound"

    assert in_child(work, 120) == "sound"


@pytest.mark.parametrize(
    "content", [b"", b"\x89HDF\r\n\x1a\n", b"PK\x05\x06" + bytes(18), b"PAR1", b"{}", b"\n" * 5000]
)
@pytest.mark.parametrize("name", ["file.hdf5", "file.npz", "main_data.hdf5"])
def test_files_with_nothing_in_them(name: str, content: bytes, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    examine(tmp_path / name)
    with pytest.raises(AssertionError):  # that the check itself sees something
        check(tmp_path / "another", lambda: load(tmp_path / name, "hopper"))

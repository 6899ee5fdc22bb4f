"""Small valid files of each format, made in their documented layout, for the fuzzers to spoil."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from gymnasium.spaces import Box
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

O, A = 11, 3  # noqa: E741
SCALE = int(os.environ.get("FUZZ_SCALE", "1"))  # above 1 for files whose memory can be measured
LENGTHS = (5 * SCALE, 3 * SCALE, 4 * SCALE)
Arrays = dict[str, np.ndarray]
Make = Callable[[Path], Path]  # fills an empty folder, and says which file in it is to be spoiled


@cache
def columns() -> Mapping[str, np.ndarray]:
    """Three short episodes as a Hopper's, by D4RL's names."""
    generator, count = np.random.default_rng(8), sum(LENGTHS)
    ends = np.zeros(count, bool)
    ends[np.cumsum(LENGTHS) - 1] = True
    seen = generator.normal(size=(count, O)).astype(np.float32)
    return {
        "observations": seen,
        "actions": generator.uniform(-1, 1, (count, A)).astype(np.float32),
        "next_observations": np.roll(seen, -1, axis=0),
        "rewards": generator.normal(size=count).astype(np.float32),
        "terminals": ends & (np.arange(count) <= LENGTHS[0]),
        "timeouts": ends & (np.arange(count) > LENGTHS[0]),
        "infos/qpos": generator.normal(size=(count, 6)),
        "infos/qvel": generator.normal(size=(count, 6)),
    }


def by_episode(name: str) -> list[np.ndarray]:
    return np.split(columns()[name], np.cumsum(LENGTHS)[:-1])


def fill_d4rl(file: h5py.File, **options: Any) -> None:
    for name, array in columns().items():
        file.create_dataset(name, data=array, **options)
    file["metadata/episode_lengths"] = np.array(LENGTHS)
    file.attrs.update(env_id="Hopper-v5", env_kwargs="{}", task="hopper", random_return=1.5, expert_return=9.0)


def d4rl(folder: Path) -> Path:
    with h5py.File(folder / "file.hdf5", "w") as file:
        fill_d4rl(file)
    return folder / "file.hdf5"


def d4rl_packed(folder: Path) -> Path:
    """In chunks, compressed, with check sums, in the newest layout, where metadata have check sums too."""
    with h5py.File(folder / "file.hdf5", "w", libver="latest") as file:
        fill_d4rl(file, chunks=True, compression="gzip", shuffle=True, fletcher32=True)
    return folder / "file.hdf5"


def d4rl_filtered(folder: Path) -> Path:
    """Each array through another of HDF5's filters, and one that grows."""
    options: list[dict[str, Any]] = [
        {"compression": "lzf"}, {"scaleoffset": 4}, {"compression": "gzip"}, {"scaleoffset": 6},
        {"scaleoffset": 0}, {"maxshape": (None,)}, {"compression": "lzf", "shuffle": True}, {"scaleoffset": 5},
    ]  # fmt: skip
    with h5py.File(folder / "file.hdf5", "w") as file:
        for (name, array), option in zip(columns().items(), options, strict=True):
            whole = array.astype(np.int8) if option.get("scaleoffset") == 0 else array
            file.create_dataset(name, data=whole, chunks=True, **option)
        file["metadata/episode_lengths"] = np.array(LENGTHS)
        file.attrs["task"] = "hopper"
    return folder / "file.hdf5"


def robomimic(folder: Path) -> Path:
    with h5py.File(folder / "file.hdf5", "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Hopper-v5", "type": 2, "env_kwargs": {}})
        for episode, length in enumerate(LENGTHS):
            demo = data.create_group(f"demo_{episode}")
            demo.attrs["num_samples"] = length
            demo["obs/flat"], demo["next_obs/flat"] = (
                by_episode(name)[episode] for name in ("observations", "next_observations")
            )
            for key in ("actions", "rewards"):
                demo.create_dataset(key, data=by_episode(key)[episode], compression="gzip")
            demo["dones"] = by_episode("terminals")[episode].astype(np.int64)
            physics = [by_episode(f"infos/{name}")[episode] for name in ("qpos", "qvel")]
            demo["states"] = np.concatenate([by_episode("rewards")[episode][:, None], *physics], axis=1)
        file["mask/train"] = np.array(["demo_0", "demo_1"], "S")
    return folder / "file.hdf5"


def npz(folder: Path) -> Path:
    np.savez(folder / "file.npz", attributes=json.dumps({"env_id": "Hopper-v5", "env_kwargs": "{}"}), **columns())
    return folder / "file.npz"


def npz_packed(folder: Path) -> Path:
    """As stable-baselines 2 has it."""
    starts = np.isin(np.arange(sum(LENGTHS)), np.cumsum((0, *LENGTHS)))
    arrays = {"obs": columns()["observations"], "actions": columns()["actions"], "rewards": columns()["rewards"]}
    np.savez_compressed(folder / "file.npz", **arrays, episode_starts=starts, episode_returns=np.ones(len(LENGTHS)))
    return folder / "file.npz"


def _minari(folder: Path, data_format: str) -> Path:
    buffers = [
        EpisodeBuffer(
            id=episode, seed=episode,
            observations=np.concatenate([rows, rows[-1:]]).astype(np.float64), actions=by_episode("actions")[episode],
            rewards=by_episode("rewards")[episode].astype(np.float64), terminations=by_episode("terminals")[episode],
            truncations=by_episode("timeouts")[episode],
            infos={"qpos": np.ones((len(rows) + 1, 6)), "qvel": np.ones((len(rows) + 1, 6))},
        )
        for episode, rows in enumerate(by_episode("observations"))
    ]  # fmt: skip
    spaces = (Box(-np.inf, np.inf, (O,), np.float64), Box(-1, 1, (A,), np.float32))
    (folder / "set").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        storage = MinariStorage.new(folder / "set" / "data", *spaces, data_format=data_format)
        storage.update_episodes(buffers)
    path = folder / "set" / "data" / "metadata.json"
    spec = {"id": "Hopper-v5", "kwargs": {}, "additional_wrappers": [], "max_episode_steps": 1000}
    told = json.loads(path.read_text())
    path.write_text(
        json.dumps({**told, "env_spec": json.dumps(spec), "ref_max_score": 100.0, "understudy": {"task": "hopper"}})
    )
    return path


def minari_metadata(folder: Path) -> Path:
    return _minari(folder, "hdf5")


def minari_hdf5(folder: Path) -> Path:
    return _minari(folder, "hdf5").with_name("main_data.hdf5")


def minari_arrow(folder: Path) -> Path:
    return next((_minari(folder, "arrow").parent / "0").glob("*.arrow"))


def minari_parquet(folder: Path) -> Path:
    return next((_minari(folder, "parquet").parent / "0").glob("*.parquet"))


def _lerobot(folder: Path, version: str) -> Path:
    count, rate = sum(LENGTHS), 125
    frame = np.concatenate([np.arange(length) for length in LENGTHS])
    rows: Arrays = {
        "observation.state": columns()["observations"],
        "action": columns()["actions"],
        "next.reward": columns()["rewards"],
        "next.done": columns()["terminals"] | columns()["timeouts"],
        "timestamp": (frame / rate).astype(np.float32),
        "frame_index": frame,
        "episode_index": np.repeat(np.arange(len(LENGTHS)), LENGTHS),
        "index": np.arange(count),
    }
    features, cells = dict[str, Any](), dict[str, Any]()
    for name, column in rows.items():
        features[name] = {"dtype": str(column.dtype), "shape": [*column.shape[1:]] or [1], "names": None}
        kind = pa.from_numpy_dtype(column.dtype)
        cells[name] = pa.array(column.tolist(), pa.list_(kind, column.shape[1]) if column.ndim == 2 else kind)
    table = pa.table(cells)
    old = version < "v3"
    place = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    information = {
        "codebase_version": version, "robot_type": "hopper", "fps": rate, "total_episodes": len(LENGTHS),
        "total_frames": count, "chunks_size": 1000, "features": features,
        "data_path": place if old else "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "understudy": {"episodes": {"seeds": [3, 4, 5]}, "attributes": {"env_id": "Hopper-v5", "env_kwargs": "{}"}},
    }  # fmt: skip
    root = folder / "set"
    for part in ("meta/episodes/chunk-000", "data/chunk-000"):
        (root / part).mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(information))
    told: list[dict[str, Any]] = [{"episode_index": i, "tasks": ["hop"], "length": n} for i, n in enumerate(LENGTHS)]
    if old:
        (root / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, told)))
        (root / "meta/tasks.jsonl").write_text('{"task_index": 0, "task": "hop"}\n')
        for index in range(len(LENGTHS)):
            part = table.filter(pa.array(rows["episode_index"] == index))
            pq.write_table(part, root / f"data/chunk-000/episode_{index:06d}.parquet")
        return root
    told = [{**row, "data/chunk_index": 0, "data/file_index": 0, "stats/action/min": [0.0]} for row in told]
    pq.write_table(pa.Table.from_pylist(told), root / "meta/episodes/chunk-000/file-000.parquet")
    pq.write_table(pa.table({"task_index": [0], "__index_level_0__": ["hop"]}), root / "meta/tasks.parquet")
    pq.write_table(table, root / "data/chunk-000/file-000.parquet")
    return root


def lerobot_data(folder: Path) -> Path:
    return _lerobot(folder, "v3.0") / "data/chunk-000/file-000.parquet"


def lerobot_information(folder: Path) -> Path:
    return _lerobot(folder, "v3.0") / "meta/info.json"


def lerobot_old_information(folder: Path) -> Path:
    return _lerobot(folder, "v2.1") / "meta/info.json"


def lerobot_episodes(folder: Path) -> Path:
    return _lerobot(folder, "v3.0") / "meta/episodes/chunk-000/file-000.parquet"


def lerobot_lines(folder: Path) -> Path:
    return _lerobot(folder, "v2.1") / "meta/episodes.jsonl"


def _imitation(folder: Path) -> Path:
    rows = pa.list_(pa.list_(pa.float32()))
    parts = zip(by_episode("observations"), by_episode("next_observations"), strict=True)
    cells: dict[str, Any] = {
        "obs": pa.array([np.concatenate([seen, after[-1:]]).tolist() for seen, after in parts], rows),
        "acts": pa.array([part.tolist() for part in by_episode("actions")], rows),
        "infos": pa.array([["{}"] * (n - 1) + ['{"TimeLimit.truncated": false}'] for n in LENGTHS]),
        "terminal": pa.array([True, True, False]),
        "rews": pa.array([part.astype(np.float64).tolist() for part in by_episode("rewards")]),
    }
    root = folder / "set"
    root.mkdir()
    table = pa.table(cells)
    with pa.OSFile(str(root / "data.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    (root / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}], "_split": None}))
    (root / "dataset_info.json").write_text(json.dumps({"features": {name: {} for name in cells}}))
    return root


def imitation_arrow(folder: Path) -> Path:
    return _imitation(folder) / "data.arrow"


def imitation_state(folder: Path) -> Path:
    return _imitation(folder) / "state.json"


# Every file of every format that is spoiled, by a name for it.
SAMPLES: Mapping[str, Make] = {
    make.__name__: make
    for make in (
        d4rl, d4rl_packed, d4rl_filtered, robomimic, npz, npz_packed,
        minari_metadata, minari_hdf5, minari_arrow, minari_parquet,
        lerobot_data, lerobot_information, lerobot_old_information, lerobot_episodes, lerobot_lines,
        imitation_arrow, imitation_state,
    )
}  # fmt: skip


def root_of(folder: Path, target: Path) -> Path:
    """What is given to `load`: the file itself, or the folder of its data set."""
    return target if target.parent == folder else folder / "set"

"""Loading a file, alone and with training's checks, against h5py reading its arrays and D4RL's way, row by row."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py  # pyright: ignore[reportMissingTypeStubs]
import numpy as np

_EPISODE = 1_000
_OBSERVATIONS, _ACTIONS, _PLACES, _RATE = 11, 3, 5, 125  # Hopper's
_MANY, _BLOCKS = 1_000_000, 3  # more rows than these are timed so often at most
_BY_ROW = 1_000_000  # more rows than this are not joined one by one: it takes minutes


def data_benchmark(
    rows: tuple[int, ...], blocks: int, show: Callable[[str], None], *, compressed: bool
) -> list[dict[str, Any]]:
    """Seconds and memory of each side on files of ``rows`` rows, in processes of their own, in turn."""
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for count in rows:
            path = Path(folder) / f"{count}.hdf5"
            _write(path, count, compressed=compressed)
            results.append(_compare(path, count, blocks if count <= _MANY else min(blocks, _BLOCKS)))
            row = results[-1]
            show(f"{count:>11,} rows  h5py {row['h5py']:7.3f} s")
            for name, what in (("ours", "load"), ("checked", "load with training's checks")):
                told = row[name]
                show(
                    f"{'':17} {what:27} {told['seconds']:7.3f} s  ratio {told['ratio']:.2f} ({told['low']:.2f} to "
                    f"{told['high']:.2f})  memory {told['memory']:.2f} of the arrays"
                )
            if row["by_row"] is not None:
                show(f"{'':17} {'row by row, as d4rl':27} {row['by_row']:7.3f} s  ratio {row['by_row_ratio']:.2f}")
            path.unlink()
    return results


def _compare(path: Path, count: int, blocks: int) -> dict[str, Any]:
    sides = (_read, _load, _load_checked)
    read, *ours = np.array([[_run(side, path) for side in sides] for _ in range(blocks)]).T
    size = _run(_read, path, traced=True)
    by_row = _run(_by_row, path) if count <= _BY_ROW else None
    told: dict[str, Any] = {"rows": count, "h5py": round(float(np.median(read)), 4)}
    for name, side, seconds in zip(("ours", "checked"), sides[1:], ours, strict=True):
        ratios = seconds / read
        told[name] = {
            "seconds": round(float(np.median(seconds)), 4),
            "ratio": round(float(np.median(ratios)), 3),
            "low": round(float(ratios.min()), 3),
            "high": round(float(ratios.max()), 3),
            "memory": round(_run(side, path, traced=True) / size, 3),
        }
    told["by_row"] = None if by_row is None else round(by_row, 3)
    told["by_row_ratio"] = None if by_row is None else round(by_row / told["h5py"], 2)
    return told


def _run(work: Callable[[Path], object], path: Path, *, traced: bool = False) -> float:
    """Seconds that a side takes in a process of its own, or the most bytes that its arrays take at a time."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (work, path, traced))


def _measured(work: Callable[[Path], object], path: Path, traced: bool) -> float:
    _prepare()
    if traced:
        tracemalloc.start()
        work(path)
        return float(tracemalloc.get_traced_memory()[1])
    started = time.perf_counter()
    work(path)
    return time.perf_counter() - started


def _prepare() -> None:
    """What is no part of loading: imports, and the first environment."""
    from ..datasets import load  # noqa: F401  # pyright: ignore[reportUnusedImport]
    from ..robots import find_task

    find_task("hopper").make().close()


def _read(path: Path) -> object:
    with h5py.File(path) as file:
        return [file[key][()] for key in file]  # pyright: ignore


def _load(path: Path) -> object:
    from ..datasets import load

    return load(path, "hopper")


def _load_checked(path: Path) -> object:
    from ..datasets import load

    return load(path, "hopper", examine=True)


def _by_row(path: Path) -> object:
    """As D4RL's `qlearning_dataset` goes about it: a loop over rows that looks at each mark and joins lists."""
    with h5py.File(path) as file:
        data: dict[str, Any] = {key: file[key][()] for key in file}  # pyright: ignore
    kept: dict[str, list[Any]] = {name: [] for name in ("observation", "next", "action", "reward", "done")}
    for row in range(len(data["rewards"]) - 1):
        if data["timeouts"][row]:
            continue
        kept["observation"].append(data["observations"][row].astype(np.float32))
        kept["next"].append(data["observations"][row + 1].astype(np.float32))
        kept["action"].append(data["actions"][row].astype(np.float32))
        kept["reward"].append(data["rewards"][row].astype(np.float32))
        kept["done"].append(bool(data["terminals"][row]))
    return [np.array(column) for column in kept.values()]


def _packed(shape: tuple[int, ...]) -> dict[str, Any]:
    """With D4RL's compression."""
    return {"chunks": (_EPISODE, *shape[1:]), "compression": "gzip"}


def _write(path: Path, count: int, *, compressed: bool) -> None:
    """A file in D4RL's layout, of smooth rows, piece by piece."""
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        shapes = {"observations": (count, _OBSERVATIONS), "next_observations": (count, _OBSERVATIONS)}
        shapes |= {"actions": (count, _ACTIONS), "rewards": (count,)}
        arrays: Any = {
            key: file.create_dataset(key, shape, np.float32, **(_packed(shape) if compressed else {}))
            for key, shape in shapes.items()
        }
        for begin in range(0, count, _EPISODE):
            end = min(begin + _EPISODE, count)
            speeds = np.cumsum(random.normal(0, 0.003, (end - begin + 1, _OBSERVATIONS - _PLACES)), 0)
            places = np.cumsum(speeds[:, -_PLACES:] / _RATE, 0)  # or the checks would have something to say
            walk = np.concatenate((places, speeds), 1).astype(np.float32)
            arrays["observations"][begin:end], arrays["next_observations"][begin:end] = walk[:-1], walk[1:]
            arrays["actions"][begin:end] = np.tanh(walk[:-1, -_ACTIONS:])
            arrays["rewards"][begin:end] = walk[:-1, -1]
        ends = np.arange(count) % _EPISODE == _EPISODE - 1
        file["terminals"], file["timeouts"] = np.zeros(count, bool), ends
        file.attrs.update({"env_id": "Hopper-v5", "env_kwargs": "{}"})

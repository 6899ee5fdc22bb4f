"""Loading a file against h5py reading its arrays, and against rows joined one by one as D4RL does it."""

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
_OBSERVATIONS, _ACTIONS = 11, 3  # Hopper's
_BY_ROW = 1_000_000  # more rows than this are not joined one by one: it takes minutes


def data_benchmark(rows: tuple[int, ...], blocks: int, show: Callable[[str], None]) -> list[dict[str, Any]]:
    """Seconds and memory of each side on files of ``rows`` rows, in processes of their own, in turn."""
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for count in rows:
            path = Path(folder) / f"{count}.hdf5"
            _write(path, count)
            results.append(_compare(path, count, blocks))
            row = results[-1]
            by_row = (
                ""
                if row["by_row"] is None
                else f"  row by row {row['by_row']:7.2f} s, ratio {row['ours_to_by_row']:.4f}"
            )
            show(
                f"{count:>11,} rows  h5py {row['h5py']:6.3f} s  ours {row['ours']:6.3f} s  ratio {row['ratio']:.2f} "
                f"({row['low']:.2f} to {row['high']:.2f})  memory {row['memory']:.2f} of the arrays{by_row}"
            )
            path.unlink()
    return results


def _compare(path: Path, count: int, blocks: int) -> dict[str, Any]:
    pairs = np.array([(_run(_read, path), _run(_load, path)) for _ in range(blocks)])
    ratios = pairs[:, 1] / pairs[:, 0]
    memory, size = _run(_load, path, traced=True), _run(_read, path, traced=True)
    by_row = round(_run(_by_row, path), 3) if count <= _BY_ROW else None
    ours = float(np.median(pairs[:, 1]))
    return {
        "rows": count,
        "h5py": round(float(np.median(pairs[:, 0])), 4),
        "ours": round(ours, 4),
        "ratio": round(float(np.median(ratios)), 3),
        "low": round(float(ratios.min()), 3),
        "high": round(float(ratios.max()), 3),
        "memory": round(memory / size, 3),
        "by_row": by_row,
        "ours_to_by_row": None if by_row is None else round(ours / by_row, 5),
    }


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


def _write(path: Path, count: int) -> None:
    """A file in D4RL's layout and with its compression, of smooth rows, piece by piece."""
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        shapes = {"observations": (count, _OBSERVATIONS), "next_observations": (count, _OBSERVATIONS)}
        shapes |= {"actions": (count, _ACTIONS), "rewards": (count,)}
        arrays: Any = {
            key: file.create_dataset(key, shape, np.float32, chunks=(_EPISODE, *shape[1:]), compression="gzip")
            for key, shape in shapes.items()
        }
        for begin in range(0, count, _EPISODE):
            end = min(begin + _EPISODE, count)
            walk = np.cumsum(random.normal(0, 0.1, (end - begin + 1, _OBSERVATIONS)), 0).astype(np.float32)
            arrays["observations"][begin:end], arrays["next_observations"][begin:end] = walk[:-1], walk[1:]
            arrays["actions"][begin:end] = np.tanh(walk[:-1, :_ACTIONS])
            arrays["rewards"][begin:end] = walk[:-1, 0]
        ends = np.arange(count) % _EPISODE == _EPISODE - 1
        file["terminals"], file["timeouts"] = np.zeros(count, bool), ends
        file.attrs.update({"env_id": "Hopper-v5", "env_kwargs": "{}"})

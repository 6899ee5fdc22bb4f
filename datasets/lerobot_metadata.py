"""What ``meta`` says of a LeRobot data set, read without trust and compared with its data (:mod:`~.lerobot`)."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (pyarrow brings no types.)

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..robots import InputError
from .arrow_files import damages, read_parquet
from .lerobot_writing import DATA, OURS, pyarrow_part
from .limits import in_words, parse_json, read_json

_log = logging.getLogger(__name__)

_VERSIONS = ("v2.0", "v2.1", "v3.0")
_OLD_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
# A width of nine digits would be a name of a gigabyte.
_PATTERN = re.compile(r"([^{}]|\{\w+(:0?\d?d?)?\}){1,200}")


def information(folder: Path) -> dict[str, Any]:
    """``meta/info.json``, with what is needed of it there."""
    path = folder / "meta" / "info.json"
    try:
        information = read_json(path)
        version, rate = information["codebase_version"], float(information["fps"])
        shapes = [[int(size) for size in feature["shape"]] for feature in information["features"].values()]
        ours = information.get(OURS, {})
        lists = [
            *ours.get("episodes", {}).values(),
            *(feature["shape"] for feature in information["features"].values()),
        ]
        dictionaries = [ours.get("episodes", {}), ours.get("attributes", {}), *information["features"].values()]
        sound = 0 < rate < math.inf and bool(shapes) and all(isinstance(value, dict) for value in dictionaries)
        sound = sound and all(isinstance(value, list) for value in lists)
        sound = sound and all("dtype" in feature for feature in information["features"].values())
    except FileNotFoundError as error:
        raise InputError(f"{folder}: there is no LeRobot data set (no meta/info.json); give its folder") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise InputError(
            f"{path}: cannot be read ({in_words(repr(error))}); download or record the data set again"
        ) from error
    if not sound:
        raise InputError(f"{path}: its 'fps', 'features' or '{OURS}' are damaged; download or record it again")
    if version not in _VERSIONS:
        can = f"but {', '.join(_VERSIONS)} can be read; convert it with LeRobot"
        raise InputError(f"{folder}: is of LeRobot's version {in_words(version)}, {can}")
    return information


def check_metadata(
    folder: Path, information: Mapping[str, Any], episodes: np.ndarray, starts: np.ndarray, source: np.ndarray
) -> None:
    """Refuse data whose episodes are not those of ``meta``; log what else is wrong there and harms nobody here."""
    told = _told(folder, information)
    lengths = dict(zip(episodes.tolist(), np.diff(np.append(starts, len(source))).tolist(), strict=True))
    files = dict(zip(episodes.tolist(), source[starts].tolist(), strict=True))
    if missing := sorted(told.keys() - lengths.keys()):
        file = told[missing[0]][1]
        gone = "has no frames of it" if (source == file).any() else "is missing"
        raise InputError(
            f"{folder}: episode {missing[0]} is not in 'data' ({len(missing)} of {len(told)} are not): "
            f"{in_words(file)}, where it is by 'meta', {gone}; download or copy the data set again"
        )
    if unknown := sorted(lengths.keys() - told.keys()):
        raise InputError(
            f"{folder}: 'meta' knows nothing of episode {unknown[0]} in {files[unknown[0]]}: the recording was not "
            "finished, or files of two data sets are mixed; copy it again, or remove that episode"
        )
    if differing := [episode for episode, length in lengths.items() if told[episode][0] != length]:
        episode = differing[0]
        raise InputError(
            f"{folder}: episode {episode} has {lengths[episode]} frames in {files[episode]}, but {told[episode][0]} by "
            f"'meta' ({len(differing)} of {len(told)} differ); download or record it again"
        )
    for name, there in (("total_episodes", len(lengths)), ("total_frames", len(source))):
        if information.get(name, there) != there:
            raise InputError(
                f"{folder}: '{name}' in meta/info.json is {in_words(information[name])}, but there are {there}: files "
                "are missing, or it was edited; download the data set again, or correct the number"
            )
    if elsewhere := [episode for episode, file in files.items() if told[episode][1] != file]:
        _log.warning(
            "%s: 'meta' names another file for %d of %d episodes (episode %d: %s, but it is in %s); the data's own "
            "'episode_index' is trusted",
            folder, len(elsewhere), len(files), elsewhere[0], in_words(told[elsewhere[0]][1]), files[elsewhere[0]],
        )  # fmt: skip
    if [told[episode][2] for episode in files if told[episode][2] is not None] not in ([], starts.tolist()):
        _log.warning("%s: 'dataset_from_index' in 'meta' is wrong; it is not used here, but LeRobot uses it", folder)


def _told(folder: Path, information: Mapping[str, Any]) -> dict[int, tuple[int, str, int | None]]:
    """What ``meta`` says of each episode: its length, file, and, in version 3.0, first row."""
    old = str(information["codebase_version"]).startswith("v2")
    pattern, chunk = str(information.get("data_path", _OLD_DATA if old else DATA)), information.get("chunks_size", 1000)
    if not _PATTERN.fullmatch(pattern):
        why = in_words(repr(pattern))
        raise InputError(f"{folder}: 'data_path' in meta/info.json is {why}, which is no pattern of a path; correct it")
    found: dict[int, tuple[int, str, int | None]] = {}
    files = [folder / "meta" / "episodes.jsonl"] if old else sorted((folder / "meta" / "episodes").glob("*/*.parquet"))
    if not files or not files[0].exists():
        where = "meta/episodes.jsonl" if old else "meta/episodes/*/*.parquet"
        raise InputError(f"{folder}: {where} is missing, which tells of its episodes; download the data set again")
    for file in files:
        try:
            for row in _lines(file) if old else _parquet_rows(file, stop="stats/"):
                episode = int(row["episode_index"])
                place = {"episode_chunk": episode // chunk, "episode_index": episode}
                if not old:
                    place = {name: int(row[f"data/{name}"]) for name in ("chunk_index", "file_index")}
                if episode in found:
                    raise InputError(f"{file}: tells of episode {episode} twice; download or record the data set again")
                found[episode] = (int(row["length"]), pattern.format(**place), row.get("dataset_from_index"))
        except InputError:
            raise
        except damages() as error:
            why = in_words(repr(error))
            raise InputError(
                f"{file}: cannot be read ({why}); download it again, or, where a recording was not finalized, "
                "record it again"
            ) from error
    return found


def _lines(file: Path) -> list[dict[str, Any]]:
    return [parse_json(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def _parquet_rows(file: Path, stop: str = " ") -> list[dict[str, Any]]:
    """The rows of a small table, without the columns whose names begin with ``stop``."""
    names = pyarrow_part("pyarrow.parquet").read_schema(file).names
    return read_parquet(file, [name for name in names if not name.startswith(stop)]).to_pylist()


def tasks(folder: Path) -> list[str]:
    """What the robot was told to do, in words; more than one is logged, as they are not kept apart."""
    old, new = folder / "meta" / "tasks.jsonl", folder / "meta" / "tasks.parquet"
    try:
        rows = _parquet_rows(new) if new.exists() else _lines(old) if old.exists() else []
        told = [str(text) for row in rows for name, text in row.items() if name != "task_index"]
    except InputError:
        raise
    except damages() as error:
        why = in_words(repr(error))
        raise InputError(f"{folder}: meta/tasks cannot be read ({why}); download it again") from error
    if len(told) > 1:
        _log.warning("%s: holds %d tasks (%s), which are read as one", folder, len(told), in_words("; ".join(told)))
    return told

"""D4RL's data sets by name: their files, fetched when they are not there, and scores normalised as D4RL does it.

The package d4rl is not needed for either, and not imported: what is known of the names stands in
:mod:`~.d4rl_table`. A file is read by :func:`~.d4rl.read_d4rl`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np

from ..robots import InputError, nearest
from .d4rl_table import DATASETS, FAMILIES, D4rlDataset
from .download import Progress, fetch, verify

PREFIX = "d4rl/"
_HDF5 = b"\x89HDF\r\n\x1a\n"  # with which every HDF5 file without a user block begins (HDF5 format, III.A)
_PATTERNS = "hopper-medium-v2, antmaze-umaze-v2, maze2d-large-v1, door-human-v1 or kitchen-mixed-v0"


def find_d4rl(name: str) -> D4rlDataset:
    """What is known of a data set, by its name with or without ``d4rl/``.

    Errors: :class:`InputError` with the nearest names when there is none of that name.
    """
    plain = name.removeprefix(PREFIX)
    if plain in DATASETS:
        return DATASETS[plain]
    close = difflib.get_close_matches(plain, DATASETS, n=1, cutoff=0.5)
    hint = nearest(plain, DATASETS) if close else f"names are like {_PATTERNS}"
    raise InputError(f"unknown D4RL data set {plain!r}: {hint}")


def resolve_d4rl(name: str, *, download: bool = True, progress: Progress | None = None) -> Path:
    """The file of a D4RL data set (``d4rl/hopper-expert-v2``, or without ``d4rl/``), downloaded if need be.

    It is looked for in ``$UNDERSTUDY_DATA/d4rl`` and ``$UNDERSTUDY_DATA``, or without that variable in
    ``understudy/datasets/d4rl`` of ``$XDG_CACHE_HOME`` or ``~/.cache``; then where D4RL itself keeps its files,
    ``$D4RL_DATASET_DIR`` or ``~/.d4rl/datasets`` (d4rl 1.1, ``d4rl/offline_env.py``). A download goes to the first of
    these; ``progress`` is told its bytes, done and in all. Files that were downloaded here are checked against
    the hash recorded then.

    Errors: :class:`InputError` for an unknown name (with the nearest ones), for data that are pictures, for a file
    that is not the one downloaded, when there is none and ``download`` is false, and as
    :func:`~.download.fetch`.
    """
    found = find_d4rl(name)
    excluded = FAMILIES[found.family].excluded
    if excluded:
        raise InputError(f"{PREFIX}{found.name}: its {excluded}, and this library learns from states; choose another")
    places = [folder / found.file for folder in folders()]
    for path in places:
        if _is_file(path):
            verify(path)
            return path
    if not download:
        looked = ", ".join(str(path.parent) for path in places)
        raise InputError(
            f"{PREFIX}{found.name}: {found.file} is in none of {looked}; allow the download, or get it from "
            f"{found.address} and put it at {places[0]}"
        )
    fetch(found.address, places[0], progress=progress, begins=_HDF5)
    return places[0]


def folders() -> list[Path]:
    """Where files of D4RL may be; downloads go to the first.

    Errors: :class:`InputError` when nothing says where: neither a variable nor a home directory.
    """
    found: list[Path] = []
    given, cache = os.environ.get("UNDERSTUDY_DATA"), Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        if given:
            own = Path(given).expanduser()
            found += [own / "d4rl", own]
        else:  # the specification says to ignore a relative path
            cache = cache if cache.is_absolute() else Path.home() / ".cache"
            found.append(cache / "understudy" / "datasets" / "d4rl")
        found.append(Path(os.environ.get("D4RL_DATASET_DIR") or "~/.d4rl/datasets").expanduser())
    except RuntimeError as error:
        if not found:
            raise InputError("there is no home directory to keep data sets in; set UNDERSTUDY_DATA") from error
    return found


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise InputError(f"{path}: cannot be looked for ({error.strerror}); check who may read there") from error


@overload
def normalised_score(name: str, returns: float) -> float: ...
@overload
def normalised_score(name: str, returns: Sequence[float] | np.ndarray) -> np.ndarray: ...
def normalised_score(name: str, returns: float | Sequence[float] | np.ndarray) -> float | np.ndarray:
    """The score of returns on a D4RL data set: 0 for random actions, 1 for D4RL's expert, a fraction and no per cent.

    Of one return, or of an array of any shape. As ``get_normalized_score`` of d4rl 1.1 (``d4rl/__init__.py``).

    Errors: :class:`InputError` for an unknown name, or returns that are no numbers.
    """
    found = find_d4rl(name)
    try:
        values = np.asarray(returns, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{PREFIX}{found.name}: returns are {returns!r} but must be numbers") from error
    scores = (values - found.minimum) / (found.maximum - found.minimum)
    return scores if scores.ndim else float(scores)

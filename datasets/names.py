"""What people call their data, opened as a table whatever its format.

=============================  =====================================================================================
``hopper-expert``              what comes with the suite
``d4rl/hopper-expert-v2``      a data set of D4RL's, fetched once
``minari/<id>``                a data set of Minari's, fetched once by that package
``lerobot:<folder>``           LeRobot's, versions 2.1 and 3.0
a path                         HDF5 in D4RL's or robomimic's layout, .npz, a folder of Minari, LeRobot or `imitation`,
                               a log of `understudy deploy`
=============================  =====================================================================================
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator
from pathlib import Path

from ..robots import InputError, Task, nearest
from . import imitation_folder, lerobot, minari, npz, robomimic, robot_log
from .bundles import bundled
from .d4rl_adapting import adapted, of_file
from .d4rl_names import PREFIX, find_d4rl, resolve_d4rl
from .d4rl_table import D4rlDataset
from .download import Progress
from .hdf5 import Hdf5File
from .table import Table

_MINARI, _LEROBOT = "minari/", "lerobot:"


@dataclasses.dataclass(frozen=True)
class Parts:
    """Which parts of a file of several are meant.

    ``keys`` are the parts of the observation, in their order (robomimic, LeRobot), ``mask`` is a list of episodes that
    the file has under that name, and ``done_mode`` the one with which its dones were made (robomimic).
    """

    keys: tuple[str, ...] = ()
    mask: str | None = None
    done_mode: int | None = None


@contextlib.contextmanager
def open_data(
    name: str | Path, task: Task | None = None, parts: Parts | None = None, *, progress: Progress | None = None
) -> Generator[Table]:
    """Open data by their name or path; ``progress`` is told how far a download is.

    ``task`` is for formats that do not name theirs.

    Errors: :class:`InputError` for an unknown name (with the nearest ones), for a download that fails, for ``parts``
    that the format does not have, and for whatever is wrong with the file.
    """
    parts = parts or Parts()
    kind, place = format_of(name, parts)
    if kind == "lerobot":
        yield lerobot.open_lerobot(place, observations=parts.keys or None)
    elif kind == "minari":
        yield minari.open_minari(place, download=str(name).startswith(_MINARI))
    elif kind == "robot log":
        yield robot_log.open_robot_log(Path(place))
    elif kind == "imitation":
        yield imitation_folder.open_imitation_folder(Path(place), task)
    elif kind == "npz":
        yield npz.open_npz(Path(place), task)
    elif kind == "robomimic":
        yield robomimic.open_robomimic(Path(place), task, keys=parts.keys, mask=parts.mask, done_mode=parts.done_mode)
    else:
        with Hdf5File(resolve(name, progress=progress)) as file:
            found = d4rl_of(file, str(name))
            yield file if found is None else adapted(file, found)


def format_of(name: str | Path, parts: Parts) -> tuple[str, str]:
    """The format of data by their name or path, and the path, or Minari's id, that their reader takes.

    What is of no other format is D4RL's, to be found by :func:`resolve`.

    Errors: :class:`InputError` for ``parts`` that the format does not have.
    """
    text = str(name)
    path = Path(text.removeprefix(_LEROBOT))
    if text.startswith(_LEROBOT) or (path.is_dir() and lerobot.claims(path)):
        kind = "lerobot"
    elif text.startswith(_MINARI) and not path.exists():
        kind, path = "minari", Path(text.removeprefix(_MINARI))
    elif path.exists() and minari.claims(path):
        kind = "minari"
    elif path.is_dir() and robot_log.claims(path):
        kind = "robot log"
    elif path.is_dir() and imitation_folder.claims(path):
        kind = "imitation"
    elif path.is_file() and npz.claims(path):
        kind = "npz"
    elif path.is_file() and robomimic.claims(path):
        kind = "robomimic"
    else:
        kind = "d4rl"
    _check_parts(parts, text, {"lerobot": ("keys",), "robomimic": ("keys", "mask", "done_mode")}.get(kind, ()))
    return kind, str(path)


def is_there(name: str | Path) -> bool:
    """Whether there is something by this name to be opened, sound or not."""
    try:
        kind, place = format_of(name, Parts())
        path = resolve_d4rl(str(name), download=False) if str(name).startswith(PREFIX) else Path(place)
    except InputError:
        return False
    return path.is_file() if kind == "d4rl" else path.exists()


def d4rl_of(file: Hdf5File, name: str) -> D4rlDataset | None:
    """The data set of D4RL's that an open file is, by the name it was asked for or its own; none if it is not."""
    found = find_d4rl(name) if name.startswith(PREFIX) else of_file(file.path.name)
    # D4RL's files say nothing of themselves; one of that name which does is somebody else's.
    return None if found is None or "env_id" in file.attributes() else found


def _check_parts(parts: Parts, name: str, known: tuple[str, ...]) -> None:
    """Refuse what a format does not have."""
    for option in ("keys", "mask", "done_mode"):
        if getattr(parts, option) not in ((), None) and option not in known:
            raise InputError(f"{name} has no {option} to choose: leave it out")


def resolve(name: str | Path, *, progress: Progress | None = None) -> Path:
    """The path of a file by its name, downloaded if need be.

    Errors: :class:`InputError` for an unknown name, with the nearest ones, and for a download that fails.
    """
    path = Path(name)
    known = bundled()
    if str(name) in known:
        return known[str(name)]
    if str(name).startswith(PREFIX) and not path.exists():
        return resolve_d4rl(str(name), progress=progress)
    if path.name == str(name) and not path.suffix and not path.exists():
        hint = nearest(path.name, known) if known else "none are installed"
        raise InputError(f"unknown demonstrations {path.name!r}: {hint.rstrip('?')}, or give the path of an .hdf5 file")
    return path

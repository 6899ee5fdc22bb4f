"""What people call their data: a bundled name or a path, opened as a table whatever its format."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path

from ..robots import InputError, nearest
from .bundles import bundled
from .hdf5 import Hdf5File
from .table import Table


@contextlib.contextmanager
def open_data(name: str | Path) -> Generator[Table]:
    """Open data by their name or path.

    Errors: :class:`InputError` for an unknown name (with the nearest ones), and for whatever is wrong with the file.
    """
    with Hdf5File(resolve(name)) as table:
        yield table


def resolve(name: str | Path) -> Path:
    """The path of data by their name. Errors: :class:`InputError` for an unknown name, with the nearest ones."""
    path = Path(name)
    known = bundled()
    if str(name) in known:
        return known[str(name)]
    if path.name == str(name) and not path.suffix and not path.exists():
        hint = nearest(path.name, known) if known else "none are installed"
        raise InputError(f"unknown demonstrations {path.name!r}: {hint.rstrip('?')}, or give the path of an .hdf5 file")
    return path

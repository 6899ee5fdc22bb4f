"""Arrow and Parquet files checked before they are read: pyarrow believes what their headers say."""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# (pyarrow brings no types.)

from __future__ import annotations

import importlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from .limits import check_promise

_PYTHON = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError, MemoryError)
_VALUE = 8  # bytes


def damages() -> tuple[type[Exception], ...]:
    """What reading damaged files raises: pyarrow's own exceptions, and, by trial, many of Python's."""
    return (*_PYTHON, importlib.import_module("pyarrow").ArrowException)


def check_parquet(path: Path, opened: Any, columns: Collection[str]) -> None:
    """See whether the values of some columns can be in a file, an open ``pyarrow.parquet.ParquetFile``.

    Runs of equal values take no room in it, so a few bytes can promise any number of them.

    Errors: :class:`InputError` when they cannot.
    """
    metadata, promised = opened.metadata, 0
    for group in (metadata.row_group(number) for number in range(metadata.num_row_groups)):
        for column in (group.column(number) for number in range(group.num_columns)):
            if column.path_in_schema.partition(".")[0] in columns:
                promised += _VALUE * max(0, column.num_values, group.num_rows)
    check_promise(path, "its columns", promised, path.stat().st_size)


def check_arrow(path: Path) -> None:
    """See whether the batches of an Arrow file are what its headers say; wrong offsets would end the process.

    Errors: :class:`InputError` when there are more rows than can be, and what pyarrow raises over damage.
    """
    arrow, ipc = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.ipc")
    rows = 0
    # Mapped, so that no more is taken than is there, whatever lengths it promises.
    with arrow.memory_map(str(path)) as file, ipc.open_file(file) as opened:
        for number in range(opened.num_record_batches):
            batch = opened.get_batch(number)
            rows += batch.num_rows
            check_promise(path, "its rows", _VALUE * rows, path.stat().st_size)
            batch.validate(full=True)

"""Arrow and Parquet files checked before they are read: pyarrow believes what their headers say."""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# (pyarrow brings no types.)

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .limits import check_promise

_PYTHON = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError, MemoryError)
_VALUE = 8  # bytes


def damages() -> tuple[type[Exception], ...]:
    """What reading damaged files raises: pyarrow's own exceptions, and, by trial, many of Python's."""
    return (*_PYTHON, importlib.import_module("pyarrow").ArrowException)


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> Any:
    """Some columns of a Parquet file, or all, as a table.

    Runs of equal values take no room in it, so that a few bytes can promise any number of rows; they are read by and
    by. (Of the promises of single columns pyarrow 26 ends the process when they are damaged, so nobody asks for them.)

    No chunk of the table is of two row groups. Errors: :class:`InputError` when there are more rows than can be, and
    what pyarrow raises over damage (:func:`damages`).
    """
    arrow, there = importlib.import_module("pyarrow"), path.stat().st_size
    with importlib.import_module("pyarrow.parquet").ParquetFile(path) as opened:
        check_promise(path, "its rows", _VALUE * max(0, opened.metadata.num_rows), there)
        batches: list[Any] = []
        size = 0
        for group in range(opened.num_row_groups):
            for batch in opened.iter_batches(row_groups=[group], columns=columns):
                size += batch.nbytes
                check_promise(path, "its rows", size, there)
                batches.append(batch)
        schema = batches[0].schema if batches else opened.schema_arrow
    return arrow.Table.from_batches(batches, schema)


def read_arrow(path: Path) -> Any:
    """An Arrow file as a table, whose batches are seen to be what its headers say; wrong offsets would end the process.

    Errors: :class:`InputError` when there are more rows than can be, and what pyarrow raises over damage.
    """
    arrow, ipc = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.ipc")
    rows, batches = 0, list[Any]()
    # Mapped, so that no more is taken than is there, whatever lengths it promises.
    with arrow.memory_map(str(path)) as file, ipc.open_file(file) as opened:
        for number in range(opened.num_record_batches):
            batch = opened.get_batch(number)
            rows += batch.num_rows
            check_promise(path, "its rows", _VALUE * rows, path.stat().st_size)
            batch.validate(full=True)
            batches.append(batch)
        return arrow.Table.from_batches(batches, opened.schema)

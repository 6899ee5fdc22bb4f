"""Rows looked at in blocks: one pass over large columns, without a second array of their size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_ROWS = 1 << 14  # of a block: some columns of it fit into a processor's cache
_SAMPLE = 100_000  # rows by which a column's spread is known well enough


def blocks(count: int) -> Iterator[slice]:
    """The rows 0 to ``count`` in pieces."""
    return (slice(begin, min(begin + _ROWS, count)) for begin in range(0, count, _ROWS))


def rows_of(mask: np.ndarray) -> np.ndarray:
    """The rows in which a mask (N, X) is set somewhere, in order; quicker than ``any`` where there are few."""
    rows = np.flatnonzero(mask) // mask.shape[1]
    return rows[np.append(True, rows[1:] != rows[:-1])] if len(rows) else rows


def sampled(count: int) -> np.ndarray:
    """All rows, or of many a random sample, in order: always the same."""
    if count <= _SAMPLE:
        return np.arange(count)
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng(count).integers(0, count, _SAMPLE)] = True
    return np.flatnonzero(chosen)


def unequal_rows(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The rows in which two arrays (N, X) differ, a NaN from itself included, in order."""
    found = [rows_of(first[rows] != second[rows]) + rows.start for rows in blocks(len(first))]
    return np.concatenate(found) if found else np.empty(0, np.int64)

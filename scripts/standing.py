"""How a comparison stands: a table that lives in the terminal, plain lines elsewhere, and `compare status`."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ..imitation.comparison.matrix import Cell, Matrix, Standing

_REFRESH = 2.0  # seconds between readings of the cells' files


class Display:
    """Shows the cells of a comparison that is at work. Call it as often as you like."""

    def __init__(self, matrix: Matrix, *, quiet: bool) -> None:
        self._matrix, self._quiet = matrix, quiet
        self._console = Console(markup=False, highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._read = 0.0
        self._said: dict[str, tuple[str, float | None]] = {}

    def __enter__(self) -> Self:
        if self._quiet:
            return self
        self._console.print(f"comparison in {self._matrix.directory}")
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self) -> None:
        """Read how the cells stand and show it, unless that has just been done."""
        if self._quiet or time.monotonic() - self._read < _REFRESH:
            return
        self._read = time.monotonic()
        found = [(cell, self._matrix.standing(cell)) for cell in self._matrix.cells.values()]
        if self._live is not None:
            self._live.update(table(self._matrix, found), refresh=True)
            return
        for cell, standing in found:
            now = (standing.state, standing.score)
            if self._said.get(cell.name) != now:
                self._said[cell.name] = now
                self._console.print(f"{cell.name}: {_in_words(self._matrix, cell, standing)}")


def print_status(matrix: Matrix, *, as_json: bool) -> None:
    """The table of all cells, or one line of JSON."""
    found = [(cell, matrix.standing(cell)) for cell in matrix.cells.values()]
    if as_json:
        cells = [{**dataclasses.asdict(cell), **dataclasses.asdict(standing)} for cell, standing in found]
        print(json.dumps({"directory": str(matrix.directory), "cells": cells}))
        return
    console = Console(markup=False, highlight=False)
    console.print(table(matrix, found))
    for cell, standing in found:
        if standing.state == "failed":
            console.print(f"{cell.name}: {standing.error}; its log is {matrix.path(cell, '.log')}", soft_wrap=True)


def table(matrix: Matrix, found: list[tuple[Cell, Standing]]) -> Table:
    """A row for each cell."""
    states = [standing.state for _, standing in found]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    grid = Table(title=f"{len(found)} cells: {counts}")
    for name in ("task", "learner", "seeds", "state", "steps", "score"):
        grid.add_column(name, justify="right" if name in ("seeds", "steps", "score") else "left")
    for cell, standing in found:
        score = "" if standing.score is None else f"{standing.score:.3f}"
        seeds = f"{cell.seed} to {cell.seed + cell.runs - 1}"
        grid.add_row(cell.task, cell.learner, seeds, standing.state, _steps(matrix, cell, standing), score)
    return grid


def _steps(matrix: Matrix, cell: Cell, standing: Standing) -> str:
    total = matrix.plan.steps[cell.task, cell.learner]
    return f"{standing.step:,} of {total:,}"


def _in_words(matrix: Matrix, cell: Cell, standing: Standing) -> str:
    words = f"{standing.state}, {_steps(matrix, cell, standing)} steps"
    if standing.score is not None:
        words += f", score {standing.score:.3f}"
    return words if standing.error is None else f"{words}, {standing.error}"

"""What a command shows on the way: a bar on a terminal, a plain line elsewhere, nothing when it is quiet."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


@contextlib.contextmanager
def progress(title: str, total: float, *, quiet: bool) -> Generator[Callable[[float], None]]:
    """Gives a function that is told how much of ``total`` has been done since it was last called."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        if not quiet:
            print(f"{title} …", flush=True)
        yield lambda amount: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda amount: bar.update(task, advance=amount)

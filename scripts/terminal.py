"""What a command shows on the way: a bar on a terminal, a plain line elsewhere, nothing when it is quiet."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


@contextlib.contextmanager
def progress(title: str, total: float, *, quiet: bool) -> Generator[Callable[[float], None]]:
    """Gives a function that is told how much of ``total`` has been done since it was last called."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        if not quiet:
            print(f"{title} …", flush=True)
        yield lambda amount: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda amount: bar.update(task, advance=amount)


def fetching(*, quiet: bool) -> Callable[[int, int | None], None]:
    """Shows how far a download is, on the error stream: a bar on a terminal, a line for each tenth elsewhere."""
    console = Console(stderr=True)
    bar: Progress | None = None
    said = -1

    def show(done: int, whole: int | None) -> None:
        nonlocal bar, said
        if quiet:
            return
        if not console.is_terminal:
            tenth = 10 * done // whole if whole else done // 10_000_000
            if tenth != said:
                said = tenth
                of = f" of {whole / 1e6:.1f}" if whole else ""
                print(f"fetched {done / 1e6:.1f}{of} MB", file=sys.stderr, flush=True)
            return
        if bar is None:
            bar = Progress(
                TextColumn("fetching"), BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=console
            )
            bar.add_task("", total=whole)
            bar.start()
        bar.update(bar.task_ids[0], completed=done, total=whole)
        if whole is not None and done >= whole:
            bar.stop()

    return show

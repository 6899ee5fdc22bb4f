"""What both fuzzers share: ways to spoil bytes, and what may come of reading them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import traceback
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from unittest import mock

from understudy.datasets import Demonstrations, load, recorded, stream
from understudy.datasets.doctor import diagnose
from understudy.datasets.findings import Report
from understudy.datasets.names import open_data
from understudy.robots import InputError, Task, find_task

# Spoiling.

_NUMBERS = (0, 1, 2, 7, 8, 255, 256, 4096, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
_WORDS = (
    b"-1", b"0", b"1e999", b"NaN", b"-1e-320", b"99999999999999999999999", b"null", b"true", b"[]", b"{}", b'""', b"[[",
    b"{", b'"\\n"', b'"\\ud800"', b'"\\u0000"', b"1e9", b"[1,[2]]", b'"x"', b'"float32"', b'{"a": 1}',
    b"[" * 3000, b"9" * 5000,
)  # fmt: skip


def spoil(content: bytes, chance: random.Random, others: tuple[bytes, ...] = ()) -> bytes:
    """Bytes with some of them flipped, cut, inserted, swapped, or other numbers or words."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        if not data:
            break
        _ONE_WAY[chance.randrange(len(_ONE_WAY))](data, chance, others)
    return bytes(data)


def _span(data: bytearray, chance: random.Random, most: int = 64) -> tuple[int, int]:
    begin = chance.randrange(len(data))
    return begin, min(len(data), begin + chance.randint(1, chance.choice((4, most, len(data)))))


def _flip(data: bytearray, chance: random.Random, _: tuple[bytes, ...]) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _byte(data: bytearray, chance: random.Random, _: tuple[bytes, ...]) -> None:
    data[chance.randrange(len(data))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))


def _number(data: bytearray, chance: random.Random, _: tuple[bytes, ...]) -> None:
    size, begin = chance.choice((2, 4, 8)), chance.randrange(len(data))
    value = chance.choice((*_NUMBERS, len(data), chance.randrange(len(data))))
    data[begin : begin + size] = (value % 2 ** (8 * size)).to_bytes(size, chance.choice(("little", "little", "big")))


def _add(data: bytearray, chance: random.Random, _: tuple[bytes, ...]) -> None:
    size, begin = chance.choice((1, 2, 4, 8)), chance.randrange(len(data))
    before = int.from_bytes(data[begin : begin + size], "little")
    data[begin : begin + size] = ((before + chance.randint(-16, 16)) % 2 ** (8 * size)).to_bytes(size, "little")


def _cut(data: bytearray, chance: random.Random, _: tuple[bytes, ...]) -> None:
    begin, end = _span(data, chance)
    del data[begin : len(data) if chance.random() < 0.2 else end]


def _insert(data: bytearray, chance: random.Random, _: tuple[bytes, ...]) -> None:
    begin, end = _span(data, chance)
    what = chance.choice((bytes(end - begin), bytes(data[begin:end]), chance.randbytes(end - begin)))
    data[begin:begin] = what


def _swap(data: bytearray, chance: random.Random, _: tuple[bytes, ...]) -> None:
    (a, b), c = _span(data, chance), chance.randrange(len(data))
    first, second = bytes(data[a:b]), bytes(data[c : c + b - a])
    data[a:b], data[c : c + b - a] = second.ljust(b - a, b"\0"), first[: len(second)]


def _splice(data: bytearray, chance: random.Random, others: tuple[bytes, ...]) -> None:
    other = chance.choice(others) if others else bytes(data)
    begin, end = _span(data, chance)
    place = begin if chance.random() < 0.5 else chance.randrange(max(1, len(other)))
    data[begin:end] = other[place : place + end - begin]


def _word(data: bytearray, chance: random.Random, _: tuple[bytes, ...]) -> None:
    """Another word in the place of one, where it is text."""
    marks = [index for index, byte in enumerate(data[:20000]) if byte in b' ,:[]{}"']
    if len(marks) < 2:
        return _number(data, chance, _)
    which = chance.randrange(len(marks) - 1)
    begin, end = marks[which] + 1, marks[min(len(marks) - 1, which + chance.choice((1, 1, 2, 3)))]
    data[begin:end] = chance.choice(_WORDS)
    return None


_ONE_WAY = (_flip, _byte, _byte, _number, _number, _add, _cut, _insert, _swap, _splice, _word)


# What may come of it.


class Wrong(AssertionError):
    """Reading had another outcome than it may have."""


def check(path: Path, read: Callable[[], object]) -> str:
    """`read`, or the sentence in which it was refused, if it is one and names the file.

    Errors: :class:`Wrong` otherwise.
    """
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            found = read()
    except InputError as error:
        _check_sentence(str(error), path)
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, MemoryError):
                raise Wrong(f"memory was asked for that is not there: {error}") from error
            cause = cause.__cause__ or cause.__context__
        return str(error)
    if isinstance(found, Report):
        for finding in found.findings:
            _check_sentence(finding.message)
        json.dumps(found.to_json())
    elif not isinstance(found, Demonstrations):
        raise Wrong(f"{type(found)} came back")
    return "read"


def _check_sentence(text: str, path: Path | None = None) -> None:
    if not text.strip() or len(text.splitlines()) != 1 or len(text) > 2000:
        raise Wrong(f"is no sentence: {text[:3000]!r}")
    if path is not None and str(path) not in text:
        raise Wrong(f"does not name {path}: {text!r}")


@contextlib.contextmanager
def kept_worlds() -> Generator[None]:
    """Make each task's environment once: making them is most of the time that reading a small file takes."""
    of, make = recorded.World.of, Task.make
    worlds, environments = dict[str, Any](), dict[str, Any]()

    def kept(task: Task) -> Any:
        key = repr((task.name, task.environment_id, dict(task.keywords), task.disturbances.to_values()))
        return worlds[key] if key in worlds else worlds.setdefault(key, of(task))

    def made(task: Task, *, render: bool = False) -> Any:
        key = repr((task.name, task.environment_id, dict(task.keywords), task.disturbances.to_values()))
        return environments[key] if key in environments else environments.setdefault(key, make(task, render=render))

    with mock.patch.object(recorded.World, "of", kept), mock.patch.object(Task, "make", made):
        yield


def in_child(work: Callable[[], str], seconds: int) -> str:
    """What work returns in a process of its own; or what ended that, such as a crash of a C library."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        said = "escaped"
        try:
            said = work()
        except BaseException:
            said = traceback.format_exc()
        finally:
            os.write(writer, said.encode("utf-8", "replace")[-60000:])
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    status = os.waitpid(child, 0)[1]
    return f"ended by {signal.Signals(os.WTERMSIG(status)).name}" if os.WIFSIGNALED(status) else said


def examine(path: Path) -> list[str]:
    """Load as the command does with a task and without, in parts, and let the doctor look: what came of each."""

    def look(task: str | None) -> Report:
        chosen = None if task is None else find_task(task)
        with open_data(path, chosen) as table:
            return diagnose(table, chosen)

    def parts() -> Demonstrations:
        found = list(stream(path, find_task("hopper"), rows=6))
        return found[0].joined(*found[1:])

    ways = (lambda: load(path, "hopper"), lambda: load(path), lambda: look("hopper"), lambda: look(None), parts)
    return [check(path, way) for way in ways]

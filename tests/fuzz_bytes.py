"""A longer hunt than the tests': bytes of valid files of each format are spoiled, and each is read in a child process.

    python tests/fuzz_bytes.py minutes=10 format=all seed=0 engine=auto keep=/tmp/fuzz

``format`` is ``all`` or names of :data:`samples.SAMPLES` with commas between. Each child has limits of time and memory,
so that a crash or hang within a C library is seen and counted, and its input is kept in a folder below ``keep``. Which
inputs are spoiled further is decided by what the child reached: lines of the readers, and kinds of sentences. With
``engine=atheris`` libFuzzer spoils (pip install atheris); ``own`` does it by :func:`fuzzed.spoil`; ``auto`` takes
atheris where it is installed. Inputs that were kept are tried again by ``again=<folder>``. With ``FUZZ_SCALE=30000`` in
the environment the files are of tens of megabytes, and the ratio of memory to them says something: ``engine=own``.
"""

from __future__ import annotations

import collections
import contextlib
import importlib.util
import json
import logging
import os
import platform
import random
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import fuzzed
import h5py
import numpy as np
import samples

_SECONDS = 10  # for a file of kilobytes, on a machine that others use too
_MEMORY = 1 << 30  # bytes of address space beyond what the process has and twice the file
_RESIDENT = 192 << 20  # bytes of memory really used beyond twice the file
_CONSTANT = 32 << 20  # bytes of memory that are not counted in the ratio of memory to the file
_COUNTERS = 1 << 14
_HERE = Path(__file__)


class Child:
    """Reading in a child process: what came of it."""

    def __init__(self, name: str, keep: Path) -> None:
        self.name, self.keep = name, keep
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz_"))
        self.target = samples.SAMPLES[name](self.folder)
        self.root = samples.root_of(self.folder, self.target)
        self.content = self.target.read_bytes()
        self.inputs, self.begin = 0, time.monotonic()
        self.kinds: collections.Counter[str] = collections.Counter()
        self.bad: dict[str, int] = {}
        self.slowest, self.most_memory, self.ratio = 0.0, 0, 0.0

    def run(self, data: bytes) -> frozenset[int]:
        """Read these bytes; returns what was reached, as numbers."""
        self.target.write_bytes(data)
        reader, writer = os.pipe()
        begin = time.monotonic()
        child = os.fork()
        if child == 0:
            os.close(reader)
            self._read(writer, len(data))
        os.close(writer)
        told = _told(reader, begin + _SECONDS + 5)
        _, status, usage = os.wait4(child, 0)
        del usage
        seconds = time.monotonic() - begin
        self.inputs += 1
        found: dict[str, Any] = json.loads(told) if told else {}
        kind, detail = found.get("kind", "killed"), found.get("detail", "")
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            kind = "hang" if number == signal.SIGALRM else f"native crash ({signal.Signals(number).name})"
            detail = found.get("detail", "") or kind
        memory = found.get("memory", 0)
        if not kind.startswith(("hang", "native")):
            self.slowest = max(self.slowest, seconds)
            self.most_memory = max(self.most_memory, memory)
            self.ratio = max(self.ratio, (memory - _CONSTANT) / max(len(data), 1))
            if memory > _RESIDENT + 2 * len(data) and kind in ("read", "refused"):
                kind, detail = "too much memory", f"{memory >> 20} MiB for {len(data)} bytes"
        self.kinds[kind] += 1
        if kind not in ("read", "refused"):
            self._note(kind, detail, data)
        return frozenset(found.get("reached", ()))

    def _note(self, kind: str, detail: str, data: bytes) -> None:
        where = f"{kind}: {detail}"
        first = where not in self.bad
        self.bad[where] = self.bad.get(where, 0) + 1
        if first or (kind.startswith(("hang", "native")) and self.bad[where] <= 5):
            self.keep.mkdir(parents=True, exist_ok=True)
            stem = f"{self.name}.{re.sub('[^a-z]+', '_', kind.lower())}.{len(self.bad)}.{self.bad[where]}"
            (self.keep / stem).write_bytes(data)
            (self.keep / f"{stem}.txt").write_text(where)

    def _read(self, writer: int, size: int) -> None:
        """In the child: read, tell what came of it, and end."""
        address, before = _memory()
        limit = address + _MEMORY + 2 * size
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_SECONDS)
        reached: set[str] = set()
        sys.settrace(_tracer(reached))
        kind, detail = "refused", ""
        try:
            said = fuzzed.examine(self.root)
            sys.settrace(None)
            reached.update(_shape(text, self.root) for text in said)
            kind = "read" if "read" in said else "refused"
        except BaseException as error:
            sys.settrace(None)
            kind, detail = _what(error, self.root)
            reached.add(detail)
        signal.alarm(0)
        memory = max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)
        numbers = sorted({hash(item) % _COUNTERS for item in reached})
        told = {"kind": kind, "detail": detail, "memory": memory, "reached": numbers}
        os.write(writer, json.dumps(told).encode())
        os._exit(0)

    def summary(self) -> dict[str, Any]:
        return {
            "format": self.name, "inputs": self.inputs, "seconds": round(time.monotonic() - self.begin, 1),
            "kinds": dict(self.kinds), "slowest_s": round(self.slowest, 2), "memory_mib": self.most_memory >> 20,
            "memory_ratio": round(self.ratio, 1), "bad": self.bad,
        }  # fmt: skip


def _told(reader: int, until: float) -> bytes:
    """All that a child wrote before it ended."""
    parts: list[bytes] = []
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(0.0, until - time.monotonic()))[0]:
            part = pipe.read(1 << 16)
            if not part:
                break
            parts.append(part)
    return b"".join(parts)


def _memory() -> tuple[int, int]:
    """Address space and resident memory of this process, in bytes."""
    pages = Path("/proc/self/statm").read_text().split()
    return int(pages[0]) * resource.getpagesize(), int(pages[1]) * resource.getpagesize()


def _tracer(reached: set[str]) -> Callable[[FrameType, str, Any], Any]:
    def lines(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            reached.add(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        return lines

    def calls(frame: FrameType, _event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        return lines if "/datasets/" in name or "/minari/" in name else None

    return calls


def _shape(text: str, root: Path) -> str:
    """A sentence without what differs from file to file: kinds of sentences are few."""
    return re.sub(r"0x[0-9a-f]+|\d+|'[^']*'", "#", text.replace(str(root), ""))[:160]


def _what(error: BaseException, root: Path) -> tuple[str, str]:
    """A kind of failure, and where in our readers it came from."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/main/datasets/" in frame.filename]
    place = f"{Path(ours[-1].filename).name}:{ours[-1].name}" if ours else "?"
    kind = "no sentence" if isinstance(error, fuzzed.Wrong) else f"escaped {type(error).__name__}"
    return kind, f"{place}: {_shape(str(error), root)}"


def _own(child: Child, seconds: float, seed: int) -> None:
    """Spoil by :func:`fuzzed.spoil`, and what reached something new, further."""
    chance, corpus = random.Random(f"{seed} {child.name}"), [child.content]
    seen = set(child.run(child.content))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        # The valid file and what was found last are worth more than the rest.
        source = chance.choice((child.content, chance.choice(corpus), chance.choice(corpus[-8:])))
        data = fuzzed.spoil(source, chance, tuple(corpus))[: 4 * len(child.content)]
        reached = child.run(data)
        if reached - seen:
            seen |= reached
            corpus.append(data)


def _by_atheris(child: Child, seconds: float, seed: int, finish: Callable[[], None]) -> None:
    """Let libFuzzer spoil; what a child reached is told to it through counters of its own."""
    import atheris  # pyright: ignore

    engine: Any = atheris
    counters = [engine._reserve_counter() for _ in range(_COUNTERS)]
    until = time.monotonic() + seconds

    def one(data: bytes) -> None:
        for number in child.run(data):
            engine._trace_branch(counters[number])
        if time.monotonic() > until:
            finish()
            os._exit(0)

    corpus = child.folder.with_name(f"{child.folder.name}_corpus")
    corpus.mkdir()
    (corpus / "valid").write_bytes(child.content)
    options = [f"-seed={seed + 1}", f"-max_len={4 * len(child.content)}", "-len_control=0"]
    options += [
        f"-artifact_prefix={child.folder}/",
        "-report_slow_units=600",
        "-timeout=600",
        "-rss_limit_mb=0",
        "-print_final_stats=0",
        "-verbosity=0",
    ]
    engine.Setup([sys.argv[0], str(corpus), *options], one)
    engine.Fuzz()


def _one_format(name: str, seconds: float, seed: int, engine: str, keep: Path, out: Path) -> None:
    logging.disable()
    stack = contextlib.ExitStack()
    stack.enter_context(fuzzed.kept_worlds())
    child = Child(name, keep)
    said = fuzzed.examine(child.root)  # imports what is imported late, in the parent
    assert said[0] == "read", said

    def finish() -> None:
        out.write_text(json.dumps(child.summary()))

    if engine == "atheris":
        _by_atheris(child, seconds, seed, finish)
    _own(child, seconds, seed)
    finish()


def again(folder: Path) -> None:
    """Try inputs that were kept."""
    logging.disable()
    for path in sorted(path for path in folder.iterdir() if path.suffix != ".txt"):
        child = Child(path.name.partition(".")[0], folder / "again")
        child.run(path.read_bytes())
        print(path.name, dict(child.kinds), *child.bad, sep="\n    ")


def main(arguments: list[str]) -> None:
    given = {"minutes": "10", "format": "all", "seed": "0", "engine": "auto", "keep": "/tmp/fuzz"}
    given |= {"out": "", "again": ""}
    given |= dict(argument.split("=", 1) for argument in arguments)
    if given["again"]:
        return again(Path(given["again"]))
    engine, seed, keep = given["engine"], int(given["seed"]), Path(given["keep"])
    if engine == "auto":
        engine = "atheris" if importlib.util.find_spec("atheris") else "own"
    names = list(samples.SAMPLES) if given["format"] == "all" else given["format"].split(",")
    seconds = 60 * float(given["minutes"]) / len(names)
    if given["out"]:
        return _one_format(names[0], seconds, seed, engine, keep, Path(given["out"]))
    print(f"python {platform.python_version()}, h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}", end=", ")
    print(f"numpy {np.__version__}, engine {engine}, seed {seed}, {seconds:.0f} s for each of {len(names)} formats")
    for name in names:
        # A process for each, as libFuzzer ends the one that it runs in.
        out = Path(tempfile.mkdtemp()) / "summary.json"
        options = [f"format={name}", f"seed={seed}", f"engine={engine}", f"keep={keep}", f"out={out}"]
        command = [sys.executable, str(_HERE), *options, f"minutes={seconds / 60}"]
        with (keep.parent / f"{keep.name}.log").open("ab") as log:
            done = subprocess.run(command, stdout=log, stderr=log, env={**os.environ, "PYTHONHASHSEED": "0"})
        print(out.read_text() if out.exists() else f"{name}: ended with {done.returncode}, see {keep}.log", flush=True)
    return None


if __name__ == "__main__":
    main(sys.argv[1:])

"""What an HDF5 file holds, found without reading or following anything that could do harm.

HDF5 itself runs out of stack on groups nested deep (2.0.0: some thousands), on virtual data sets made of themselves,
and waits for ever on a link or storage that is a pipe; so the way through a file is found here, by hard links alone.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportAttributeAccessIssue=false
# (h5py brings no types.)

from __future__ import annotations

import dataclasses
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .limits import in_memory

_DEEPEST = 32  # groups within groups; ours and everybody's have at most six
_MOST = 100_000  # names by soft links, which multiply
_SCANNED = 1 << 30  # bytes of a file that is looked through for heaps, which takes less than reading it
_BLOCK = 1 << 18  # bytes that are looked through at a time: a processor's cache holds them
_SIGNATURE, _HEAP = b"\x89HDF\r\n\x1a\n", b"GCOL\1\0\0\0"
_COMPRESSIONS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SZIP, h5py.h5z.FILTER_LZF)


@dataclasses.dataclass(frozen=True)
class Index:
    """Places in a file by name: of arrays, of groups (and whatever else is no array), and of either by soft links.

    Places are paths of hard links. ``elsewhere`` are links into other files.
    """

    arrays: Mapping[str, bytes]
    groups: Mapping[str, bytes]
    linked: Mapping[str, bytes]
    elsewhere: frozenset[str]

    def place(self, name: str) -> bytes | None:
        """Where what has this name is; none where nothing has."""
        return self.arrays.get(name) or self.groups.get(name) or self.linked.get(name)

    def outside(self, name: str) -> bool:
        """Whether a name is a link into another file, or behind one."""
        parts = name.split("/")
        return any("/".join(parts[:length]) in self.elsewhere for length in range(1, len(parts) + 1))


def index(file: h5py.File) -> Index:
    """Find everything in a file.

    Errors: what h5py raises over a damaged file, and ``ValueError`` for groups nested too deep, or too many names.
    """
    arrays, groups = dict[str, bytes](), {"": b"/"}
    soft, elsewhere, seen = dict[str, str](), set[str](), set[int]()
    waiting: list[tuple[str, bytes, int]] = [("", b"/", 0)]
    while waiting:
        prefix, place, depth = waiting.pop()
        group: Any = h5py.h5o.open(file.id, place)
        address = hash(group)  # by file and object number
        if address in seen:
            continue
        seen.add(address)
        for link, kind in _links(group):
            name, here = prefix + link.decode("utf-8", "surrogateescape"), place.rstrip(b"/") + b"/" + link
            if kind == h5py.h5l.TYPE_SOFT:
                soft[name] = group.links.get_val(link).decode("utf-8", "surrogateescape")
            elif kind != h5py.h5l.TYPE_HARD:
                elsewhere.add(name)
            elif (found := _kind_of(file, here)) == h5py.h5i.GROUP:
                groups[name] = here
                if depth == _DEEPEST:
                    raise ValueError(f"groups are nested more than {_DEEPEST} deep")
                waiting.append((f"{name}/", here, depth + 1))
            else:
                (groups if found == h5py.h5i.DATATYPE else arrays)[name] = here
    return Index(arrays, groups, _follow(soft, {**groups, **arrays}), frozenset(elsewhere))


def check_heaps(path: Path) -> None:
    """See whether the objects in a file's global heaps, where its texts are, lie one behind the other.

    HDF5 2.0.0 goes round for ever in one that has a hole of zeros, as in a download that was cut. (HDF5 file format,
    III.E; of files with other than 8 bytes to a length nothing is seen.)

    Errors: ``OSError`` when it cannot be read, ``ValueError`` when they do not.
    """
    if path.stat().st_size > _SCANNED:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[:8] != _SIGNATURE or content[14 if content[8] < 2 else 10] != 8:
            return
        for place in _marks(path):
            if content[place : place + len(_HEAP)] == _HEAP:
                _check_heap(content, place)


def _marks(path: Path) -> Iterator[int]:
    """Where in a file there may be heaps: a mark of 8 bytes has a whole word of 4 at a multiple of 4, wherever it is.

    To look for four words takes half as long as for the mark.
    """
    words = [np.frombuffer(_HEAP, np.uint32, 1, start)[0] for start in range(4)]
    block, equal, begin = np.zeros(_BLOCK, np.uint8), np.empty(_BLOCK // 4, bool), 0
    with path.open("rb") as file:
        while count := file.readinto(block.data):
            for start, word in enumerate(words):
                if np.equal(block.view(np.uint32), word, out=equal).any():
                    places = 4 * np.flatnonzero(equal) + begin - start
                    yield from places[places >= 0].tolist()
            begin += count


def _check_heap(content: mmap.mmap, place: int) -> None:
    size = int.from_bytes(content[place + 8 : place + 16], "little")
    end = place + size
    if size < 16 or end > len(content):  # which HDF5 sees itself, or the mark is no heap's
        return
    place += 16
    while place + 16 <= end:
        number = int.from_bytes(content[place : place + 2], "little")
        size = int.from_bytes(content[place + 8 : place + 16], "little")
        whole = 16 + (size + 7) // 8 * 8 if number else size  # the free space, number 0, counts its own header
        if whole == 0 or place + whole > end:
            raise ValueError("its texts have holes or overlap")
        place += whole


def _links(group: Any) -> list[tuple[bytes, int]]:
    found: list[tuple[bytes, int]] = []

    def visit(name: Any, info: Any) -> None:
        found.append((bytes(name), int(info.type)))

    group.links.iterate(visit, info=True)
    return found


def _kind_of(file: h5py.File, place: bytes) -> int | None:
    """Group, data set or type; none for what is damaged, which is told of when it is wanted."""
    try:
        return int(h5py.h5i.get_type(h5py.h5o.open(file.id, place)))
    except (OSError, RuntimeError, LookupError, ValueError, TypeError):
        return None


def _follow(soft: dict[str, str], places: dict[str, bytes]) -> dict[str, bytes]:
    """Where soft links lead, and to what below; one that leads nowhere, or in a circle, is not there."""
    waiting, found = {name: _target(name, text) for name, text in soft.items()}, dict[str, bytes]()
    while ready := [name for name, target in waiting.items() if target in places]:
        for name in ready:
            target = waiting.pop(name)
            start = f"{target}/" if target else ""
            below = ((key[len(start) :], place) for key, place in places.items() if key and key.startswith(start))
            new = {f"{name}/{rest}": place for rest, place in below}
            new[name] = places[target]
            found.update(new)
            places.update(new)
            if len(found) > _MOST:
                raise ValueError(f"soft links make more than {_MOST} names")
    return found


def _target(name: str, text: str) -> str:
    start = [] if text.startswith("/") else name.split("/")[:-1]
    return "/".join(part for part in (*start, *text.split("/")) if part not in ("", "."))


def readable(attribute: Any) -> bool:
    """Whether an open attribute is of a type that Python has: numbers, booleans, texts, and arrays of them."""
    kinds = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM, h5py.h5t.STRING)
    return attribute.get_type().get_class() in kinds  # HDF5 can crash over damaged ones of other types


def whole_bytes(item: Any) -> int:
    """Bytes of an open data set in memory.

    Errors: ``ValueError`` when it is made up of other files or data sets, compressed more than once, or of things that
    lie elsewhere, over which HDF5 can crash when the file is damaged.
    """
    kind = item.get_type()
    if kind.detect_class(h5py.h5t.VLEN) or kind.detect_class(h5py.h5t.REFERENCE):
        raise ValueError("it holds lists of any length or references")
    properties = item.get_create_plist()
    if properties.get_layout() == h5py.h5d.VIRTUAL:
        raise ValueError("it is made up of other data sets, which is not followed")
    if properties.get_external_count():
        raise ValueError("its numbers are in another file, which is not followed")
    filters = [int(properties.get_filter(number)[0]) for number in range(properties.get_nfilters())]
    if sum(number in _COMPRESSIONS for number in filters) > 1:
        raise ValueError("it is compressed more than once")
    size, shape = int(kind.get_size()), item.get_space().get_simple_extent_dims() or ()
    chunk = properties.get_chunk() if properties.get_layout() == h5py.h5d.CHUNKED else ()
    return max(in_memory(shape, size), in_memory(chunk, size))

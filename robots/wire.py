"""What robot and controller say to each other: datagrams of numbers or JSON, numbered, stamped and checked.

Little-endian: ``URB1``, kind, flags, session, number, time; then the payload; then CRC-32 of all that. Nothing is
unpickled. Times are seconds of this machine's monotonic clock, which its processes share.
"""

from __future__ import annotations

import enum
import json
import struct
import zlib
from typing import Any, NamedTuple

import numpy as np

LARGEST = 16_384  # bytes of a datagram: room for 2000 numbers
_MAGIC = b"URB1"
_HEADER = struct.Struct("<4sBBIQd")
_CHECK = struct.Struct("<I")


class Kind(enum.IntEnum):
    """What a packet is about: a controller says the first six, anybody may watch, and a robot says the others."""

    HELLO = 1
    RESET = 2
    ACTION = 3
    DAMP = 4
    DISTURB = 5
    BYE = 6
    WATCH = 7
    WELCOME = 11
    REFUSED = 12
    OBSERVATION = 13
    GOODBYE = 14
    POSITIONS = 15


class Flag(enum.IntFlag):
    """What a robot says of itself with every observation."""

    NONE = 0
    TERMINATED = 1
    TRUNCATED = 2
    SUCCEEDED = 4
    DAMPED = 8


class Packet(NamedTuple):
    """One datagram. ``number`` rises with every one that a side sends."""

    kind: int
    session: int
    number: int
    time: float
    flags: int
    payload: bytes

    def numbers(self) -> np.ndarray:
        """The payload as numbers (N,). Errors: :class:`ValueError` when it is none."""
        return np.frombuffer(self.payload, "<f8")

    def values(self) -> dict[str, Any]:
        """The payload as a JSON object. Errors: :class:`ValueError` when it is none."""
        try:
            values = json.loads(self.payload)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        if not isinstance(values, dict):
            raise ValueError("not a JSON object")
        return values  # pyright: ignore[reportUnknownVariableType]


def packed(kind: Kind, session: int, number: int, time: float, payload: bytes | Any = b"", flags: int = 0) -> bytes:
    """A datagram; the payload is bytes or becomes JSON."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    whole = _HEADER.pack(_MAGIC, kind, flags, session, number, time) + body
    return whole + _CHECK.pack(zlib.crc32(whole))


def unpacked(datagram: bytes) -> Packet | None:
    """The packet in a datagram, or none: whatever is malformed is dropped by whoever counts it."""
    if len(datagram) < _HEADER.size + _CHECK.size or datagram[:4] != _MAGIC:
        return None
    if _CHECK.unpack_from(datagram, len(datagram) - _CHECK.size)[0] != zlib.crc32(datagram[: -_CHECK.size]):
        return None
    _, kind, flags, session, number, time = _HEADER.unpack_from(datagram)
    return Packet(kind, session, number, time, flags, datagram[_HEADER.size : -_CHECK.size])

"""What the doctor says of a data set: findings, each one sentence, and the report that they make up."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
REFUSED = "training refuses it"
_SHOWN = 3  # places in a sentence


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing found: an ``error`` poisons what is learned, a ``warning`` may be meant, a ``note`` is worth knowing.

    ``check`` names the kind of finding, ``message`` says it in one sentence, ``training`` what training does about it.
    ``count`` and ``places`` are how many rows (or episodes) it is about, and which come first.
    """

    check: str
    severity: Severity
    message: str
    training: str
    count: int = 0
    places: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**dataclasses.asdict(self), "places": list(self.places)}


@dataclasses.dataclass(frozen=True)
class Report:
    """All that was found in ``source``; ``schema`` says what each array is, ``facts`` what is known of the whole."""

    source: str
    format: str
    schema: Mapping[str, str]
    facts: Mapping[str, Any]
    findings: tuple[Finding, ...]

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of a severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "source": self.source,
            "format": self.format,
            "schema": dict(self.schema),
            **self.facts,
            "findings": [finding.to_json() for finding in self.findings],
            "errors": len(self.of("error")),
            "warnings": len(self.of("warning")),
        }


def found(check: str, severity: Severity, where: np.ndarray, message: str, training: str, what: str = "row") -> Finding:
    """A finding about the rows (or episodes) ``where`` (N,) is true; ``{places}`` in the message says which."""
    numbers = np.flatnonzero(where)
    return Finding(
        check, severity, message.format(places=places(numbers, len(where), what)), training, len(numbers),
        tuple(int(n) for n in numbers[:10]),
    )  # fmt: skip


def places(numbers: Sequence[int] | np.ndarray, of: int, what: str) -> str:
    """`3 of 100 rows (first 4, 17 and 80)`."""
    first = [str(int(n)) for n in numbers[:_SHOWN]]
    listed = first[0] if len(first) == 1 else f"{', '.join(first[:-1])} and {first[-1]}"
    only = "first " if len(numbers) > _SHOWN else ""
    return f"{len(numbers)} of {of} {what}{'s' if of != 1 else ''} ({only}{listed})"

"""What was measured, kept as JSON beside the report: a run of one suite leaves the others' figures alone."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

LOAD = "the load generator"
LATE = "driven on by the sweeper"
"""Orders that were not settled at the first try: answered with 202, or in flight when wrk stopped."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One stack, under one load, in one round. Latencies in milliseconds, CPU in seconds by process."""

    suite: str
    stack: str
    clients: int
    round: int
    rate: float
    p50: float
    p99: float
    bad: int = 0
    foreign_cores: float = 0.0
    noisy: bool = False
    cpu_us: dict[str, float] = field(default_factory=dict)
    """Microseconds of CPU for each answer, by process, until all that follows from it is done."""
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def cost(self) -> float:
        """Microseconds of CPU for each answer, without the load generator's."""
        return sum(value for name, value in self.cpu_us.items() if name != LOAD)


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a ratio: a field of the samples of a stack under a load."""

    stack: str
    clients: int
    field: str


@dataclass(slots=True)
class Results:
    """`facts` are figures of a suite that has no rounds."""

    samples: list[Sample] = field(default_factory=list)
    facts: dict[str, dict[str, float]] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Results:
        if not path.exists():
            return cls()
        kept = json.loads(path.read_text())
        return cls(**{**kept, "samples": [Sample(**one) for one in kept["samples"]]})

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def replace(self, suite: str, samples: Iterable[Sample], facts: dict[str, float], command: str) -> None:
        """What a suite has measured now instead of what it had measured before."""
        self.samples = [one for one in self.samples if one.suite != suite] + list(samples)
        self.facts[suite] = facts
        self.commands[suite] = command

    def of(self, suite: str, stack: str | None = None, clients: int | None = None) -> list[Sample]:
        return [
            one
            for one in self.samples
            if one.suite == suite and stack in (None, one.stack) and clients in (None, one.clients)
        ]

    def median(self, suite: str, stack: str, clients: int, field: str) -> float | None:
        """Over the quiet rounds; over all where none was quiet."""
        found = self.of(suite, stack, clients)
        values = [getattr(one, field) for one in ([one for one in found if not one.noisy] or found)]
        return statistics.median(values) if values else None

    def ratio(self, suite: str, ours: Side, theirs: Side) -> float | None:
        """The median of the ratios within a round."""
        mine = {one.round: one for one in self.of(suite, ours.stack, ours.clients)}
        others = {one.round: one for one in self.of(suite, theirs.stack, theirs.clients)}
        both = [(mine[number], others[number]) for number in sorted(mine.keys() & others.keys())]
        quiet = [pair for pair in both if not (pair[0].noisy or pair[1].noisy)]
        ratios = [
            getattr(one, ours.field) / getattr(other, theirs.field)
            for one, other in quiet or both
            if getattr(other, theirs.field)
        ]
        return statistics.median(ratios) if ratios else None

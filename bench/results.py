"""The measured figures, kept as JSON beside the report. A run of a suite leaves other suites' figures."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

LOAD = "the load generator"
LATE = "settled by the sweeper"
"""Orders that the first attempt did not settle: answered with 202, or in flight when wrk stopped."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The figures of a stack under a load in a round. Latencies are in milliseconds."""

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
    """Microseconds of CPU per response, by process. Includes the work that follows from a response."""
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def cost(self) -> float:
        """Microseconds of CPU per response, without the load generator's."""
        return sum(value for name, value in self.cpu_us.items() if name != LOAD)


@dataclass(frozen=True, slots=True)
class Side:
    """A side of a ratio: a field in the samples of a stack under a load."""

    stack: str
    clients: int
    field: str


@dataclass(slots=True)
class Results:
    """All samples, and `facts`: figures of suites without rounds."""

    samples: list[Sample] = field(default_factory=list)
    facts: dict[str, dict[str, float]] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Results:
        if not path.exists():
            return cls()
        fields = json.loads(path.read_text())
        return cls(**{**fields, "samples": [Sample(**sample) for sample in fields["samples"]]})

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def replace(self, suite: str, samples: Iterable[Sample], facts: dict[str, float], command: str) -> None:
        """Replace a suite's figures, and record the command that measured them."""
        self.samples = [sample for sample in self.samples if sample.suite != suite] + list(samples)
        self.facts[suite] = facts
        self.commands[suite] = command

    def of(self, suite: str, stack: str | None = None, clients: int | None = None) -> list[Sample]:
        return [
            sample
            for sample in self.samples
            if sample.suite == suite and stack in (None, sample.stack) and clients in (None, sample.clients)
        ]

    def median(self, suite: str, stack: str, clients: int, field: str) -> float | None:
        """Return the median over the quiet rounds, or over all rounds if none was quiet."""
        rounds = self.of(suite, stack, clients)
        quiet = [sample for sample in rounds if not sample.noisy]
        values = [getattr(sample, field) for sample in quiet or rounds]
        return statistics.median(values) if values else None

    def ratio(self, suite: str, ours: Side, theirs: Side) -> float | None:
        """Return the median of the ratios within a round."""
        left = {sample.round: sample for sample in self.of(suite, ours.stack, ours.clients)}
        right = {sample.round: sample for sample in self.of(suite, theirs.stack, theirs.clients)}
        both = [(left[number], right[number]) for number in sorted(left.keys() & right.keys())]
        quiet = [pair for pair in both if not (pair[0].noisy or pair[1].noisy)]
        ratios = [
            getattr(our_sample, ours.field) / getattr(their_sample, theirs.field)
            for our_sample, their_sample in quiet or both
            if getattr(their_sample, theirs.field)
        ]
        return statistics.median(ratios) if ratios else None

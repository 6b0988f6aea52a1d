"""Plays rows on a mesh, with their negative controls, and returns the results."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.broker import DEAD, RETRY, Broker
from tests.chaos.cast import Cast
from tests.chaos.failpoints import Failpoints
from tests.chaos.history import NO_ANSWER, History
from tests.chaos.mesh import Mesh
from tests.chaos.rows import Row
from tests.chaos.stage import Stage, a_stage


@dataclass(frozen=True)
class Result:
    row: Row
    seed: str
    is_short: bool
    findings: list[str]
    faults: Counter[str]
    requests: int
    outcomes: Counter[str]
    """Number of orders by the customer's final response."""
    accepted: int
    """Number of responses 202."""
    recovery_seconds: float | None
    seconds: float
    kept: Path
    figures: dict[str, Any] = field(default_factory=dict)
    is_broken: bool = False
    """True if the harness failed, not the mesh. Then neither the row nor its control counts."""
    first_try: Result | None = None
    """The failed first try, if the row was played again."""

    @property
    def caught(self) -> bool:
        """True if a row with its mutant failed because of the mutant."""
        return bool(self.findings) and not self.is_broken

    @property
    def passed(self) -> bool:
        return not self.findings

    @property
    def verdict(self) -> str:
        """The verdict in words. A pass at the second try is not a plain pass."""
        word = "passed" if self.passed else "FAILED"
        return f"{word} at the second try" if self.first_try else word

    def explain(self) -> str:
        """Describe a failure with its seed, findings, faults and logs."""
        lines = [f"{self.row.name} failed, seed {self.seed}: {self.row.load}", *self.findings]
        lines += [f"faults: {dict(self.faults)}", f"history and logs: {self.kept}"]
        if self.first_try:
            lines.append(f"before that, {self.first_try.explain()}")
        return "\n  ".join(lines)


class Runner:
    """Plays any number of rows on the same mesh."""

    def __init__(self, mesh: Mesh, seed: int) -> None:
        self.mesh = mesh
        self.seed = seed
        self._points = Failpoints(mesh.chaos)
        self._cast: Cast | None = None
        self._played = 0

    def play(self, row: Row, *, short: bool) -> Result:
        self._played += 1
        return self._play(row, short, f"{self.seed}-{row.name}-{self._played}")

    def play_again(self, failed: Result) -> Result:
        """Play a failed row a second and last time. The result keeps the failed first try."""
        return replace(self.play(failed.row, short=failed.is_short), first_try=failed)

    def control(self, row: Row) -> Result:
        """Play the short form with the row's mutant in the services. The row should fail."""
        self._points.set_mutants(row.control)
        try:
            self.mesh.restart(row.sabotaged)
            return self.play(row, short=True)
        finally:
            self._points.set_mutants()
            self.mesh.restart(row.sabotaged)
            self._tidy()

    def _play(self, row: Row, short: bool, seed: str) -> Result:
        self.mesh.wait_until_ready()
        folder = self.mesh.folder / "rows" / seed
        folder.mkdir(parents=True)
        began, rng, history = time.monotonic(), Random(seed), History()
        stage = asyncio.run(self._on_stage(row, short, folder, rng, history))
        history.write(folder / "history.jsonl")
        findings = [*stage.findings, *_excerpts(history, stage.findings)]
        (folder / "findings.txt").write_text("".join(f"{finding}\n" for finding in findings))
        if findings:
            self._tidy()
        return Result(
            row=row,
            seed=seed,
            is_short=short,
            findings=findings,
            faults=stage.faults.counts,
            requests=history.requests(),
            outcomes=_outcomes(history),
            accepted=history.statuses()[202],
            recovery_seconds=stage.recovery_seconds,
            seconds=time.monotonic() - began,
            kept=self.mesh.folder,
            figures=stage.figures,
            is_broken=stage.is_broken,
        )

    async def _on_stage(self, row: Row, short: bool, folder: Path, rng: Random, history: History) -> Stage:
        if self._cast is None:
            self._cast = await asyncio.to_thread(Cast.of, self.mesh)
        async with a_stage(self.mesh, self._cast, history, rng, short, folder) as stage:
            try:
                await row.play(stage)
            except Exception as error:  # a timeout is a finding like others
                (folder / "traceback.txt").write_text(traceback.format_exc())
                causes = _leaves(error)
                stage.findings += [f"{type(cause).__name__}: {cause}" for cause in causes]
                stage.is_broken = not all(
                    isinstance(cause, AssertionError | TimeoutError) for cause in causes
                )
            return stage

    def _tidy(self) -> None:
        """Repair the mesh after a row, so that the next row starts clean."""
        self._points.disarm()
        with suppress(AssertionError, OSError):
            broker = Broker(self.mesh)
            self.mesh.wait_until_ready()
            broker.purge(queue.name for queue in broker.queues() if queue.name.endswith((DEAD, RETRY)))


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for cause in error.exceptions for leaf in _leaves(cause)]
    return [error]


def _excerpts(history: History, findings: list[str]) -> list[str]:
    """Return the history of the first orders that the findings name."""
    text = " ".join(findings)
    keys = [key for (_, key), tried in history.by_key().items() if key in text or _order_of(tried) in text]
    return [f"key {key}: {line}" for key in keys[:3] for line in history.excerpt(key)[-8:]]


def _order_of(attempts: list[Any]) -> str:
    answered = [attempt for attempt in attempts if attempt.status in (201, 202)]
    return answered[0].order_id if answered else "\0"


def _outcomes(history: History) -> Counter[str]:
    names = {201: "confirmed", 409: "rejected", NO_ANSWER: "unanswered"}
    final = (
        next((attempt for attempt in tried if attempt.status == 201), tried[-1])
        for tried in history.by_key().values()
    )
    return Counter(names.get(attempt.status, str(attempt.status)) for attempt in final)

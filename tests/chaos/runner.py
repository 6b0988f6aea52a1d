"""Plays rows on a mesh, each with its negative control, and gathers what they showed."""

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
    """How the orders ended for those who placed them, by key."""
    accepted: int
    """Answers 202."""
    recovery_seconds: float | None
    seconds: float
    kept: Path
    figures: dict[str, Any] = field(default_factory=dict)
    is_broken: bool = False
    """The harness failed, not the mesh: neither a row nor a control counts then."""
    first_try: Result | None = None
    """The try before this one, which failed; None unless the row was played again."""

    @property
    def caught(self) -> bool:
        """Whether a control was noticed for what it is."""
        return bool(self.findings) and not self.is_broken

    @property
    def passed(self) -> bool:
        return not self.findings

    @property
    def verdict(self) -> str:
        """For people. A row that passed at its second try has not plainly passed."""
        word = "passed" if self.passed else "FAILED"
        return f"{word} at the second try" if self.first_try else word

    def explain(self) -> str:
        """All that one needs to understand why it failed."""
        lines = [f"{self.row.name} failed, seed {self.seed}: {self.row.load}", *self.findings]
        lines += [f"faults: {dict(self.faults)}", f"history and logs: {self.kept}"]
        if self.first_try:
            lines.append(f"before that, {self.first_try.explain()}")
        return "\n  ".join(lines)


class Runner:
    """One mesh, any number of rows on it."""

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
        """The second and last try of a row. Its result carries the first one: no replay goes unseen."""
        return replace(self.play(failed.row, short=failed.is_short), first_try=failed)

    def control(self, row: Row) -> Result:
        """The row, shortened, with its own mutant in the services. It should fail."""
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
        (folder / "findings.txt").write_text("".join(f"{one}\n" for one in findings))
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
            except Exception as error:  # what did not come in time is a finding like others
                (folder / "traceback.txt").write_text(traceback.format_exc())
                causes = _leaves(error)
                stage.findings += [f"{type(one).__name__}: {one}" for one in causes]
                stage.is_broken = not all(isinstance(one, AssertionError | TimeoutError) for one in causes)
            return stage

    def _tidy(self) -> None:
        """What a row has broken must not fail the next one."""
        self._points.disarm()
        with suppress(AssertionError, OSError):
            broker = Broker(self.mesh)
            self.mesh.wait_until_ready()
            broker.purge(one.name for one in broker.queues() if one.name.endswith((DEAD, RETRY)))


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    return [error]


def _excerpts(history: History, findings: list[str]) -> list[str]:
    """The history of the first orders that the findings name."""
    said = " ".join(findings)
    keys = [key for (_, key), tried in history.by_key().items() if key in said or _order_of(tried) in said]
    return [f"key {key}: {line}" for key in keys[:3] for line in history.excerpt(key)[-8:]]


def _order_of(attempts: list[Any]) -> str:
    known = [one for one in attempts if one.status in (201, 202)]
    return known[0].order_id if known else "\0"


def _outcomes(history: History) -> Counter[str]:
    names = {201: "confirmed", 409: "rejected", NO_ANSWER: "unanswered"}
    best = (
        next((one for one in tried if one.status == 201), tried[-1]) for tried in history.by_key().values()
    )
    return Counter(names.get(one.status, str(one.status)) for one in best)

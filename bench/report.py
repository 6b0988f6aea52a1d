"""The report: a table for each suite and one of the targets, between markers of a page for people.

Nothing in it is a figure that no run has measured; the words around the markers are anybody's to change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.plot import orders_plot
from bench.results import LATE, Results, Sample
from bench.targets import Target, verdicts

BEGIN, END = "<!-- measured: python -m bench -->", "<!-- end of what was measured -->"
_PAGE = Path(__file__).with_name("page.md")

_FIGURES = ("rate", "p50", "p99")

TITLES = {
    "orders": "POST /orders",
    "reads": "GET /products/{id}",
    "overload": "More clients than it can serve",
    "gateways": "One gateway at the port, and two",
    "clients": "The gateway on its own AMQP client, and on aiormq",
    "rpc": "RPC: an echo, one process on each side",
    "grpc": "gRPC: GetProduct, one process on each side",
    "events": "Events, from the outbox to their handlers",
    "messages": "Messages an order",
    "memory": "Memory of the mesh, without its servers",
    "growth": "Cost of an order as the tables grow",
}


def write(results: Results, path: Path) -> None:
    """The page, its plot beside it. What people wrote around the markers stays."""
    page = path.read_text() if path.exists() else _PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    plot = orders_plot(results, _stacks(results.of("orders")))
    if plot:
        path.with_suffix(".svg").write_text(plot)
    picture = f"![Orders a second by stack]({path.with_suffix('.svg').name})\n\n" if plot else ""
    path.write_text(f"{before}{BEGIN}\n{picture}{measured(results)}\n{END}{after}")


def measured(results: Results) -> str:
    """All that was measured, as Markdown."""
    found = verdicts(results, list(results.facts))
    parts = ["## Wanted and reached", _targets(found)] if found else []
    for suite, title in TITLES.items():
        if suite not in results.facts:
            continue
        parts.append(f"## {title}")
        if samples := results.of(suite):
            parts.append(_samples(results, samples))
            if costs := _costs(samples):
                parts += ["Microseconds of CPU for each answer, by process:", costs]
        if facts := results.facts[suite]:
            parts.append(
                _table(("what", "figure"), [(name, _number(value)) for name, value in facts.items()])
            )
    parts.append("## The machine")
    parts.append(_table(("what", "which"), list(results.machine.items())))
    parts.append("Measured by:")
    parts.append("\n".join(f"    {command}" for command in results.commands.values()))
    return "\n\n".join(parts) + "\n"


def _targets(found: Iterable[tuple[Target, float, bool]]) -> str:
    rows = [
        (target.name, target.wish, f"{value:.2f}", "yes" if is_met else "**no**")
        for target, value, is_met in found
    ]
    return _table(("ratio", "wanted", "reached", "enough"), rows)


def _samples(results: Results, samples: Sequence[Sample]) -> str:
    suite = samples[0].suite
    rows = []
    for clients in sorted({one.clients for one in samples}):
        for stack in _stacks(samples):
            rounds = results.of(suite, stack, clients)
            if not rounds:
                continue
            figures = [_number(results.median(suite, stack, clients, name)) for name in _FIGURES]
            bad = sum(one.bad for one in rounds)
            late = _number(sum(one.notes.get(LATE, 0) for one in rounds))
            quiet = f"{sum(not one.noisy for one in rounds)} of {len(rounds)}"
            rows.append((clients, stack, *figures, bad, late, quiet))
    head = (
        "at once",
        "what",
        "a second",
        "p50 ms",
        "p99 ms",
        "bad answers",
        "driven on later",
        "quiet rounds",
    )
    return _table(head, rows)


def _costs(samples: Sequence[Sample]) -> str:
    """At the largest number of clients, where the rounds are busiest."""
    most = max(one.clients for one in samples)
    rows = []
    for stack in _stacks(samples):
        last = next((one for one in reversed(samples) if (one.stack, one.clients) == (stack, most)), None)
        if last and last.cpu_us:
            by_cost = sorted(last.cpu_us.items(), key=lambda pair: -pair[1])
            text = ", ".join(f"{name} {value:.0f}" for name, value in by_cost if value >= 1)
            rows.append((most, stack, f"{sum(last.cpu_us.values()):.0f}", text))
    return _table(("at once", "what", "all", "of it"), rows) if rows else ""


def _stacks(samples: Iterable[Sample]) -> list[str]:
    return list(dict.fromkeys(one.stack for one in samples))


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _number(value: float | None) -> str:
    if not value:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"

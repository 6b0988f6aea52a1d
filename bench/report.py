"""Render docs/performance.md: the text of page.md, with a summary and tables of the measured figures.

Every figure comes from a run's samples. The text around the figures is page.md's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.plot import orders_plot
from bench.results import LATE, Results, Sample
from bench.targets import Target, verdicts

SUMMARY, FIGURES = "<!-- summary -->", "<!-- figures -->"
_PAGE = Path(__file__).with_name("page.md")
_MAX_PROCESSES = 5

TITLES = {
    "orders": "POST /orders",
    "reads": "GET /products/{id}",
    "overload": "Four times as many clients",
    "gateways": "One gateway and two gateways on one port",
    "clients": "The gateway on its own AMQP client, and on aiormq",
    "rpc": "RPC: an echo, one process on each side",
    "grpc": "gRPC: GetProduct, one process on each side",
    "events": "Events, from the outbox to their handlers",
    "messages": "Messages per order",
    "memory": "Memory of the mesh, without its servers",
    "growth": "Cost of an order as the tables grow",
}


def write(results: Results, path: Path) -> None:
    """Write the page, and its plot beside it."""
    path.write_text(render(results, path))
    if plot := orders_plot(results, _stacks(results.of("orders"))):
        path.with_suffix(".svg").write_text(plot)


def render(results: Results, path: Path) -> str:
    """Return the page that `write` writes to `path`."""
    plot = orders_plot(results, _stacks(results.of("orders")))
    picture = f"\n\n![Orders per second by stack]({path.with_suffix('.svg').name})" if plot else ""
    summary = f"{_summary(results)}\n\n{_commits(results)}{picture}"
    return _PAGE.read_text().replace(SUMMARY, summary).replace(FIGURES, _figures(results))


def _summary(results: Results) -> str:
    rows = [_summary_row(*verdict) for verdict in verdicts(results, list(results.facts))]
    return _table(("compared", "result", "target", "met"), rows) if rows else "Nothing is measured yet."


def _summary_row(target: Target, value: float, is_met: bool) -> tuple[str, str, str, str]:
    return target.name, f"{value:.2f}", target.limit, "yes" if is_met else "**no**"


def _commits(results: Results) -> str:
    """Name the commits that were measured. A plus marks uncommitted changes."""
    measured: dict[str, list[str]] = {}
    for command in results.commands.values():
        date, commit, *_ = command.split()
        measured.setdefault(date, []).append(commit)
    days = (f"on {date} at {', '.join(dict.fromkeys(commits))}" for date, commits in measured.items())
    return f"Measured {'; '.join(days)} (`+`: with uncommitted changes)."


def _figures(results: Results) -> str:
    parts = [part for suite in TITLES if suite in results.facts for part in _suite(results, suite)]
    return "\n\n".join([*parts, *_machine(results)])


def _suite(results: Results, suite: str) -> list[str]:
    parts = [f"### {TITLES[suite]}"]
    if samples := results.of(suite):
        parts.append(_rates(results, samples))
        if costs := _costs(samples):
            parts += ["Microseconds of CPU per response, by process:", costs]
    if facts := results.facts[suite]:
        parts.append(_table(("what", "figure"), [(name, _number(value)) for name, value in facts.items()]))
    return parts


def _rates(results: Results, samples: Sequence[Sample]) -> str:
    heads = ("clients", "what", "per second", "p50 ms", "p99 ms", "errors", "settled late", "quiet rounds")
    cells = [(clients, stack) for clients in _clients(samples) for stack in _stacks(samples)]
    suite = samples[0].suite
    rows = [_rate_row(results, suite, *cell) for cell in cells if results.of(suite, cell[1], cell[0])]
    return _table(heads, rows)


def _rate_row(results: Results, suite: str, clients: int, stack: str) -> tuple[object, ...]:
    rounds = results.of(suite, stack, clients)
    figures = (results.median(suite, stack, clients, name) for name in ("rate", "p50", "p99"))
    errors = sum(sample.bad for sample in rounds)
    late = sum(sample.notes.get(LATE, 0) for sample in rounds)
    quiet = sum(not sample.noisy for sample in rounds)
    return clients, stack, *map(_number, figures), errors, _number(late), f"{quiet} of {len(rounds)}"


def _costs(samples: Sequence[Sample]) -> str:
    """Return the costs of each stack's last round at the largest number of clients."""
    largest = max(_clients(samples))
    last = {sample.stack: sample for sample in samples if sample.clients == largest}
    rows = [
        (largest, stack, f"{sum(last[stack].cpu_us.values()):.0f}", _largest(last[stack].cpu_us))
        for stack in _stacks(samples)
        if stack in last and last[stack].cpu_us
    ]
    return _table(("clients", "what", "total", "by process"), rows) if rows else ""


def _largest(cpu_us: Mapping[str, float]) -> str:
    """Name the most expensive processes, and add up the others so that a cell fits on a line."""
    by_cost = sorted(cpu_us.items(), key=lambda item: -item[1])
    others = sum(value for _, value in by_cost[_MAX_PROCESSES:])
    shown = [*by_cost[:_MAX_PROCESSES], ("others", others)]
    return ", ".join(f"{name} {value:.0f}" for name, value in shown if value >= 1)


def _machine(results: Results) -> list[str]:
    facts = dict(results.machine)
    packages = facts.pop("packages", "")
    return [
        "### The machine",
        _table(("what", "which"), list(facts.items())),
        f"Packages: {packages}.",
        "Measured with:",
        "\n".join(f"    {command}" for command in results.commands.values()),
    ]


def _clients(samples: Iterable[Sample]) -> list[int]:
    return sorted({sample.clients for sample in samples})


def _stacks(samples: Iterable[Sample]) -> list[str]:
    return list(dict.fromkeys(sample.stack for sample in samples))


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _number(value: float | None) -> str:
    if not value:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"

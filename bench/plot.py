"""Draw orders per second by stack as bars in SVG. A plotting library would be large for one picture."""

from __future__ import annotations

from xml.sax.saxutils import escape

from bench.results import Results

CLIENTS = (64, 256)
WIDTH, ROW, LEFT, RIGHT, TOP = 760, 30, 220, 90, 56
_GAP = 26
_COLOURS = {"mesh": "#2f7d4f"}
_OTHERS = "#a8adb4"


def orders_plot(results: Results, stacks: list[str]) -> str | None:
    """Return the SVG, or None when no orders were measured."""
    bars = [
        (clients, stack, rate)
        for clients in CLIENTS
        for stack in stacks
        if (rate := results.median("orders", stack, clients, "rate")) is not None
    ]
    if not bars:
        return None
    highest = max(rate for _, _, rate in bars) or 1
    parts, y, previous = [], TOP, None
    for clients, stack, rate in bars:
        if clients != previous:
            y += _GAP if previous is not None else 0
            parts.append(_text(16, y + 20, f"{clients} clients", weight="bold"))
            previous = clients
        length = max(1.0, rate / highest * (WIDTH - LEFT - RIGHT))
        parts += _bar(y, stack, length, rate)
        y += ROW
    title = _text(16, 30, "Orders per second, each committed where the stack has a database", size=17)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 16}" '
        'font-family="system-ui, sans-serif" role="img">\n'
        "<title>Orders per second by stack</title>\n"
        f'<rect width="{WIDTH}" height="{y + 16}" fill="#ffffff"/>\n'
        + "\n".join([title, *parts])
        + "\n</svg>\n"
    )


def _bar(y: float, stack: str, length: float, rate: float) -> list[str]:
    colour = _COLOURS.get(stack, _OTHERS)
    size = f'width="{length:.1f}" height="{ROW - 10}"'
    return [
        _text(LEFT - 10, y + 20, stack, anchor="end"),
        f'<rect x="{LEFT}" y="{y + 5}" {size} rx="2" fill="{colour}"/>',
        _text(LEFT + length + 8, y + 20, f"{rate:,.0f}/s"),
    ]


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", size: int = 14
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}" fill="#24292f">{escape(text)}</text>'
    )

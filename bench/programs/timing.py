"""Print a client's measurements as a line of JSON."""

from __future__ import annotations

import json
import resource
from collections.abc import Sequence

WARM_SECONDS = 1.0


def report(latencies: Sequence[float], seconds: float, cpu_before: float) -> None:
    """Print rate, percentiles and CPU. `latencies` holds seconds per call that ended in time."""
    ordered = sorted(latencies)
    figures = {
        "rate": len(ordered) / seconds,
        "p50": 1000 * ordered[len(ordered) // 2],
        "p99": 1000 * ordered[len(ordered) * 99 // 100],
        "calls": len(ordered),
        "cpu": cpu() - cpu_before,
    }
    print(json.dumps(figures), flush=True)


def cpu() -> float:
    """Return this process's CPU seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

"""How the clients below tell what they have measured: one line of JSON."""

from __future__ import annotations

import json
import resource
from collections.abc import Sequence

WARM_SECONDS = 1.0


def tell(latencies: Sequence[float], seconds: float, cpu_before: float) -> None:
    """`latencies` in seconds, of the calls that ended within the time."""
    ordered = sorted(latencies)
    found = {
        "rate": len(ordered) / seconds,
        "p50": 1000 * ordered[len(ordered) // 2],
        "p99": 1000 * ordered[len(ordered) * 99 // 100],
        "calls": len(ordered),
        "cpu": cpu() - cpu_before,
    }
    print(json.dumps(found), flush=True)


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

"""The AMQP client of nameko_mesh.aio beside aiormq: one mesh, a gateway on each client, in turns.

The difference is small, so many short turns follow each other without a pause. One client alone changes the
gateway with each request. A second gateway on nameko_mesh.aio is the control: it shows the noise.

Result of 2026-11-30, on a busy machine: with aiormq an order alone took 1.04 to 1.09 times as long (medians
of 50 to 80 rounds; the control 0.995 to 1.02), and the gateway spent 1.1 times the CPU per order at 64
clients. An order alone is thus more than 5 % slower, which is why nameko_mesh.aio keeps its own client.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import machine
from bench.alternating import Alternating
from bench.load import Load
from bench.measure import Clock, turns, warm
from bench.options import Options
from bench.results import LOAD, Sample
from bench.servers import CACHE, python_program
from bench.stacks.mesh import Mesh, mesh
from bench.wrk import Wrk
from mycelium.runner.liveness import answers
from mycelium.runner.process_plan import GATEWAY
from mycelium.servers import free_port, running

SUITE = "clients"
OWN, TWIN, AIORMQ = "nameko_mesh.aio", "nameko_mesh.aio again", "aiormq"
READY_SECONDS = 60
_LOADS: dict[str, Callable[[Mesh], Load]] = {"orders": Mesh.orders, "reads": Mesh.reads}

_FIGURES: dict[str, Callable[[Sample], float]] = {
    "{what}/s at {clients}": lambda sample: sample.rate,
    "p50 of {what} at {clients}": lambda sample: sample.p50,
}


def clients(options: Options) -> tuple[list[Sample], dict[str, float]]:
    """Measure orders, and reads of products over AMQP, so that reads use the client too."""
    wrk, folder = Wrk(CACHE, options.folder), options.folder / SUITE
    samples, facts = [], {}
    with mesh(folder) as stack, _gateways(stack, folder) as gateways:
        for load in _LOADS.values():
            warm(gateways, load, wrk, options)
        for at_once in options.clients:
            for what in _LOADS:
                found = _in_turns(what, stack, gateways, at_once, wrk, options)
                facts |= dict(_figures(found, what, at_once, options))
                samples += found
    return samples, facts


@contextmanager
def _gateways(stack: Mesh, folder: Path) -> Iterator[list[Mesh]]:
    """Start the gateways, and yield the mesh as seen through each. Its own gateway stays idle."""
    ports = {name: free_port() for name in (OWN, TWIN, AIORMQ)}
    programs = [
        python_program(
            name,
            "bench.programs.gateway_client",
            AIORMQ if name == AIORMQ else OWN,
            **stack.state.environment(),
            **{key: value for key, value in stack.state.secrets().items() if key == "JWT_SECRET"},
            GATEWAY_HOST="127.0.0.1",
            GATEWAY_PORT=str(port),
            GATEWAY_PRODUCTS_OVER="amqp",
        )
        for name, port in ports.items()
    ]
    with running(*programs, log_dir=folder / "logs") as processes:
        for name, port in ports.items():
            processes.wait_until(lambda: answers(f"http://127.0.0.1:{port}/ready"), READY_SECONDS, name)  # noqa: B023
        pids = {name: process.pid for name, process in processes.items()}
        yield [stack.behind(name, f"127.0.0.1:{port}", _named(name, pids)) for name, port in ports.items()]


def _named(loaded: str, pids: Mapping[str, int]) -> dict[str, int]:
    """Name the loaded gateway "gateway", and the others idle."""
    return {GATEWAY if name == loaded else f"idle {name}": pid for name, pid in pids.items()}


def _in_turns(
    what: str, stack: Mesh, gateways: Sequence[Mesh], at_once: int, wrk: Wrk, options: Options
) -> list[Sample]:
    """Load the gateways in turns. The stored orders are checked after the last turn."""
    stack.clean()
    stack.open_books()
    machine.wait_until_quiet(options.quiet_seconds)
    if at_once == 1:
        samples = _one_by_one(what, gateways, options)
    else:
        samples = [_turn(what, one, at_once, n, wrk, options) for n, one in turns(gateways, options.rounds)]
    stack.settle()
    if what == "orders":
        answered = sum(round(sample.notes["answers"]) for sample in samples)
        stack.check_books(answered, at_once * len(samples) + sum(sample.bad for sample in samples))
    return samples


def _turn(what: str, one: Mesh, at_once: int, number: int, wrk: Wrk, options: Options) -> Sample:
    """Load one gateway. Its CPU is counted until the end of the turn."""
    clock = Clock(one.roots())
    answered = wrk.run(_LOADS[what](one), at_once, options.seconds)
    foreign = clock.foreign_cores(answered.cpu)
    good = answered.requests - answered.bad
    spent = {**clock.spent(), LOAD: answered.cpu}
    return Sample(
        suite=SUITE,
        stack=f"{what}, {one.name}",
        clients=at_once,
        round=number,
        rate=answered.rate,
        p50=answered.p50,
        p99=answered.p99,
        bad=answered.bad,
        foreign_cores=foreign,
        noisy=foreign > machine.MAX_FOREIGN_CORES,
        cpu_us={name: round(1e6 * seconds / max(1, good), 1) for name, seconds in spent.items()},
        notes={"answers": good},
    )


def _one_by_one(what: str, gateways: Sequence[Mesh], options: Options) -> list[Sample]:
    """Send single requests to all gateways in turns. A sample has the CPU of its gateway only."""
    samples = []
    with Alternating({one.name: _LOADS[what](one) for one in gateways}) as client:
        for number in range(options.rounds):
            clock, own = Clock(gateways[0].roots()), time.process_time()
            took = client.ask(options.seconds)
            foreign = clock.foreign_cores(time.process_time() - own)
            spent = clock.spent()
            for one in gateways:
                seconds = sorted(took[one.name])
                name = GATEWAY if one is gateways[0] else f"idle {one.name}"
                samples.append(
                    Sample(
                        suite=SUITE,
                        stack=f"{what}, {one.name}",
                        clients=1,
                        round=number,
                        rate=len(seconds) / sum(seconds),
                        p50=1000 * seconds[len(seconds) // 2],
                        p99=1000 * seconds[len(seconds) * 99 // 100],
                        foreign_cores=foreign,
                        noisy=foreign > machine.MAX_FOREIGN_CORES,
                        cpu_us={GATEWAY: round(1e6 * spent[name] / len(seconds), 1)},
                        notes={"answers": len(seconds)},
                    )
                )
    return samples


def _figures(
    samples: Sequence[Sample], what: str, at_once: int, options: Options
) -> Iterator[tuple[str, float]]:
    """Yield the medians of the ratios within a round, and the CPU per response.

    Noisy rounds are left out, unless most rounds are noisy.
    """
    rounds = {
        name: sorted((one for one in samples if one.stack == f"{what}, {name}"), key=lambda one: one.round)
        for name in (OWN, TWIN, AIORMQ)
    }
    for label, figure in _FIGURES.items():
        for name in (AIORMQ, TWIN):
            both = list(zip(rounds[name], rounds[OWN], strict=True))
            quiet = [pair for pair in both if not (pair[0].noisy or pair[1].noisy)]
            found = [
                figure(one) / figure(other) for one, other in (quiet if 2 * len(quiet) > len(both) else both)
            ]
            text = f"{label.format(what=what, clients=at_once)}: {name} / {OWN}"
            low, middle, high = statistics.quantiles(found, n=4) if len(found) > 1 else found * 3
            options.say(f"{text} {middle:.3f}, half of {len(found)} from {low:.3f} to {high:.3f}")
            yield text, middle
    for name, turned in rounds.items():
        answered = sum(one.notes["answers"] for one in turned)
        cpu = sum(one.cpu_us[GATEWAY] * one.notes["answers"] for one in turned) / answered
        text = f"us of CPU of the gateway for {what} at {at_once}: {name}"
        options.say(f"{text} {cpu:.1f}")
        yield text, cpu

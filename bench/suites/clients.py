"""The AMQP client of nameko_mesh.aio beside aiormq: one mesh, a gateway on each client, in turns.

The difference is small, so many short turns follow each other without a pause. A single client changes the
gateway with each request. A second gateway on nameko_mesh.aio is the control: it shows the noise.

Result of 2026-11-30, on a busy machine, as medians of 50 to 80 rounds. With aiormq a single client's order
took 1.04 to 1.09 times as long, and in the control 0.995 to 1.02 times. At 64 clients the gateway spent 1.1
times the CPU per order. An order may thus be more than 5 % slower, so nameko_mesh.aio keeps its own client.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import machine
from bench.alternating import Alternating
from bench.measure import Clock, turns, warm
from bench.options import Options
from bench.results import LOAD, Sample
from bench.servers import CACHE, python_program
from bench.stacks.mesh import LOADS, Mesh, mesh
from bench.wrk import Wrk
from mycelium.runner.liveness import answers
from mycelium.runner.process_plan import GATEWAY
from mycelium.servers import free_port, running

SUITE = "clients"
OWN, TWIN, AIORMQ = "nameko_mesh.aio", "nameko_mesh.aio again", "aiormq"
READY_TIMEOUT_SECONDS = 60

_FIGURES: dict[str, Callable[[Sample], float]] = {
    "{what}/s at {clients}": lambda sample: sample.rate,
    "p50 of {what} at {clients}": lambda sample: sample.p50,
}


def clients(options: Options) -> tuple[list[Sample], dict[str, float]]:
    """Measure orders, and reads of products over AMQP, so that reads use the client too."""
    wrk, folder = Wrk(CACHE, options.folder), options.folder / SUITE
    samples, facts = [], {}
    with mesh(folder) as stack, _gateways(stack, folder) as gateways:
        for load in LOADS.values():
            warm(gateways, load, wrk, options)
        for at_once in options.clients:
            for what in LOADS:
                measured = _in_turns(what, stack, gateways, at_once, wrk, options)
                facts |= dict(_figures(measured, what, at_once, options))
                samples += measured
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
            url = f"http://127.0.0.1:{port}/ready"
            processes.wait_until(lambda: answers(url), READY_TIMEOUT_SECONDS, name)  # noqa: B023
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
        samples = [
            _turn(what, gateway, at_once, number, wrk, options)
            for number, gateway in turns(gateways, options.rounds)
        ]
    stack.settle()
    if what == "orders":
        answered = sum(round(sample.notes["answers"]) for sample in samples)
        stack.check_books(answered, at_once * len(samples) + sum(sample.bad for sample in samples))
    return samples


def _turn(what: str, gateway: Mesh, at_once: int, number: int, wrk: Wrk, options: Options) -> Sample:
    """Load one gateway. Its CPU is counted until the end of the turn."""
    clock = Clock(gateway.roots())
    responses = wrk.run(LOADS[what](gateway), at_once, options.seconds)
    foreign = clock.foreign_cores(responses.cpu)
    good = responses.requests - responses.bad
    spent = {**clock.spent(), LOAD: responses.cpu}
    return Sample(
        suite=SUITE,
        stack=f"{what}, {gateway.name}",
        clients=at_once,
        round=number,
        rate=responses.rate,
        p50=responses.p50,
        p99=responses.p99,
        bad=responses.bad,
        foreign_cores=foreign,
        noisy=foreign > machine.MAX_FOREIGN_CORES,
        cpu_us={name: round(1e6 * seconds / max(1, good), 1) for name, seconds in spent.items()},
        notes={"answers": good},
    )


def _one_by_one(what: str, gateways: Sequence[Mesh], options: Options) -> list[Sample]:
    """Send single requests to all gateways in turns. A sample has the CPU of its gateway only."""
    samples = []
    with Alternating({gateway.name: LOADS[what](gateway) for gateway in gateways}) as client:
        for number in range(options.rounds):
            clock, own = Clock(gateways[0].roots()), time.process_time()
            latencies = client.latencies(options.seconds)
            foreign = clock.foreign_cores(time.process_time() - own)
            spent = clock.spent()
            for gateway in gateways:
                seconds = sorted(latencies[gateway.name])
                name = GATEWAY if gateway is gateways[0] else f"idle {gateway.name}"
                samples.append(
                    Sample(
                        suite=SUITE,
                        stack=f"{what}, {gateway.name}",
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
    """Yield the medians of the ratios within a round, and the CPU per response."""
    rounds = {
        name: sorted(
            (sample for sample in samples if sample.stack == f"{what}, {name}"),
            key=lambda sample: sample.round,
        )
        for name in (OWN, TWIN, AIORMQ)
    }
    for label, figure in _FIGURES.items():
        for name in (AIORMQ, TWIN):
            ratios = [figure(sample) / figure(own) for sample, own in _pairs(rounds[name], rounds[OWN])]
            text = f"{label.format(what=what, clients=at_once)}: {name} / {OWN}"
            low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
            options.say(f"{text} {middle:.3f}, half of {len(ratios)} from {low:.3f} to {high:.3f}")
            yield text, middle
    for name, turned in rounds.items():
        text = f"us of CPU of the gateway for {what} at {at_once}: {name}"
        options.say(f"{text} {_gateway_cpu_us(turned):.1f}")
        yield text, _gateway_cpu_us(turned)


def _pairs(samples: Sequence[Sample], own: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """Pair the samples of each round. Noisy rounds are left out, unless most rounds are noisy."""
    pairs = list(zip(samples, own, strict=True))
    quiet = [pair for pair in pairs if not (pair[0].noisy or pair[1].noisy)]
    return quiet if 2 * len(quiet) > len(pairs) else pairs


def _gateway_cpu_us(samples: Sequence[Sample]) -> float:
    """Return the gateway's microseconds of CPU per response, over all rounds."""
    answered = sum(sample.notes["answers"] for sample in samples)
    return sum(sample.cpu_us[GATEWAY] * sample.notes["answers"] for sample in samples) / answered

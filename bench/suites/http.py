"""Orders and reads over HTTP: the mesh, the tutorial and stock Nameko in turns."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from bench import processes
from bench.load import Load
from bench.measure import run, turns, warm
from bench.options import Options
from bench.results import Sample
from bench.servers import CACHE
from bench.stacks import Stack
from bench.stacks.mesh import LOADS, mesh
from bench.stacks.stock import stock
from bench.stacks.tutorial import tutorial
from bench.wrk import Wrk
from mycelium.runner.process_plan import GATEWAY

GATEWAYS = {1: "1 gateway", 2: "2 gateways"}
OVERLOAD_CLIENTS = (256, 1024)
MIN_OVERLOAD_SECONDS = 6
"""Shorter runs would measure only the start of an overload, which differs from the rest."""


def orders(options: Options) -> tuple[list[Sample], dict[str, float]]:
    return _measure("orders", lambda stack: stack.orders(), options), {}


def reads(options: Options) -> tuple[list[Sample], dict[str, float]]:
    return _measure("reads", lambda stack: stack.reads(), options), {}


def overload(options: Options) -> tuple[list[Sample], dict[str, float]]:
    """Measure four times as many clients as the mesh serves well. It should refuse the excess at once."""
    wrk = Wrk(CACHE, options.folder)
    options = replace(options, seconds=max(options.seconds, MIN_OVERLOAD_SECONDS))
    with mesh(options.folder / "overload") as stack:
        warm([stack], lambda stack: stack.orders(), wrk, options)
        return [
            run("overload", stack, stack.orders(), wrk, clients, number, options)
            for number, clients in turns(OVERLOAD_CLIENTS, options.rounds)
        ], {}


def gateways(options: Options) -> tuple[list[Sample], dict[str, float]]:
    """Measure two meshes: one gateway on its port, and two gateways that share a port."""
    wrk, names, facts = Wrk(CACHE, options.folder), {}, {}
    with ExitStack() as running:
        for count, name in GATEWAYS.items():
            options.say(f"starting the mesh with {name}")
            folder = options.folder / "gateways" / str(count)
            names[running.enter_context(mesh(folder, "--scale", f"gateway={count}"))] = name
        warm([*names], lambda stack: stack.orders(), wrk, options)
        samples = [
            run(
                "gateways", stack, load(stack), wrk, clients, number, options, label=f"{what}, {names[stack]}"
            )
            for clients in options.clients
            for what, load in LOADS.items()
            for number, stack in turns([*names], options.rounds)
        ]
        for stack, name in names.items():
            used = processes.memory(stack.roots())
            facts[f"MB of {name}"] = sum(mb for process, mb in used.items() if process.startswith(GATEWAY))
    return samples, facts


def _measure(suite: str, load: Callable[[Stack], Load], options: Options) -> list[Sample]:
    wrk = Wrk(CACHE, options.folder)
    with ExitStack() as running:
        options.say("starting the tutorial, stock Nameko and the mesh")
        stacks: list[Stack] = [
            running.enter_context(tutorial(options.folder / suite / "tutorial")),
            running.enter_context(stock(options.folder / suite / "stock")),
            running.enter_context(mesh(options.folder / suite / "mesh")),
        ]
        warm(stacks, load, wrk, options)
        return [
            run(suite, stack, load(stack), wrk, clients, number, options)
            for clients in options.clients
            for number, stack in turns(stacks, options.rounds)
        ]

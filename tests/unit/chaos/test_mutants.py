"""Each mutant replaces exactly the names that it declares. A name that no longer exists is an error."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from mycelium.runner.process_plan import SERVICES
from mycelium.state import ROOT
from tests.chaos import mutants
from tests.chaos.mutants import Mutant, every_mutant, place_of
from tests.chaos.rows import every_row

MISSING = object()
MUTANTS = {mutant.name: mutant for mutant in every_mutant()}


@pytest.fixture(params=MUTANTS)
def mutant(request, monkeypatch):
    """A mutant to apply. Its replacements are undone after the test."""
    chosen = MUTANTS[request.param]
    for owner, name in map(place_of, chosen.replaces):
        current = getattr(owner, name)
        if name in vars(owner):
            monkeypatch.setattr(owner, name, current)
        else:  # inherited: the undo deletes the replacement
            monkeypatch.setattr(owner, name, current, raising=False)
            monkeypatch.delattr(owner, name)
    return chosen


def everything_in(targets):
    return {target: inspect.getattr_static(*place_of(target), MISSING) for target in targets}


def test_mutant_changes_each_name_that_it_declares(mutant):
    before = everything_in(mutant.replaces)

    mutant.apply()

    after = everything_in(mutant.replaces)
    assert [target for target in before if after[target] is before[target]] == []


def test_mutant_changes_no_name_that_it_does_not_declare(mutant):
    names = {target for mutant in MUTANTS.values() for target in mutant.replaces} - set(mutant.replaces)
    before = everything_in(names)

    mutant.apply()

    assert everything_in(names) == before


@pytest.mark.parametrize("service", sorted({mutant.service for mutant in MUTANTS.values() if mutant.service}))
def test_service_loads_each_module_that_is_sabotaged_in_it(service):
    script = f"import sys, nameko_mesh.runtime.container, services.{service}.service; print(*sys.modules)"
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    sabotaged = {
        target.partition(":")[0]
        for mutant in MUTANTS.values()
        for target in mutant.replaces
        if mutant.service in (None, service)
    }
    assert sabotaged - set(done.stdout.split()) == set()


def test_mutant_belongs_to_a_service_of_the_mesh():
    assert {mutant.service for mutant in MUTANTS.values()} <= {None, *SERVICES}


@pytest.mark.parametrize("row", every_row(), ids=lambda row: row.name)
def test_control_of_a_row_is_a_mutant_of_a_sabotaged_service(row):
    control = MUTANTS[row.control]
    assert set(row.sabotaged) <= set(SERVICES)
    assert control.service is None or control.service in row.sabotaged


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("services.products.no_such_module:reserve", ImportError),
        ("services.products.domain:no_such_function", AttributeError),
        ("nameko_mesh.outbox.relay:NoSuchClass._publish", AttributeError),
    ],
)
def test_missing_name_is_an_error(target, error):
    with pytest.raises(error, match=r"no_such|NoSuch"):
        Mutant("gone", "", (target,), lambda _: [None]).apply()


def test_missing_replacement_is_an_error():
    target = "services.orders.recovery:sweep"
    with pytest.raises(ValueError, match="shorter"):
        Mutant("short", "", (target,), lambda _: []).apply()


def test_mutant_of_one_service_leaves_the_others_alone(monkeypatch):
    applied = []
    monkeypatch.setattr(Mutant, "apply", lambda self: applied.append(self.name))

    mutants.apply(["no-lock", "leaks"], "orders")

    assert applied == ["leaks"]


def test_unknown_mutant_is_an_error():
    with pytest.raises(KeyError, match="no-such"):
        mutants.apply(["no-such"], "orders")

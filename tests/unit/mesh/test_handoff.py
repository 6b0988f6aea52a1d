"""Rows in memory between a commit and the relay of the same process, when their claim is lost."""

from __future__ import annotations

import pytest

from nameko_mesh.outbox import Handoff
from nameko_mesh.outbox.handoff import ClaimsLost
from nameko_mesh.outbox.rows import OutboxRow

ROW = OutboxRow(1, "renamed", False, frozenset({"a"}), 1, b"[{}]", "e1", b"{}")


def handoff_with_a_row():
    handoff = Handoff()
    handoff.rename_claimant("first")
    handoff.offer([ROW], "first", has_unclaimed=False)
    return handoff


def test_rows_in_memory_are_given_up_after_an_unknown_outcome():
    """An older event of the same aggregate may be committed and unsent: the row must not overtake it."""
    handoff = handoff_with_a_row()
    handoff.outcome_unknown("first")
    with pytest.raises(ClaimsLost):
        handoff.take(10)

    assert handoff.rename_claimant(None) == [ROW]
    assert handoff.take(10) == []


def test_same_claimant_keeps_the_rows_in_memory():
    handoff = handoff_with_a_row()

    assert handoff.rename_claimant("first") == []
    assert handoff.take(10) == [ROW]


def test_rows_of_a_former_claimant_are_not_taken():
    handoff = handoff_with_a_row()
    handoff.rename_claimant("second")
    handoff.offer([ROW], "first", has_unclaimed=False)

    assert handoff.take(10) == []


def row(seq, *aggregate_ids):
    return ROW._replace(seq=seq, aggregate_ids=frozenset(aggregate_ids))


def test_rows_wait_while_an_older_commit_of_their_aggregate_has_no_answer():
    handoff = Handoff()
    handoff.rename_claimant("first")
    commit = handoff.begin_commit(["a"])
    handoff.offer([row(2, "a", "b"), row(3, "b"), row(4, "c")], "first", has_unclaimed=False)
    assert handoff.take(10) == [row(4, "c")]

    handoff.offer([row(1, "a")], "first", has_unclaimed=False)
    handoff.end_commit(commit)

    assert handoff.take(10) == [row(1, "a"), row(2, "a", "b"), row(3, "b")]


def test_row_does_not_wait_for_a_commit_that_began_after_its_own():
    handoff = handoff_with_a_row()
    handoff.begin_commit(["a"])

    assert handoff.take(10) == [ROW]


def test_older_rows_are_taken_first_however_few_are_taken():
    handoff = Handoff()
    handoff.rename_claimant("first")
    handoff.offer([row(2, "a"), row(3, "b"), row(1, "a")], "first", has_unclaimed=False)

    assert [handoff.take(1) for _ in range(3)] == [[row(1, "a")], [row(2, "a")], [row(3, "b")]]

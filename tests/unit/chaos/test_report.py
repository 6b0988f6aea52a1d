"""The page of the chaos rows is made from its JSON file."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.chaos import report
from tests.chaos.rows import every_row


def test_page_in_the_docs_is_what_its_json_file_renders(tmp_path):
    page = tmp_path / report.PAGE.name
    for path in (report.PAGE, report.PAGE.with_suffix(".json")):
        shutil.copy(path, tmp_path)

    report.render(page)

    assert page.read_text() == report.PAGE.read_text()


def test_every_row_has_a_result_with_its_own_mutant():
    records = json.loads(report.PAGE.with_suffix(".json").read_text())
    assert {name: record["mutant"] for name, record in records.items()} == {
        row.name: row.control for row in every_row()
    }


@pytest.mark.parametrize("row", every_row(), ids=lambda row: row.name)
def test_texts_of_a_row_fit_a_cell(row):
    assert len(row.load) <= report.MAX_CELL_LENGTH
    assert len(row.passes) <= report.MAX_CELL_LENGTH


@pytest.mark.parametrize(
    ("faults", "text"),
    [
        ({}, "none"),
        ({"kill -9 orders": 2, "memory alarm": 1}, "2 x kill -9 orders, 1 x memory alarm"),
        (
            {
                **{f"exit at orders.{point}.before": 2 for point in ("commit", "publish", "reply", "ack")},
                "kill -9 orders": 1,
                "kill -9 products": 1,
                "memory alarm": 1,
            },
            "8 x exit, 2 x kill -9, 1 x memory alarm",
        ),
    ],
)
def test_long_list_of_faults_is_counted_by_kind(faults, text):
    assert report._faults_in_short(faults) == text

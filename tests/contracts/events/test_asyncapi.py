"""The AsyncAPI document is what the code publishes, and the golden events obey it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from mycelium import asyncapi

GOLDEN = sorted(Path(__file__).parent.glob("*.json"))


def test_document_matches_the_event_classes():
    assert asyncapi.DOCUMENT.read_text() == asyncapi.rendered()


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_event_is_valid_by_its_schema(path):
    event = json.loads(path.read_text())
    channels = asyncapi.document()["channels"]
    (channel,) = [channel for name, channel in channels.items() if name.endswith(f".{event['type']}")]
    Draft202012Validator(channel["messages"][event["type"]]["payload"]).validate(event)


def test_every_event_is_described():
    described = {name.rpartition(".")[2] for name in asyncapi.document()["channels"]}
    assert {path.name.split(".")[0] for path in GOLDEN} == described

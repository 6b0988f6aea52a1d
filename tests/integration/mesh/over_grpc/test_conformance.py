"""The four kinds of calls with all their options, made by grpcio's and by nameko-grpc's client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

INTERNAL = ["INTERNAL", "internal error"]
TYPE = "type.googleapis.com/google.rpc."
REFUSED = ["FAILED_PRECONDITION", "P001 is short"]

EXPECTED = {
    "one_to_one": "hello",
    "one_to_many": [0, 1, 2, 3, 4],
    "one_to_none": [],
    "many_to_one": ["a,b,c", 3],
    "none_to_one": 0,
    "many_to_many": ["a", "b", "c"],
    "question_and_answer": ["q0", "q1", "q2", "q3", "q4"],
    "enough_before_the_end": "a,enough",
    "many_at_once": True,
    "streams_at_once": True,
    "large_both_ways": True,
    "packed": [True, True],
    "packed_streams": [100_000, 100_000, 100_000],
    "deadline_of_one": "DEADLINE_EXCEEDED",
    "deadline_of_a_stream": ["DEADLINE_EXCEEDED", [0]],
    "deadline_while_asking": "DEADLINE_EXCEEDED",
    "errors": {
        "fail": INTERNAL,  # without the text of the exception
        "refuse": REFUSED,
        "heir": ["FAILED_PRECONDITION", "too many"],  # only the slug of its base class is in the table
        "registered": ["DATA_LOSS", "as it was registered"],  # for its base class
        "plain": ["ABORTED", "again, pleäse\nsoon"],
        "unpackable": INTERNAL,
    },
    "details": [
        9,
        "P001 is short",
        {"@type": TYPE + "ErrorInfo", "reason": "OUT_OF_STOCK", "domain": "echo"},
        {
            "@type": TYPE + "BadRequest",
            "fieldViolations": [{"field": "quantity", "description": "P001 is short"}],
        },
    ],
    "a_long_message": ["NOT_FOUND", 1000],
    "error_after_messages": [REFUSED, [0, 1, 2]],
    "error_while_asking": [REFUSED, REFUSED],
    "unpackable_in_a_stream": INTERNAL,
    "code_set_by_hand": ["OUT_OF_RANGE", "set by hand"],
    "metadata": [["blue", "red"], ["0001"], "one", "00ff", "two"],
    "context_data": {"a": [1]},
}


# A message with a code that says no: nameko-grpc's client takes the message, grpcio's believes the code.
OF_NAMEKO = {"code_set_by_hand": ["OK", ""]}


@pytest.mark.parametrize("client", ["grpcio", "nameko"])
def test_every_kind_of_call_works_with_both_clients(
    client: str, echo: Any, program: Callable[..., Any]
) -> None:
    played = program("caller_of_all_kinds.py", f"127.0.0.1:{echo.server.bound_port}", client)
    assert played == (EXPECTED | OF_NAMEKO if client == "nameko" else EXPECTED)

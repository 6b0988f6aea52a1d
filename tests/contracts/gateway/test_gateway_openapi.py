"""The OpenAPI document is a contract, because clients are built on it.

After an intended change run `UPDATE_GOLDEN=1 python -m pytest -p no:pytest_nameko tests/contracts/gateway`.
Read the difference before you commit it.
"""

import json
import os
from pathlib import Path

import pytest

from gateway.app import create_app
from gateway.settings import Settings

GOLDEN = Path(__file__).with_name("openapi.json")


@pytest.fixture(scope="module")
def document():
    class UnusedMesh:
        subscribe = print

    settings = Settings(AMQP_URI="amqp://nowhere", JWT_SECRET="x" * 32)
    return create_app(settings, UnusedMesh()).openapi()


def test_document_equals_the_golden_file(document):
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text)

    assert json.loads(GOLDEN.read_text()) == document


def test_references_and_schemas_match(document):
    schemas = document["components"]["schemas"]
    text = json.dumps(document)
    references = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}

    assert references <= schemas.keys()
    assert schemas.keys() - references == set()


def test_document_has_every_route_of_the_design(document):
    routes = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}

    assert routes == {
        "POST /auth/token",
        "POST /users",
        "GET /users/me",
        "GET /users/{id}",
        "PATCH /users/me",
        "GET /products",
        "GET /products/{id}",
        "POST /products",
        "PATCH /products/{id}",
        "POST /products/{id}/restock",
        "POST /orders",
        "GET /orders",
        "GET /orders/{id}",
        "POST /orders/{id}/cancel",
        "GET /orders/{id}/events",
        "GET /health",
        "GET /ready",
    }

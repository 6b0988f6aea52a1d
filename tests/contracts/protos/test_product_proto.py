"""The field numbers of the product messages never change, because compiled clients depend on them."""

from __future__ import annotations

import pytest

from mycelium import protos
from protos import product_pb2 as pb

MESSAGES = {
    "ProductRequest": {"product_id": 1},
    "ProductResponse": {
        "id": 1,
        "name": 2,
        "price": 3,
        "stock": 4,
        "price_minor": 5,
        "currency": 6,
        "version": 7,
    },
    "BatchGetProductsRequest": {"product_ids": 1},
    "BatchGetProductsResponse": {"results": 1},
    "ProductResult": {"product": 1, "problem": 2},
    "Problem": {"code": 1, "message": 2, "field": 3},
    "ListProductsRequest": {"query": 1},
    "OrderLine": {"product_id": 1, "quantity": 2},
    "ReserveStockRequest": {"order_id": 1, "items": 2},
    "ReservedLine": {"product_id": 1, "name": 2, "quantity": 3, "unit_price_minor": 4},
    "ReserveStockResponse": {"order_id": 1, "items": 2, "currency": 3},
    "ReleaseStockRequest": {"order_id": 1},
    "ReleaseStockResponse": {"order_id": 1},
    "WatchStockRequest": {"product_ids": 1},
    "StockChange": {"product_id": 1, "stock": 2, "version": 3},
}
METHODS = {
    "GetProduct": ("ProductRequest", "ProductResponse", False),
    "BatchGetProducts": ("BatchGetProductsRequest", "BatchGetProductsResponse", False),
    "ListProducts": ("ListProductsRequest", "ProductResponse", True),
    "ReserveStock": ("ReserveStockRequest", "ReserveStockResponse", False),
    "ReleaseStock": ("ReleaseStockRequest", "ReleaseStockResponse", False),
    "WatchStock": ("WatchStockRequest", "StockChange", True),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_message_keeps_its_field_numbers(name):
    fields = pb.DESCRIPTOR.message_types_by_name[name].fields
    assert {field.name: field.number for field in fields} == MESSAGES[name]


def test_every_message_is_in_the_contract():
    assert set(pb.DESCRIPTOR.message_types_by_name) == set(MESSAGES)


def test_methods_keep_their_types():
    service = pb.DESCRIPTOR.services_by_name["ProductService"]
    assert service.full_name == "product.ProductService"
    methods = {
        method.name: (method.input_type.name, method.output_type.name, method.server_streaming)
        for method in service.methods
    }
    assert methods == METHODS


def test_classic_fields_keep_the_types_of_the_tutorial():
    kinds = {field.name: field.type for field in pb.ProductResponse.DESCRIPTOR.fields}
    field = pb.ProductResponse.DESCRIPTOR.fields[0]
    assert kinds["price"] == field.TYPE_DOUBLE
    assert kinds["stock"] == field.TYPE_INT32


def test_generated_code_matches_the_proto_file():
    assert protos.stale_files() == []

"""The stock clients of health and reflection, in a process of their own: ADDRESS SCENARIO.

Prints what they saw as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SECONDS = 20
SHOP = "product.ProductService"


def _named(answer: Any) -> str:
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def _check(channel: Any, service: str) -> str:
    stub = health_pb2_grpc.HealthStub(channel)
    try:
        return _named(stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=SECONDS))
    except grpc.RpcError as error:
        return str(error.code().name)


def _watch(channel: Any, service: str) -> Any:
    request = health_pb2.HealthCheckRequest(service=service)
    return map(_named, health_pb2_grpc.HealthStub(channel).Watch(request, timeout=60))


def checks(channel: Any) -> list[Any]:
    listed = health_pb2_grpc.HealthStub(channel).List(health_pb2.HealthListRequest(), timeout=SECONDS)
    return [
        *(_check(channel, name) for name in ("", SHOP, "nobody")),
        next(_watch(channel, "nobody")),
        {name: _named(answer) for name, answer in listed.statuses.items()},
    ]


def watched(channel: Any) -> list[str]:
    """All that is told until the server ends it."""
    return list(_watch(channel, SHOP))


def until_it_is_away(channel: Any) -> list[str]:
    told = []
    for status in _watch(channel, ""):
        told.append(status)
        if status == "NOT_SERVING":
            break
    return told


def reflection(channel: Any) -> Any:
    """What a tool needs for a call of a method that it was not made for."""
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    method = pool.FindServiceByName(SHOP).FindMethodByName("ListProducts")
    return [sorted(database.get_services()), method.input_type.full_name, method.server_streaming]


def reflection_v1(channel: Any) -> list[Any]:
    info = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    asked = [SHOP, "grpc.reflection.v1.ServerReflection", "product.Nothing"]
    requests = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in asked]
    answers = info(iter([*requests, reflection_pb2.ServerReflectionRequest()]), timeout=SECONDS)
    return [answer.error_response.error_code or answer.WhichOneof("message_response") for answer in answers]


if __name__ == "__main__":
    with grpc.insecure_channel(sys.argv[1]) as channel:
        print(json.dumps(globals()[sys.argv[2]](channel)), flush=True)

"""Stock clients of grpc.health.v1 and of server reflection: ADDRESS SCENARIO. Prints JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

SECONDS = 20


def name_of(status: int) -> str:
    return str(HealthCheckResponse.ServingStatus.Name(status))


def checked(channel: Any, service: str) -> str:
    try:
        return name_of(HealthStub(channel).Check(HealthCheckRequest(service=service), timeout=SECONDS).status)
    except grpc.RpcError as error:
        return str(error.code().name)


def check(channel: Any) -> Any:
    return [checked(channel, service) for service in ("", "echo.Echo", "grpc.health.v1.Health", "nobody")]


def watch(channel: Any) -> Any:
    """Print every status as it arrives, one a line, until the server ends the stream."""
    seen = []
    for response in HealthStub(channel).Watch(HealthCheckRequest(service="echo.Echo"), timeout=60):
        seen.append(name_of(response.status))
        print(seen[-1], flush=True)
    return seen


def watch_nobody(channel: Any) -> Any:
    stream = HealthStub(channel).Watch(HealthCheckRequest(service="nobody"), timeout=SECONDS)
    first = name_of(next(stream).status)
    stream.cancel()
    return first


def reflect(channel: Any) -> Any:
    database = ProtoReflectionDescriptorDatabase(channel)
    method = DescriptorPool(database).FindServiceByName("echo.Echo").FindMethodByName("Gather")
    return [sorted(database.get_services()), method.input_type.full_name, method.client_streaming]


def reflect_as_v1(channel: Any) -> Any:
    """Send grpcurl's first requests, under the newer version's name."""
    info = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=ServerReflectionRequest.SerializeToString,
        response_deserializer=ServerReflectionResponse.FromString,
    )
    requests = [
        ServerReflectionRequest(list_services=""),
        ServerReflectionRequest(file_containing_symbol="grpc.reflection.v1.ServerReflection"),
        ServerReflectionRequest(file_containing_symbol="no.such.Thing"),
        ServerReflectionRequest(file_by_filename="/etc/passwd"),
        ServerReflectionRequest(),
    ]
    return [answer.WhichOneof("message_response") for answer in info(iter(requests), timeout=SECONDS)]


SCENARIOS: list[Callable[[Any], Any]] = [check, watch, watch_nobody, reflect, reflect_as_v1]

if __name__ == "__main__":
    play = {scenario.__name__: scenario for scenario in SCENARIOS}[sys.argv[2]]
    with grpc.insecure_channel(sys.argv[1]) as channel:
        print(json.dumps(play(channel)), flush=True)

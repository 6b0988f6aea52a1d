"""Server reflection: describes the services and their messages, for grpcurl and similar clients.

grpcio-reflection builds the responses. It implements the protocol as v1alpha. v1 is identical, message by
message, under another name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha.reflection import SERVICE_NAME, ReflectionServicer
from grpc_reflection.v1alpha.reflection_pb2 import DESCRIPTOR, ServerReflectionRequest

from nameko_mesh.grpc.builtin_methods import BuiltinMethod

_V1 = SERVICE_NAME.replace("v1alpha", "v1")


def methods(services: Callable[[], Iterable[str]]) -> list[BuiltinMethod]:
    """Return the reflection methods. `services` returns the full names of the services that clients may
    see."""

    def handle(requests: Iterator[Any], stream: Any) -> Iterator[Any]:
        yield from ReflectionServicer(services()).ServerReflectionInfo(requests, None)

    return [
        BuiltinMethod(service, "ServerReflectionInfo", ServerReflectionRequest, handle)
        for service in (_V1, SERVICE_NAME)
    ]


def describe_v1() -> None:
    """Add v1 to protobuf's default pool, where ReflectionServicer looks. Later calls change nothing."""
    file = FileDescriptorProto.FromString(DESCRIPTOR.serialized_pb)
    _rename(file, "name", "package")
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                _rename(field, "type_name")
    for method in file.service[0].method:
        _rename(method, "input_type", "output_type")
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())


def _rename(descriptor: Any, *names: str) -> None:
    for name in names:
        setattr(descriptor, name, getattr(descriptor, name).replace("v1alpha", "v1"))

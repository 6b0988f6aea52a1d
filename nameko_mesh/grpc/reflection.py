"""Server reflection: which services there are and what their messages look like, for grpcurl and its kind.

The answers are those of grpcio-reflection. It knows the protocol as v1alpha; as v1 it is the same, message
by message, under another name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha.reflection import SERVICE_NAME, ReflectionServicer
from grpc_reflection.v1alpha.reflection_pb2 import DESCRIPTOR, ServerReflectionRequest

from nameko_mesh.grpc.builtin_methods import BuiltIn

_V1 = SERVICE_NAME.replace("v1alpha", "v1")


def methods(services: Callable[[], Iterable[str]]) -> list[BuiltIn]:
    """`services` gives the full names of those that a client may learn of."""
    _describe_v1()

    def answer(requests: Iterator[Any], stream: Any) -> Iterator[Any]:
        yield from ReflectionServicer(services()).ServerReflectionInfo(requests, None)

    return [
        BuiltIn(service, "ServerReflectionInfo", ServerReflectionRequest, answer)
        for service in (_V1, SERVICE_NAME)
    ]


def _describe_v1() -> None:
    """So that a client who is told of v1 finds it described too."""
    file = FileDescriptorProto.FromString(DESCRIPTOR.serialized_pb)
    _rename(file, "name", "package")
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                _rename(field, "type_name")
    for method in file.service[0].method:
        _rename(method, "input_type", "output_type")
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())


def _rename(described: Any, *names: str) -> None:
    for name in names:
        setattr(described, name, getattr(described, name).replace("v1alpha", "v1"))

"""grpc.reflection: what a gRPC server answers to, told to tools such as grpcurl.

Both versions that are in use, `v1` and `v1alpha`: the messages are the same. grpcio's package has the
older one alone; from its description the newer one is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc_reflection.v1alpha import reflection_pb2 as pb
from grpc_reflection.v1alpha.reflection import ReflectionServicer

V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"
V1 = "grpc.reflection.v1.ServerReflection"


class Reflection:
    """Describes `services` (full names), each of which protobuf's default pool knows, and itself."""

    def __init__(self, services: Iterable[str]) -> None:
        _know_v1()
        self._servicer = ReflectionServicer([*services, V1, V1ALPHA])
        self.methods = {f"/{name}/ServerReflectionInfo": self._info for name in (V1, V1ALPHA)}

    def _info(self, request_stream: Any, response_stream: Any) -> Iterator[pb.ServerReflectionResponse]:
        requests = request_stream.consume(pb.ServerReflectionRequest)
        answers: Iterator[pb.ServerReflectionResponse] = self._servicer.ServerReflectionInfo(requests, None)
        return answers


def _know_v1() -> None:
    pool = descriptor_pool.Default()
    try:
        pool.FindFileContainingSymbol(V1)
    except KeyError:
        described = descriptor_pb2.FileDescriptorProto()
        pb.DESCRIPTOR.CopyToProto(described)
        text = text_format.MessageToString(described).replace("v1alpha", "v1")
        pool.AddSerializedFile(
            text_format.Parse(text, descriptor_pb2.FileDescriptorProto()).SerializeToString()
        )

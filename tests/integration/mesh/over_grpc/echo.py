"""A service with a method of each kind. Its gRPC code is generated at import.

As a program of its own: `nameko run tests.integration.mesh.over_grpc.echo:EchoService`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import eventlet
import grpc
from nameko.extensions import DependencyProvider
from nameko_grpc.errors import GrpcError, register_exception_handler

from nameko_mesh.errors import Refused
from nameko_mesh.grpc import Grpc

pb, services = grpc.protos_and_services("tests/integration/mesh/over_grpc/echo.proto")
entrypoint = Grpc.implementing(services.EchoStub)

SLOW_SECONDS = 1.0
BRIEF_SECONDS = 0.02


class Conflicting(Exception):
    slug = "conflict"


class Crowded(Conflicting):
    slug = "crowded"


class Registered(Exception):
    pass


class MoreSo(Registered):
    pass


def gone(exc_info: Any, code: Any, message: Any) -> GrpcError:
    return GrpcError(grpc.StatusCode.DATA_LOSS, "as it was registered")


register_exception_handler(Registered, gone)

FAILURES = {
    "fail": LookupError("with a secret"),
    "refuse": Refused("out-of-stock", "P001 is short", field="quantity"),
    "chatter": Refused("not-found", "x" * 100_000),
    "heir": Crowded("too many"),
    "registered": MoreSo("with a secret"),
    "plain": GrpcError(grpc.StatusCode.ABORTED, "again, pleäse\nsoon"),
}


class Diary(DependencyProvider):
    """Records the calls that a worker has begun, also in the file ECHO_DIARY. Injects the context data."""

    entries: ClassVar[list[Any]] = []

    def setup(self) -> None:
        self.file = Path(os.environ.get("ECHO_DIARY", os.devnull)).open("a", buffering=1)  # noqa: SIM115

    def get_dependency(self, worker_ctx: Any) -> Any:
        if isinstance(request := worker_ctx.args[0], pb.Say):
            self.entries.append(request.text)
            print(request.text, file=self.file)
        return worker_ctx.data

    def stop(self) -> None:
        self.file.close()


class EchoService:
    name = "echo"
    data = Diary()
    gate: ClassVar[eventlet.Event] = eventlet.Event()

    @entrypoint
    def Once(self, say: Any, context: Any) -> Any:
        if (failure := FAILURES.get(say.text)) is not None:
            raise failure
        match say.text:
            case "slow":
                eventlet.sleep(SLOW_SECONDS)
            case "gate":
                self.gate.wait()
            case text if text.startswith("brief"):
                eventlet.sleep(BRIEF_SECONDS)
            case "unpackable":
                return object()
            case "metadata":
                # HTTP/2 wants lower-case names and no space around values; the server must correct both.
                context.send_initial_metadata([("First", "one "), ("packed-bin", b"\0\xff")])
                context.set_trailing_metadata([("Last", " two")])
                return pb.Heard(text=json.dumps(self._metadata(context)))
            case "code":
                context.set_code(grpc.StatusCode.OUT_OF_RANGE)
                context.set_message("set by hand")
            case "context":
                return pb.Heard(text=json.dumps(self.data.get("colour")))
        return pb.Heard(text=say.text, number=say.times, load=say.load)

    @entrypoint
    def Repeat(self, say: Any, context: Any) -> Iterator[Any]:
        for number in range(say.times):
            yield pb.Heard(text=say.text, number=number, load=say.load)
            if say.text == "slow":
                eventlet.sleep(SLOW_SECONDS)
        if (failure := FAILURES.get(say.text)) is not None:
            raise failure
        if say.text == "unpackable":
            yield object()

    @entrypoint
    def Gather(self, says: Iterable[Any], context: Any) -> Any:
        texts = []
        for say in says:
            texts.append(say.text)
            if (failure := FAILURES.get(say.text)) is not None:
                raise failure
            if say.text == "enough":
                break
            if say.text == "gate":
                self.gate.wait()
        return pb.Heard(text=",".join(texts[:10]), number=len(texts))

    @entrypoint
    def Converse(self, says: Iterable[Any], context: Any) -> Iterator[Any]:
        for number, say in enumerate(says):
            if (failure := FAILURES.get(say.text)) is not None:
                raise failure
            yield pb.Heard(text=say.text, number=number, load=say.load)

    def _metadata(self, context: Any) -> dict[str, Any]:
        metadata: dict[str, Any] = {}
        for name, value in context.invocation_metadata():
            metadata.setdefault(name, []).append(value.hex() if isinstance(value, bytes) else value)
        return metadata

"""The cases of test_conformance, run by either client: ADDRESS grpcio|nameko.

Runs in its own process, because grpcio's client must not run in a monkey-patched one. Prints the results as
JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from threading import Lock
from typing import Any

import grpc
from google.protobuf.descriptor_pool import Default
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2  # noqa: F401 - known to the pool by it
from google.rpc.status_pb2 import Status
from nameko_grpc.client import Client
from nameko_grpc.errors import GrpcError

from tests.waiting import eventually

pb, services = grpc.protos_and_services("tests/integration/mesh/over_grpc/echo.proto")
POOL = Default()
SECONDS = 20
PACKINGS = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}


def say(text: str = "hello", times: int = 1, load: bytes = b"") -> Any:
    return pb.Say(text=text, times=times, load=load)


def says(*texts: str) -> Iterator[Any]:
    yield from map(say, texts)


class Grpcio:
    def __init__(self, address: str) -> None:
        options = [("grpc.max_receive_message_length", -1)]
        self.stub = services.EchoStub(grpc.insecure_channel(address, options=options))

    def call(self, method: str, request: Any, packing: str | None = None, **options: Any) -> Any:
        options = {"timeout": SECONDS, "compression": PACKINGS.get(packing or ""), **options}
        return getattr(self.stub, method)(request, **options)

    def once_with_metadata(self, metadata: Any) -> tuple[Any, Any, Any]:
        heard, call = self.stub.Once.with_call(say("metadata"), metadata=metadata, timeout=SECONDS)
        return heard, call.initial_metadata(), call.trailing_metadata()


class Nameko:
    def __init__(self, address: str) -> None:
        self.client = Client(f"//{address}", services.EchoStub)
        self.proxy = self.client.start()
        self.starting = Lock()
        """nameko-grpc's client numbers and opens streams without a lock, so two threads may open them in the
        wrong order: StreamIDTooLowError."""

    def call(self, method: str, request: Any, packing: str | None = None, **options: Any) -> Any:
        with self.starting:
            options = {"timeout": SECONDS, "compression": packing, **options}
            future = getattr(self.proxy, method).future(request, **options)
        return future.result()

    def once_with_metadata(self, metadata: Any) -> tuple[Any, Any, Any]:
        future = self.proxy.Once.future(say("metadata"), metadata=metadata, timeout=SECONDS)
        heard = future.result()
        last = eventually(future.trailing_metadata)  # the trailers come after the message
        return heard, future.initial_metadata(), last


def status(call: Callable[[], Any]) -> list[str]:
    try:
        call()
    except grpc.RpcError as error:
        return [error.code().name, error.details()]
    except GrpcError as error:
        return [error.code.name, error.message]
    return ["OK", ""]


def numbers(stream: Iterable[Any]) -> list[int]:
    return [heard.number for heard in stream]


def one_to_one(client: Any) -> Any:
    return client.call("Once", say("hello")).text


def one_to_many(client: Any) -> Any:
    return numbers(client.call("Repeat", say(times=5)))


def one_to_none(client: Any) -> Any:
    return numbers(client.call("Repeat", say(times=0)))


def many_to_one(client: Any) -> Any:
    heard = client.call("Gather", says("a", "b", "c"))
    return [heard.text, heard.number]


def none_to_one(client: Any) -> Any:
    return client.call("Gather", says()).number


def many_to_many(client: Any) -> Any:
    return [heard.text for heard in client.call("Converse", says("a", "b", "c"))]


def question_and_answer(client: Any) -> Any:
    """Send each message after the answer to the previous message."""
    answers: list[str] = []
    answered: Queue[str] = Queue()

    def questions() -> Iterator[Any]:
        for number in range(5):
            if number:
                answers.append(answered.get(timeout=SECONDS))
            yield say(f"q{number}")

    for heard in client.call("Converse", questions()):
        answered.put(heard.text)
    return [*answers, answered.get(timeout=SECONDS)]


def enough_before_the_end(client: Any) -> Any:
    return client.call("Gather", says("a", "enough", *["more"] * 1000)).text


def many_at_once(client: Any) -> Any:
    with ThreadPoolExecutor(30) as threads:
        texts = [f"t{number}" for number in range(60)]
        return [
            heard.text for heard in threads.map(lambda text: client.call("Once", say(text)), texts)
        ] == texts


def streams_at_once(client: Any) -> Any:
    with ThreadPoolExecutor(10) as threads:
        all_numbers = threads.map(lambda times: numbers(client.call("Repeat", say(times=times))), range(10))
        return [len(numbers) for numbers in all_numbers] == list(range(10))


def large_both_ways(client: Any) -> Any:
    load = bytes(range(256)) * 4000
    return client.call("Once", say(load=load)).load == load


def packed(client: Any) -> Any:
    load = b"x" * 100_000
    return [client.call("Once", say(load=load), packing).load == load for packing in PACKINGS]


def packed_streams(client: Any) -> Any:
    load = b"x" * 100_000
    return [len(heard.load) for heard in client.call("Converse", (say(load=load) for _ in range(3)), "gzip")]


def deadline_of_one(client: Any) -> Any:
    return status(lambda: client.call("Once", say("slow"), timeout=0.2))[0]


def deadline_of_a_stream(client: Any) -> Any:
    got: list[int] = []

    def read() -> None:
        for heard in client.call("Repeat", say("slow", times=10), timeout=0.5):
            got.append(heard.number)

    return [status(read)[0], got]


def deadline_while_asking(client: Any) -> Any:
    def dawdling() -> Iterator[Any]:
        yield say("a")
        time.sleep(1)
        yield say("b")

    return status(lambda: client.call("Gather", dawdling(), timeout=0.3))[0]


def errors(client: Any) -> Any:
    names = ("fail", "refuse", "heir", "registered", "plain", "unpackable")
    return {name: status(lambda name=name: client.call("Once", say(name))) for name in names}


def details(client: Any) -> Any:
    """Return the details of a refusal that a program can read."""
    try:
        client.call("Once", say("refuse"))
    except grpc.RpcError as error:
        packed = dict(error.trailing_metadata())["grpc-status-details-bin"]
        status = Status.FromString(packed)
    except GrpcError as error:
        status = error.status
    return [
        status.code,
        status.message,
        *(MessageToDict(detail, descriptor_pool=POOL) for detail in status.details),
    ]


def a_long_message(client: Any) -> Any:
    code, message = status(lambda: client.call("Once", say("chatter")))
    return [code, len(message)]


def error_after_messages(client: Any) -> Any:
    got: list[int] = []

    def read() -> None:
        for heard in client.call("Repeat", say("refuse", times=3)):
            got.append(heard.number)

    return [status(read), got]


def error_while_asking(client: Any) -> Any:
    return [
        status(lambda: client.call("Gather", says("a", "refuse", "b"))),
        status(lambda: list(client.call("Converse", says("a", "refuse", "b")))),
    ]


def unpackable_in_a_stream(client: Any) -> Any:
    return status(lambda: list(client.call("Repeat", say("unpackable", times=2))))


def code_set_by_hand(client: Any) -> Any:
    return status(lambda: client.call("Once", say("code")))


def metadata(client: Any) -> Any:
    sent = [("colour", "blue"), ("colour", "red"), ("shape-bin", b"\x00\x01")]
    heard, first, last = client.once_with_metadata(sent)
    received = json.loads(heard.text)
    return [
        received["colour"],
        received["shape-bin"],
        dict(first)["first"],
        dict(first)["packed-bin"].hex(),
        dict(last)["last"],
    ]


def context_data(client: Any) -> Any:
    heard = client.call("Once", say("context"), metadata=[("x-nameko-colour", '{"a": [1]}')])
    return json.loads(heard.text)


CASES: list[Callable[[Any], Any]] = [
    one_to_one,
    one_to_many,
    one_to_none,
    many_to_one,
    none_to_one,
    many_to_many,
    question_and_answer,
    enough_before_the_end,
    many_at_once,
    streams_at_once,
    large_both_ways,
    packed,
    packed_streams,
    deadline_of_one,
    deadline_of_a_stream,
    deadline_while_asking,
    errors,
    details,
    a_long_message,
    error_after_messages,
    error_while_asking,
    unpackable_in_a_stream,
    code_set_by_hand,
    metadata,
    context_data,
]


def outcome(case: Callable[[Any], Any], client: Any) -> Any:
    try:
        return case(client)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    client = {"grpcio": Grpcio, "nameko": Nameko}[sys.argv[2]](sys.argv[1])
    print(json.dumps({case.__name__: outcome(case, client) for case in CASES}), flush=True)
    if isinstance(client, Nameko):
        client.client.stop()

"""Accepts connections on an address, and drains and closes them."""

from __future__ import annotations

import logging
import socket
import time
from contextlib import suppress
from threading import Event
from typing import Any

import eventlet
from nameko_grpc.channel import ServerConnectionPool

from nameko_mesh.backoff import back_off
from nameko_mesh.grpc.http2 import limits
from nameko_mesh.grpc.http2.connection import Connection

log = logging.getLogger(__name__)

KEEPALIVE_POLL_SECONDS = 1.0


class Listener(ServerConnectionPool):
    """Takes its port exclusively, because a second process would silently get half of the calls.

    `listen` binds the address and learns the port, which may be 0 before. `start` accepts clients.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.is_accepting = False
        self.shared = limits.SharedLimits()
        self.connections: set[Connection] = set()
        self.listening_socket: Any = None
        self._ended = Event()
        self._open = 0

    def listen(self) -> None:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self.listening_socket = eventlet.listen((self.host, self.port), family, reuse_port=False)
        self.bound_port = int(self.listening_socket.getsockname()[1])

    def start(self) -> None:
        self.is_accepting = True
        self.spawn_thread(target=self.run, name="grpc listener")
        self.spawn_thread(target=self._poll_connections, name="grpc connections")

    def run(self) -> None:
        failures = 0
        while self.is_accepting:
            try:
                sock, _ = self.listening_socket.accept()
            except OSError as error:
                if self.is_accepting:
                    failures += 1
                    log.warning("accepting a gRPC connection failed: %s", error)
                    eventlet.sleep(back_off(failures))
            else:
                failures = 0
                self._admit(sock)
        self.listening_socket.close()

    def _admit(self, sock: Any) -> None:
        if self._open >= limits.MAX_CONNECTIONS:
            log.warning("a gRPC connection is refused: %s connections are open (MAX_CONNECTIONS)", self._open)
            sock.close()
            return
        self._open += 1
        self.spawn_thread(target=self._serve, args=(sock,), name="grpc connection")

    def _serve(self, sock: Any) -> None:
        try:
            connection = Connection(self._prepare(sock), self.handle_request, self.shared)
            self.connections.add(connection)
            try:
                connection.run_forever()
            finally:
                self.connections.discard(connection)
        except OSError as error:
            log.info("a gRPC client disconnected during the handshake: %s", error)
            sock.close()
        finally:
            self._open -= 1

    def _prepare(self, sock: Any) -> Any:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.ssl:
            with eventlet.Timeout(limits.HANDSHAKE_SECONDS, TimeoutError("the TLS handshake timed out")):
                context = self.ssl.server_context()
                sock = context.wrap_socket(sock=sock, server_side=True, suppress_ragged_eofs=True)
        sock.settimeout(limits.SEND_SECONDS)
        return sock

    def _poll_connections(self) -> None:
        while not self._ended.wait(KEEPALIVE_POLL_SECONDS):
            for connection in list(self.connections):
                connection.check(time.monotonic())

    def leave(self) -> None:
        """Accept no more connections, and no more calls on the open connections."""
        self.is_accepting = False
        if self.listening_socket is not None:
            with suppress(OSError):  # the socket is closed already
                self.listening_socket.shutdown(socket.SHUT_RDWR)  # wakes `run`
        for connection in list(self.connections):
            connection.send_goaway()

    def drain(self) -> None:
        """Wait until every client has its responses and has closed, for at most DRAIN_SECONDS."""
        end = time.monotonic() + limits.DRAIN_SECONDS
        for connection in list(self.connections):
            connection.stopped.wait(max(0.0, end - time.monotonic()))

    def stop(self) -> None:
        self.leave()
        if self.listening_socket is not None:
            self.listening_socket.close()
        self._ended.set()
        for connection in list(self.connections):
            connection.hang_up()

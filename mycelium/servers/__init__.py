"""Real servers, installed or fetched without root, that run privately on the loopback.

    node = rabbitmq.find_or_fetch(cache, print).node(data)
    with running(*node.programs, log_dir=logs) as processes:
        processes.wait_until(node.is_ready, 60, "RabbitMQ")
        connect(node.amqp_uri)

A supervisor reads the fields of `Program` instead of calling `running`. Errors: `ServerError`, and its
subclass `NotReady`.
"""

from mycelium.servers.program import (
    NotReady,
    Processes,
    Program,
    ServerError,
    free_port,
    free_ports,
    port_is_free,
    running,
    wait_until,
)

__all__ = [
    "NotReady",
    "Processes",
    "Program",
    "ServerError",
    "free_port",
    "free_ports",
    "port_is_free",
    "running",
    "wait_until",
]

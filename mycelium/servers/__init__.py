"""Real servers, found on the machine or fetched without root, run privately on the loopback.

    node = rabbitmq.find_or_fetch(cache, print).node(data)
    with running(*node.programs, log_dir=logs) as processes:
        processes.wait_until(node.is_ready, 60, "RabbitMQ")
        connect(node.amqp_uri)

Whoever supervises the programs in earnest reads the fields of `Program` instead. Standard library
only: this runs before anything else is installed. Errors: `ServerError`, and `NotReady` below it.
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

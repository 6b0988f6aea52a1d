"""Check that a broker accepts a login, because RabbitMQ listens before it can serve."""

from __future__ import annotations

from amqp import Connection
from amqp.exceptions import AMQPError

STEP_TIMEOUT_SECONDS = 0.8


def accepts(port: int, user: str, password: str, vhost: str = "/") -> bool:
    """Return whether the broker on this port of the loopback lets the user into the virtual host.

    False for a closed port, a broker that does not answer yet, a wrong password and an unknown virtual host.
    Each step waits for 0.8 s at most: connecting, each response of the handshake, and closing.
    """
    connection = Connection(
        f"127.0.0.1:{port}",
        userid=user,
        password=password,
        virtual_host=vhost,
        connect_timeout=STEP_TIMEOUT_SECONDS,
        read_timeout=STEP_TIMEOUT_SECONDS,  # bounds the wait in close(), which connect_timeout does not
        write_timeout=STEP_TIMEOUT_SECONDS,
    )
    try:
        connection.connect()
        connection.close()  # without it the broker logs a lost connection
    except (OSError, AMQPError):
        return False
    finally:
        connection.collect()  # py-amqp leaves the socket open when the broker refuses the login
    return True

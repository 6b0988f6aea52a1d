"""Delays between attempts: one rule for all retries of nameko_mesh that wait.

| retried | where | bound |
|---|---|---|
| a connection to the broker | runtime.container, aio.amqp.reconnecting | none |
| a query to Consul | discovery.consul_watch | none |
| unsent outbox rows | outbox.relay (`OutboxRelay._run`) | none |
| a failed event | events.handler (`EventHandler._on_failure`) | MAX_ATTEMPTS, then parked |
| a repeatable call from asyncio | aio.retries (`Retries`) | 3 attempts, RetryBudget, the deadline |
| accepting a gRPC connection | grpc.http2.listener | none |
| a conflicting transaction | sql.retry, with tenacity alone | 4 attempts |
| a request whose process died | rpc.entrypoint, without a delay | MAX_CRASHES, then parked |
"""

from __future__ import annotations

from tenacity import RetryCallState, Retrying, wait_random_exponential

_RETRYING = Retrying()


def back_off(failures: int, first: float = 0.2, longest: float = 5.0) -> float:
    """Return the seconds to wait after `failures` failures in a row: exponential, with full jitter.

    The delay is random between 0 and `first * 2**failures`, but at most `longest`.
    Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    state = RetryCallState(_RETRYING, fn=None, args=(), kwargs={})
    state.attempt_number = failures + 1  # tenacity counts attempts, from 1
    return wait_random_exponential(multiplier=first, max=longest, exp_base=2.0)(state)

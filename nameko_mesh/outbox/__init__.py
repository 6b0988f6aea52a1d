"""The outbox: events are committed with the change that causes them, and published at least once, in order.

An *envelope* is one event. An *outbox row* holds the envelopes of one type of one transaction. A *message*
holds rows that leave together. A *publish result* is the broker's answer to a message.

    tx.publish(event, version)                        transaction
        | envelopes, grouped by type into rows        rows, insertion, insert.sql
        v
    INSERT INTO outbox ... and COMMIT                 with the change that causes the events
        | claimed rows, in memory                     handoff
        |       unclaimed rows, or those of a
        |       dead relay: found in the table        claims
        v       v
    relay: rows -> messages -> waves                  messages, send_plan (pure)
        | bundles; single events if somebody listens  publisher, events.exchanges
        v
    broker: CONFIRMED -> marked sent                  relay, claims
            REJECTED or UNROUTABLE -> released, with the later rows of its aggregates, and sent again later
        |
        v
    queue of a handler                                events.handler, events.batches

To use the outbox alone, without other parts of nameko_mesh in the service:

1. inherit from PublishingTransaction and PublishingStore (example: outbox/transaction.py);
2. inject the store by PublishingDatabase, and add an OutboxRelay to the service;
3. migrate `nameko_mesh.sql.SCHEMA` and `SCHEMA` by `nameko_mesh.sql.migrations.upgrade`.

docs/extending.md has a complete example that a test runs.
"""

from nameko_mesh.outbox.handoff import Handoff
from nameko_mesh.outbox.relay import OutboxRelay
from nameko_mesh.outbox.tables import SCHEMA, outbox, unsent
from nameko_mesh.outbox.transaction import PublishingDatabase, PublishingStore, PublishingTransaction

__all__ = [
    "SCHEMA",
    "Handoff",
    "OutboxRelay",
    "PublishingDatabase",
    "PublishingStore",
    "PublishingTransaction",
    "outbox",
    "unsent",
]

"""The outbox: events reach the broker at least once and in order, because they are committed with their
cause.

Four nouns: an *envelope* is one event; an *outbox row* holds the envelopes of one type that one transaction
has published; a *message* holds rows that leave together; a *publish result* is the broker's answer to a
message.

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

To take it alone: inherit from PublishingTransaction and PublishingStore, inject the store by
PublishingDatabase, add an OutboxRelay to the service, and migrate `nameko_mesh.sql.SCHEMA` and `SCHEMA`.
docs/extending.md has an example that a test runs.
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

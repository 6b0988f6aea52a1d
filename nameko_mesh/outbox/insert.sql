-- Insert the rows of one transaction. Claim each row for {5}, the relay of this process. Exception: an older unsent
-- row of one of its aggregates has another claimant or none. The new row must wait behind that row; a relay finds it.
INSERT INTO outbox (first_event_id, type, awaited, aggregate_ids, envelopes, created_at,
                    claimed_by, claimed_until)
WITH new AS (
    -- Each column is an array of its own. In one JSON document PostgreSQL would parse the envelopes three times.
    SELECT given.*, ARRAY(SELECT json_array_elements_text(given.aggregates::json)) AS aggregate_ids
    FROM unnest({0}, {1}, {2}, {3}, {4}) WITH ORDINALITY
         AS given(first_event_id, type, awaited, aggregates, envelopes, number)
),
others AS (
    -- Unsent rows of other claimants, or of none. A publisher of an aggregate has changed the aggregate's row, and
    -- this transaction has seen that change. So no such outbox row is missed. Most unsent rows belong to this
    -- claimant: the ranges on both sides of its name skip them. ORDER BY makes PostgreSQL use the index by claimant.
    (SELECT aggregate_ids FROM outbox WHERE sent_at IS NULL AND claimed_by IS NULL ORDER BY claimed_by)
    UNION ALL SELECT aggregate_ids FROM outbox WHERE sent_at IS NULL AND claimed_by < {5}
    UNION ALL SELECT aggregate_ids FROM outbox WHERE sent_at IS NULL AND claimed_by > {5}
    LIMIT $max_rows_compared
)
SELECT first_event_id, type, awaited, aggregate_ids, envelopes::json, clock_timestamp(), claimant,
       CASE WHEN claimant IS NOT NULL THEN clock_timestamp() + interval '$claim_seconds s' END
FROM (
    SELECT new.*, CASE
        -- With too many rows to compare, claim nothing: a relay claims the rows in order.
        WHEN (SELECT count(*) FROM others) < $max_rows_compared
        AND NOT EXISTS (SELECT FROM others WHERE others.aggregate_ids && new.aggregate_ids)
        THEN {5} END AS claimant
    FROM new
) AS claimed
-- The rows are numbered in the order in which their events were published.
ORDER BY number
RETURNING seq, first_event_id, claimed_by

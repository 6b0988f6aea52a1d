-- Insert the rows of one transaction. Claim each for {5}, the relay of this process, unless an older row of one of
-- its aggregates is in other hands: it must then wait behind that row, and a relay finds it later.
INSERT INTO outbox (first_event_id, type, awaited, aggregate_ids, envelopes, created_at,
                    claimed_by, claimed_until)
WITH new AS (
    -- Each column is an array of its own. In one JSON document PostgreSQL would parse the envelopes three times.
    SELECT given.*, ARRAY(SELECT json_array_elements_text(given.aggregates::json)) AS aggregate_ids
    FROM unnest({0}, {1}, {2}, {3}, {4}) WITH ORDINALITY
         AS given(first_event_id, type, awaited, aggregates, envelopes, number)
),
others AS (
    -- Rows in other hands. Whoever publishes for an aggregate has changed its row, and this transaction has
    -- seen that change, so no such outbox row is missed. Most unsent rows are this claimant's own: the ranges on
    -- both sides of its name skip them. ORDER BY makes PostgreSQL use the index by claimant.
    (SELECT aggregate_ids FROM outbox WHERE sent_at IS NULL AND claimed_by IS NULL ORDER BY claimed_by)
    UNION ALL SELECT aggregate_ids FROM outbox WHERE sent_at IS NULL AND claimed_by < {5}
    UNION ALL SELECT aggregate_ids FROM outbox WHERE sent_at IS NULL AND claimed_by > {5}
    LIMIT $max_rows_compared
)
SELECT first_event_id, type, awaited, aggregate_ids, envelopes::json, clock_timestamp(), claimant,
       CASE WHEN claimant IS NOT NULL THEN clock_timestamp() + interval '$claim_seconds s' END
FROM (
    SELECT new.*, CASE
        -- With too many rows to compare, claim nothing: a relay sorts it out.
        WHEN (SELECT count(*) FROM others) < $max_rows_compared
        AND NOT EXISTS (SELECT FROM others WHERE others.aggregate_ids && new.aggregate_ids)
        THEN {5} END AS claimant
    FROM new
) AS claimed
-- The rows are numbered in the order in which their events were published.
ORDER BY number
RETURNING seq, first_event_id, claimed_by

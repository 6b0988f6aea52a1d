INSERT INTO orders (id, user_id, user_name, user_email, fingerprint, lines, currency, status, version,
                    created_at, confirmed_at, attempts)
SELECT id, user_id, user_name, user_email, fingerprint, lines, currency, '$confirmed', version,
       created_at, confirmed_at, 0
FROM json_to_recordset({0}) AS new(id text, user_id text, user_name text, user_email text,
                                   fingerprint text, lines json, currency text, version int,
                                   created_at timestamptz, confirmed_at timestamptz,
                                   customer_version int)
-- If the customer has changed since the copy was read, the order is left out and the write counts as stale.
WHERE (SELECT version FROM customers WHERE customers.id = new.user_id) = new.customer_version
ORDER BY id  -- so that two batches with the same orders cannot deadlock
ON CONFLICT DO NOTHING
RETURNING 1

INSERT INTO orders (id, user_id, user_name, user_email, fingerprint, lines, status, version,
                    created_at, attempts, due_at)
SELECT new.order_id, new.user_id, customer.name, customer.email, new.fingerprint, new.lines,
       '$pending', $first_version, now(), 0, clock_timestamp() + interval '$lease_seconds s'
FROM json_to_recordset({0}) AS new(order_id text, user_id text, fingerprint text, lines json),
     -- An order of an unknown customer finds no row here, and is left out. LIMIT 1 makes PostgreSQL look up
     -- each customer by id, even while its statistics say that the table is small.
     LATERAL (SELECT name, email FROM customers WHERE customers.id = new.user_id LIMIT 1) AS customer
ORDER BY new.order_id  -- so that two batches with the same orders cannot deadlock
ON CONFLICT DO NOTHING
RETURNING id, user_name, user_email, created_at

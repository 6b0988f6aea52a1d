INSERT INTO orders (id, user_id, user_name, user_email, fingerprint, lines, status, version,
                    created_at, attempts, due_at)
SELECT new.order_id, new.user_id, customer.name, customer.email, new.fingerprint, new.lines,
       '$pending', $first_version, now(), 0, clock_timestamp() + interval '$lease_seconds s'
FROM json_to_recordset({0}) AS new(order_id text, user_id text, fingerprint text, lines json),
     -- An order of a customer of whom there is no copy finds no row here, and is left out. LIMIT: each
     -- customer is looked up by id, even while the statistics call the table small.
     LATERAL (SELECT name, email FROM customers WHERE customers.id = new.user_id LIMIT 1) AS customer
ORDER BY new.order_id  -- two batches of the same orders wait for each other in one direction only
ON CONFLICT DO NOTHING
RETURNING id, user_name, user_email, created_at

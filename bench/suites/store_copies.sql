-- Copies the only row of a table `size` times. str.format fills in the names in braces.
INSERT INTO {table}
SELECT copies.*
FROM (SELECT original FROM {table} original LIMIT 1) template,
     generate_series(1, {size}) number,
     -- The copy is the row with the changed fields replaced, whatever columns the table has.
     LATERAL jsonb_populate_record(template.original, jsonb_build_object({changed})) copies

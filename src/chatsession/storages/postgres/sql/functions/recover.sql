-- A crash of the server empties the table of leases. Whoever holds one of the era before takes it back, unless another
-- has locked the key since. That other may have come and gone without a trace once its lease is swept, which is why
-- a holder must still expect the version that it was given: where anything is expected (-1), nothing is recovered.
CREATE OR REPLACE FUNCTION {recover}(keys text[], tokens bigint[], expects bigint[], seconds float8) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    era bigint := {current_era}();
BEGIN
    IF era > ANY (tokens) THEN
        INSERT INTO {leases} (key, token, holder, until)
        SELECT c.key, c.token, '(recovered)', clock_timestamp() + seconds * interval '1 second'
        FROM unnest(keys, tokens, expects) AS c (key, token, expect)
        WHERE c.token < era AND c.token >= 1::bigint << 44 AND c.expect IS DISTINCT FROM -1
        ORDER BY c.key COLLATE "C"
        ON CONFLICT (key) DO NOTHING;
    END IF;
END
$$;

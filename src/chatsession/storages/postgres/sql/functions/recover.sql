-- A crash of the server empties the table of leases. The holder of a lease of an earlier era takes it back, unless
-- another has locked the key since; of two such holders the one with the newer token. Another may have locked the key,
-- stored a value and released the key without leaving a trace, once its lease is swept. Therefore a recovered lease is
-- marked, and covers only changes that expect a version: where anything is expected (-1), commit refuses the change.
CREATE OR REPLACE FUNCTION {recover}(keys text[], tokens bigint[], expects bigint[], seconds float8) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    era bigint := {current_era}();
BEGIN
    IF era > ANY (tokens) THEN
        INSERT INTO {leases} AS l (key, token, holder, until)
        SELECT c.key, c.token, '(recovered)', clock_timestamp() + seconds * interval '1 second'
        FROM unnest(keys, tokens, expects) AS c (key, token, expect)
        WHERE c.token < era AND c.token >= 1::bigint << 44 AND c.expect IS DISTINCT FROM -1
        ORDER BY c.key COLLATE "C"
        ON CONFLICT (key) DO UPDATE SET token = EXCLUDED.token, until = EXCLUDED.until
        WHERE l.holder = '(recovered)' AND l.token < EXCLUDED.token;
    END IF;
END
$$;

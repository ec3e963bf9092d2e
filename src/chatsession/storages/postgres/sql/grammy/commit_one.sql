-- As the function of the library's own layout (functions/commit_one.sql), in grammY's table.
CREATE OR REPLACE FUNCTION {commit_one}(
    batch uuid, changed text, whole_key bytea, val bytea, expect bigint, ttl float8, token bigint, unlock boolean,
    expect_until float8
) RETURNS bigint
LANGUAGE sql AS $$
    SELECT ({commit}(batch, ARRAY[changed], ARRAY[whole_key], ARRAY['put'], ARRAY[val], ARRAY[expect], ARRAY[ttl],
        ARRAY[token], ARRAY[unlock], ARRAY[expect_until]))[1]
$$;

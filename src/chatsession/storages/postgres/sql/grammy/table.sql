-- The table of grammY's PostgreSQL storage, as grammY creates it; only an index is added.
CREATE TABLE IF NOT EXISTS {grammy} ("key" VARCHAR NOT NULL, "value" TEXT);
CREATE UNIQUE INDEX IF NOT EXISTS {grammy_index} ON {grammy} ("key");
CREATE INDEX IF NOT EXISTS {key_index} ON {grammy} ("key" COLLATE "C");

-- grammY keeps no versions, so that the version of a session is the digest of its value.
CREATE OR REPLACE FUNCTION {version_of}(value text) RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT greatest(
        ('x' || encode(substr(sha256(convert_to(coalesce(value, 'null'), 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint
            & 9223372036854775807,
        1)
$$;

-- grammY's table as the functions of the library's own layout read it. A table beside it holds what has no column there:
-- when a session expires, and keys that cannot be indexed. Its rows apply to one version of grammY's row, which xmin
-- identifies: what grammY has written since does not expire.
CREATE OR REPLACE VIEW {sessions} AS
SELECT g.key::text COLLATE "C" AS key, b.whole_key, NULL::jsonb AS data,
    convert_to(coalesce(g.value, 'null'), 'UTF8') AS raw, {version_of}(g.value) AS version, b.expires_at
FROM {grammy} AS g
LEFT JOIN {beside} AS b ON b.key = g.key::text COLLATE "C" AND b.version = g.xmin::text::bigint;

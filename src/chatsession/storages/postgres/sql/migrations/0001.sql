-- The sessions: what people query, as in  SELECT key, data->>'count' FROM chat_sessions;
CREATE TABLE {sessions} (
    -- The session key. Where PostgreSQL cannot index it (longer than 2,000 bytes, or with a NUL), this is U+0001 and its
    -- SHA-256 in hexadecimal, and whole_key has the key itself.
    key text COLLATE "C" PRIMARY KEY,
    whole_key bytea,
    -- What is stored: data where it is JSON that jsonb can hold, raw where it is not.
    data jsonb,
    raw bytea,
    -- Never used twice, so that "the version is still the same" means that nothing happened.
    version bigint NOT NULL,
    expires_at timestamptz,
    CHECK ((data IS NULL) <> (raw IS NULL))
) WITH (fillfactor = 80);

CREATE INDEX {expiry_index} ON {sessions} (expires_at) WHERE expires_at IS NOT NULL;

-- Versions and fencing tokens.
CREATE SEQUENCE {numbers};

-- The holder of each key, when its lease ends, and its waiters in order of arrival. Unlogged: a lock costs no write-ahead log
-- and no fsync. A crash of the server empties the table (and a replica that takes over has it empty): holders take
-- their leases back (see recover), and the era keeps tokens growing. After a crash, another process may get a lock
-- that is still held; then the holder's commit is refused, because its lease is not the newest.
CREATE UNLOGGED TABLE {leases} (
    key text COLLATE "C" PRIMARY KEY,
    token bigint NOT NULL,
    holder text,
    until timestamptz NOT NULL,
    queue text[] NOT NULL DEFAULT '{}',
    seen timestamptz[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50);

-- One row, or none after a crash, because this table is emptied together with the leases. Then a new era begins:
-- its number is kept in the logged table below, and is the upper part of every fencing token, so that tokens grow
-- for ever and one from before the crash is known as such.
CREATE UNLOGGED TABLE {era} (era bigint NOT NULL);

CREATE TABLE {meta} (schema_version integer NOT NULL, era bigint NOT NULL);
INSERT INTO {meta} VALUES (0, 0);

-- What became of each batch of the last minutes, so that a client whose connection broke in the middle of a commit
-- learns it instead of making its changes twice.
CREATE TABLE {commits} (
    batch uuid PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    outcomes bigint[] NOT NULL
);

CREATE INDEX {commits_index} ON {commits} (at);

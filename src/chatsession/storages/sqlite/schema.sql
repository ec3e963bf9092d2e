-- Everything that chatsession keeps in an SQLite file. Read it as you like: SELECT key, value FROM sessions;

CREATE TABLE chatsession (
    schema INTEGER NOT NULL,     -- of these tables
    next   INTEGER NOT NULL      -- the next version or fencing token; grows with the clock, and never goes back
);
INSERT INTO chatsession VALUES (1, 1);

CREATE TABLE sessions (
    key        TEXT PRIMARY KEY, -- NUL stands there as two characters U+0001, U+0001 as U+0001 U+0002
    value      NOT NULL,         -- TEXT where it is valid UTF-8 (JSON), else BLOB
    version    INTEGER NOT NULL,
    expires_at REAL              -- Unix time in seconds; NULL: never
);
CREATE INDEX sessions_by_expiry ON sessions (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE session_holders (   -- processes that lock sessions
    id       INTEGER PRIMARY KEY,
    identity TEXT NOT NULL UNIQUE,
    seen     REAL                -- when it last noted that it is there, Unix time in seconds
);

CREATE TABLE session_locks (
    key    TEXT PRIMARY KEY,
    token  INTEGER NOT NULL,     -- fencing token
    until  REAL NOT NULL,        -- end of the lease, Unix time in seconds
    holder INTEGER NOT NULL,     -- session_holders.id
    seconds REAL,                -- length of the lease
    waiter TEXT                  -- request that was granted (session_waiters.waiter)
) WITHOUT ROWID;

CREATE TABLE session_waiters (   -- who waits for a lock of another process, in order of arrival
    ticket INTEGER PRIMARY KEY AUTOINCREMENT,
    key    TEXT NOT NULL,
    waiter TEXT NOT NULL,
    until  REAL NOT NULL,        -- when this waiter counts as gone, unless it asks again
    UNIQUE (key, waiter)
);

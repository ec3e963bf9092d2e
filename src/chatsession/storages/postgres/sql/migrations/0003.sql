-- Large values are compressed by LZ4 where the server knows it (from PostgreSQL 14 on, unless it was built without): the
-- server takes half the time for a session of 300 KB. What is stored already stays as it is until it is written again.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)) THEN
        EXECUTE 'ALTER TABLE {sessions} ALTER COLUMN data SET COMPRESSION lz4';
    END IF;
END
$$;

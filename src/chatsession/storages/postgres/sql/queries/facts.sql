-- What an operator wants to know about the server and the table. {table} is a table even where {sessions} is a view,
-- which has no size.
SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit'),
    current_setting('full_page_writes'), pg_size_pretty(pg_total_relation_size('{table}'::regclass)),
    (SELECT reltuples::bigint FROM pg_class WHERE oid = '{table}'::regclass),
    (SELECT schema_version FROM {meta}), (SELECT count(*) FROM pg_stat_replication),
    (SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = '{table}'::regclass)

-- Which of the keys $1 have a row that another transaction has locked; $2: look at the sessions as well as the leases.
WITH free_leases AS MATERIALIZED (
    SELECT key FROM {leases} WHERE key = ANY ($1) FOR UPDATE SKIP LOCKED
), free_sessions AS MATERIALIZED (
    SELECT key FROM {rows} WHERE $2 AND key = ANY ($1) FOR UPDATE SKIP LOCKED
)
SELECT key FROM {leases} WHERE key = ANY ($1) AND key NOT IN (SELECT key FROM free_leases)
UNION
SELECT key FROM {rows} WHERE $2 AND key = ANY ($1) AND key NOT IN (SELECT key FROM free_sessions)

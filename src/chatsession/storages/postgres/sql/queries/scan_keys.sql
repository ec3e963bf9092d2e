-- As scan.sql, without reading the values.
SELECT key, whole_key, ''::bytea, version, extract(epoch FROM expires_at)::float8
FROM {sessions}
WHERE key >= $2 AND key < $3 AND (expires_at IS NULL OR expires_at > now())
ORDER BY key LIMIT $1

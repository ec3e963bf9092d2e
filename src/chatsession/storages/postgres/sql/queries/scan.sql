-- One page of sessions in the order of their keys, from $2 on and below $3.
SELECT key, whole_key, coalesce(raw, convert_to(data::text, 'UTF8')), version, extract(epoch FROM expires_at)::float8
FROM {sessions}
WHERE key >= $2 AND key < $3 AND (expires_at IS NULL OR expires_at > now())
ORDER BY key LIMIT $1

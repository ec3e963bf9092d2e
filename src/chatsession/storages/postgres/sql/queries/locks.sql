-- Locks whose lease has not run out, in the order of their keys.
SELECT l.key, s.whole_key, l.token, extract(epoch FROM l.until)::float8, l.holder, cardinality(l.queue)
FROM {leases} AS l LEFT JOIN {sessions} AS s ON s.key = l.key
WHERE l.until > clock_timestamp() ORDER BY l.key

-- Expired sessions that are not yet swept. The statement's time can be compared with an index.
SELECT count(*) FROM {sessions} WHERE expires_at <= statement_timestamp()

-- A value as jsonb, or NULL where jsonb cannot hold it: encrypted or compressed bytes, a NUL or half a surrogate pair in
-- a string, a number beyond the range of numeric, or nesting that is too deep for this server.
CREATE OR REPLACE FUNCTION {document}(value bytea) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN convert_from(value, 'UTF8')::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    RETURN NULL;
END
$$;

-- A value as jsonb, or NULL where it is none: encrypted or compressed bytes, a NUL or half a surrogate pair in a
-- string, a number beyond what numeric holds, or nested too deeply for this server.
CREATE OR REPLACE FUNCTION {document}(value bytea) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN convert_from(value, 'UTF8')::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    RETURN NULL;
END
$$;

-- The rights that this user lacks. $1 and $2 go in step: the quoted name of a relation, and a right on it that is
-- needed. $3 is the schema, $4 the names of its functions. What does not exist is passed over.
WITH wanted AS (
    SELECT format('%I.%I', n.nspname, c.relname) AS name, w.needed, c.oid, c.relkind
    FROM unnest($1::text[], $2::text[]) AS w (name, needed)
    JOIN pg_class AS c ON true
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE format('"%s"."%s"', n.nspname, c.relname) = w.name
)
SELECT 'USAGE ON SCHEMA ' || quote_ident(nspname) FROM pg_namespace
WHERE nspname = $3 AND NOT has_schema_privilege(oid, 'USAGE')
UNION ALL
SELECT needed || CASE WHEN relkind = 'S' THEN ' ON SEQUENCE ' ELSE ' ON TABLE ' END || name FROM wanted
WHERE NOT CASE WHEN relkind = 'S' THEN has_sequence_privilege(oid, needed) ELSE has_table_privilege(oid, needed) END
UNION ALL
SELECT 'EXECUTE ON FUNCTION ' || oid::regprocedure::text FROM pg_proc
WHERE pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = $3) AND proname = ANY ($4::text[])
    AND NOT has_function_privilege(oid, 'EXECUTE')

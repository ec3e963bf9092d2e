-- The era in which leases are given now, as the upper part of a fencing token; begins one after a crash.
CREATE OR REPLACE FUNCTION {current_era}() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    found_era bigint;
BEGIN
    SELECT era INTO found_era FROM {era};
    IF NOT FOUND THEN
        PERFORM FROM {meta} FOR UPDATE;  -- one at a time
        SELECT era INTO found_era FROM {era};
        IF NOT FOUND THEN
            UPDATE {meta} SET era = era + 1 RETURNING era INTO found_era;
            INSERT INTO {era} VALUES (found_era);
        END IF;
    END IF;
    RETURN found_era << 44;
END
$$;

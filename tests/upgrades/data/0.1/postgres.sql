CREATE FUNCTION public.chat_sessions_abandon(keys text[], waiters text[]) RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
#variable_conflict use_column
DECLARE
    wish record;
    lease "public"."chat_sessions_leases"%ROWTYPE;
    place integer;
BEGIN
    FOR wish IN
        SELECT w.key, w.waiter FROM unnest(keys, waiters) AS w (key, waiter) ORDER BY w.key COLLATE "C"
    LOOP
        SELECT l.* INTO lease FROM "public"."chat_sessions_leases" AS l WHERE l.key = wish.key FOR UPDATE;
        CONTINUE WHEN NOT FOUND;
        place := array_position(lease.queue, wish.waiter);
        CONTINUE WHEN place IS NULL AND lease.holder IS DISTINCT FROM wish.waiter;
        IF place IS NOT NULL THEN
            lease.queue := lease.queue[:place - 1] || lease.queue[place + 1:];
            lease.seen := lease.seen[:place - 1] || lease.seen[place + 1:];
        END IF;
        IF lease.holder = wish.waiter THEN
            lease.holder := NULL;
            lease.until := least(lease.until, clock_timestamp());
        END IF;
        UPDATE "public"."chat_sessions_leases" AS l
        SET holder = lease.holder, until = lease.until, queue = lease.queue, seen = lease.seen
        WHERE l.key = wish.key;
        IF lease.until <= clock_timestamp() AND lease.queue <> '{}' THEN
            PERFORM pg_notify('chatsession_7d796d044cd218d806b8f18ea7f85ce0', "public"."chat_sessions_first_waiter"(lease.queue, lease.seen));
        END IF;
    END LOOP;
END
$$;
CREATE FUNCTION public.chat_sessions_commit(batch uuid, keys text[], whole_keys bytea[], actions text[], vals bytea[], expects bigint[], ttls double precision[], tokens bigint[], unlocks boolean[]) RETURNS bigint[]
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz;
    each record;
    held boolean[] := array_fill(false, ARRAY[cardinality(keys)]);
    present boolean[] := array_fill(true, ARRAY[cardinality(keys)]);
    documents jsonb[];
    outcomes bigint[];
BEGIN
    IF batch IS NULL THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    -- Leases first and sessions after them, each in the order of the keys: everybody locks these rows in that order,
    -- so that no two batches wait for each other.
    IF tokens IS NOT NULL THEN
        PERFORM "public"."chat_sessions_recover"(keys, tokens, expects, 10);
        moment := clock_timestamp();
        FOR each IN
            UPDATE "public"."chat_sessions_leases" AS l
            SET holder = CASE WHEN c.unlock THEN NULL ELSE l.holder END,
                until = CASE WHEN c.unlock THEN moment ELSE l.until END
            FROM unnest(keys, tokens, unlocks) WITH ORDINALITY AS c (key, token, unlock, place)
            WHERE l.key = c.key AND l.token = c.token AND l.holder IS NOT NULL AND l.until > clock_timestamp()
            RETURNING c.place, c.unlock, l.queue, l.seen
        LOOP
            held[each.place] := true;
            -- While nobody waits there is no NOTIFY, because it lets only one transaction commit at a time.
            IF each.unlock AND each.queue <> '{}' THEN
                PERFORM pg_notify('chatsession_7d796d044cd218d806b8f18ea7f85ce0', "public"."chat_sessions_first_waiter"(each.queue, each.seen));
            END IF;
        END LOOP;
    END IF;
    IF batch IS NOT NULL THEN
        SELECT array_agg(s.key IS NOT NULL ORDER BY c.place) INTO present
        FROM unnest(keys) WITH ORDINALITY AS c (key, place)
        LEFT JOIN LATERAL (SELECT s.key FROM "public"."chat_sessions" AS s WHERE s.key = c.key FOR UPDATE) AS s ON true;
    END IF;
    -- Decide. What was not there to be locked counts as missing, though another may have stored it by now: waiting for
    -- its row here would be out of order. Whoever then inserts that key fails, and tries again.
    moment := clock_timestamp();
    SELECT array_agg(d.outcome) INTO outcomes
    FROM (
        SELECT CASE
                WHEN c.token IS NOT NULL AND NOT c.held THEN -2
                WHEN c.expect <> -1 AND v.version IS DISTINCT FROM c.expect THEN -1
                WHEN c.expect IS NULL AND v.version IS NOT NULL THEN -1
                WHEN c.action = 'put' THEN nextval('"public"."chat_sessions_numbers"')
                WHEN c.action = 'delete' THEN 0
                ELSE coalesce(v.version, 0)
            END AS outcome
        FROM unnest(keys, actions, expects, tokens, held, present) WITH ORDINALITY
            AS c (key, action, expect, token, held, present, place)
        LEFT JOIN "public"."chat_sessions" AS s ON s.key = c.key AND c.present
        CROSS JOIN LATERAL (SELECT CASE WHEN s.expires_at <= moment THEN NULL ELSE s.version END) AS v (version)
        ORDER BY c.place
    ) AS d;
    -- Carry it out.
    IF 'put' = ANY (actions) THEN
        BEGIN
            documents := ARRAY(SELECT convert_from(v, 'UTF8')::jsonb FROM unnest(vals) AS v);
        EXCEPTION WHEN data_exception OR program_limit_exceeded THEN  -- one of them is not JSON: which?
            documents := ARRAY(SELECT "public"."chat_sessions_document"(v) FROM unnest(vals) AS v);
        END;
        -- Inserting comes first, because it alone may wait: for another batch that inserts the same key, and which
        -- must not wait for a row that was written here.
        IF false = ANY (present) THEN
            INSERT INTO "public"."chat_sessions" (key, whole_key, data, raw, version, expires_at)
            SELECT c.key, c.whole_key, c.document, CASE WHEN c.document IS NULL THEN c.value END, c.outcome,
                moment + c.ttl * interval '1 second'
            FROM unnest(keys, whole_keys, actions, vals, documents, ttls, outcomes, present)
                AS c (key, whole_key, action, value, document, ttl, outcome, present)
            WHERE c.action = 'put' AND c.outcome > 0 AND NOT c.present
            ORDER BY c.key COLLATE "C";
        END IF;
        UPDATE "public"."chat_sessions" AS s
        SET data = c.document, raw = CASE WHEN c.document IS NULL THEN c.value END, version = c.outcome,
            expires_at = moment + c.ttl * interval '1 second'
        FROM unnest(keys, actions, vals, documents, ttls, outcomes, present)
            AS c (key, action, value, document, ttl, outcome, present)
        WHERE s.key = c.key AND c.action = 'put' AND c.outcome > 0 AND c.present;
    END IF;
    IF 'touch' = ANY (actions) THEN
        UPDATE "public"."chat_sessions" AS s SET expires_at = moment + c.ttl * interval '1 second'
        FROM unnest(keys, actions, ttls, outcomes) AS c (key, action, ttl, outcome)
        WHERE s.key = c.key AND c.action = 'touch' AND c.outcome > 0;
    END IF;
    IF 'delete' = ANY (actions) THEN
        DELETE FROM "public"."chat_sessions" AS s USING unnest(keys, actions, outcomes, present) AS c (key, action, outcome, present)
        WHERE s.key = c.key AND c.action = 'delete' AND c.outcome = 0 AND c.present;
    END IF;
    IF batch IS NOT NULL THEN
        INSERT INTO "public"."chat_sessions_commits" (batch, outcomes) VALUES (batch, outcomes);
    END IF;
    RETURN outcomes;
END
$$;
CREATE FUNCTION public.chat_sessions_commit_one(batch uuid, changed text, whole_key bytea, val bytea, expect bigint, ttl double precision, token bigint, unlock boolean) RETURNS bigint
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_variable
DECLARE
    moment timestamptz := clock_timestamp();
    lease record;
    document jsonb;
    outcome bigint;
BEGIN
    -- The lease comes first and the session after it, as everywhere.
    UPDATE "public"."chat_sessions_leases" AS l
    SET holder = CASE WHEN unlock THEN NULL ELSE l.holder END, until = CASE WHEN unlock THEN moment ELSE l.until END
    WHERE l.key = changed AND l.token = token AND l.holder IS NOT NULL AND l.until > clock_timestamp()
    RETURNING l.queue, l.seen INTO lease;
    IF NOT FOUND THEN  -- it is lost, or the server has crashed since: then commit knows what to do
        RETURN ("public"."chat_sessions_commit"(batch, ARRAY[changed], ARRAY[whole_key], ARRAY['put'], ARRAY[val], ARRAY[expect], ARRAY[ttl],
            ARRAY[token], ARRAY[unlock]))[1];
    END IF;
    IF unlock AND lease.queue <> '{}' THEN
        PERFORM pg_notify('chatsession_7d796d044cd218d806b8f18ea7f85ce0', "public"."chat_sessions_first_waiter"(lease.queue, lease.seen));
    END IF;
    BEGIN
        document := convert_from(val, 'UTF8')::jsonb;
    EXCEPTION WHEN data_exception OR program_limit_exceeded THEN  -- it is not JSON
        document := NULL;
    END;
    moment := clock_timestamp();
    IF expect IS NULL THEN
        INSERT INTO "public"."chat_sessions" AS s (key, whole_key, data, raw, version, expires_at)
        VALUES (changed, whole_key, document, CASE WHEN document IS NULL THEN val END, nextval('"public"."chat_sessions_numbers"'),
            moment + ttl * interval '1 second')
        ON CONFLICT (key) DO UPDATE
        SET data = EXCLUDED.data, raw = EXCLUDED.raw, version = EXCLUDED.version, expires_at = EXCLUDED.expires_at
        WHERE s.expires_at <= clock_timestamp()
        RETURNING s.version INTO outcome;
    ELSE
        UPDATE "public"."chat_sessions" AS s
        SET data = document, raw = CASE WHEN document IS NULL THEN val END, version = nextval('"public"."chat_sessions_numbers"'),
            expires_at = moment + ttl * interval '1 second'
        WHERE s.key = changed AND s.version = expect AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp())
        RETURNING s.version INTO outcome;
    END IF;
    outcome := coalesce(outcome, -1);
    INSERT INTO "public"."chat_sessions_commits" (batch, outcomes) VALUES (batch, ARRAY[outcome]);
    RETURN outcome;
END
$$;
CREATE FUNCTION public.chat_sessions_current_era() RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    found_era bigint;
BEGIN
    SELECT era INTO found_era FROM "public"."chat_sessions_era";
    IF NOT FOUND THEN
        PERFORM FROM "public"."chat_sessions_meta" FOR UPDATE;  -- one at a time
        SELECT era INTO found_era FROM "public"."chat_sessions_era";
        IF NOT FOUND THEN
            UPDATE "public"."chat_sessions_meta" SET era = era + 1 RETURNING era INTO found_era;
            INSERT INTO "public"."chat_sessions_era" VALUES (found_era);
        END IF;
    END IF;
    RETURN found_era << 44;
END
$$;
CREATE FUNCTION public.chat_sessions_document(value bytea) RETURNS jsonb
    LANGUAGE plpgsql
    AS $$
BEGIN
    RETURN convert_from(value, 'UTF8')::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    RETURN NULL;
END
$$;
CREATE FUNCTION public.chat_sessions_first_waiter(queue text[], seen timestamp with time zone[]) RETURNS text
    LANGUAGE sql
    AS $$
    SELECT q.waiter
    FROM unnest(queue, seen) WITH ORDINALITY AS q (waiter, seen, place)
    WHERE q.seen > clock_timestamp() - interval '2.5 seconds'
    ORDER BY q.place
    LIMIT 1
$$;
CREATE FUNCTION public.chat_sessions_lock(keys text[], waiters text[], seconds double precision[], again boolean) RETURNS TABLE(session_key text, token bigint, wait double precision, value bytea, version bigint, expires_at double precision)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
#variable_conflict use_column
DECLARE
    era bigint;
    won text[];
    tokens bigint[];
    wish record;
    lease "public"."chat_sessions_leases"%ROWTYPE;
BEGIN
    SELECT e.era << 44 INTO era FROM "public"."chat_sessions_era" AS e;
    IF FOUND THEN
        -- The log holds nothing of a lock but the numbers that were used up, and those may be lost in a crash.
        PERFORM set_config('synchronous_commit', 'off', true);
    ELSE
        era := "public"."chat_sessions_current_era"();
    END IF;
    -- In the order of the keys, as everywhere, so that two batches never wait for each other.
    WITH granted AS (
        INSERT INTO "public"."chat_sessions_leases" AS l (key, token, holder, until)
        SELECT w.key, era + nextval('"public"."chat_sessions_numbers"'), w.waiter, clock_timestamp() + w.seconds * interval '1 second'
        FROM unnest(keys, waiters, seconds) AS w (key, waiter, seconds)
        ORDER BY w.key COLLATE "C"
        ON CONFLICT (key) DO UPDATE SET
            -- Drawn anew now that the row is locked: larger than that of any holder before.
            token = CASE WHEN l.until > clock_timestamp() THEN l.token ELSE era + nextval('"public"."chat_sessions_numbers"') END,
            holder = EXCLUDED.holder,
            until = EXCLUDED.until
        WHERE CASE
            WHEN l.until > clock_timestamp() THEN again AND l.holder = EXCLUDED.holder
            ELSE l.queue = '{}'
        END
        RETURNING l.key, l.token
    )
    SELECT array_agg(g.key), array_agg(g.token) INTO won, tokens FROM granted AS g;
    -- The others: held keys, and queues. Their rows are locked by now as well.
    IF coalesce(cardinality(won), 0) < cardinality(keys) THEN
        won := coalesce(won, '{}');
        FOR wish IN
            SELECT w.key, w.waiter, w.seconds
            FROM unnest(keys, waiters, seconds) AS w (key, waiter, seconds)
            WHERE w.key <> ALL (won)
        LOOP
            SELECT l.* INTO lease FROM "public"."chat_sessions_leases" AS l WHERE l.key = wish.key FOR UPDATE;
            IF wish.waiter <> ALL (lease.queue) THEN
                lease.queue := lease.queue || wish.waiter;
                lease.seen := lease.seen || clock_timestamp();
            END IF;
            -- Who has not asked for some seconds has died, and loses its place.
            SELECT array_agg(q.waiter ORDER BY q.place),
                array_agg(CASE WHEN q.waiter = wish.waiter THEN clock_timestamp() ELSE q.seen END ORDER BY q.place)
            INTO lease.queue, lease.seen
            FROM unnest(lease.queue, lease.seen) WITH ORDINALITY AS q (waiter, seen, place)
            WHERE q.waiter = wish.waiter OR q.seen > clock_timestamp() - interval '2.5 seconds';
            IF lease.until <= clock_timestamp() AND lease.queue[1] = wish.waiter THEN
                lease.token := era + nextval('"public"."chat_sessions_numbers"');
                lease.holder := wish.waiter;
                lease.until := clock_timestamp() + wish.seconds * interval '1 second';
                lease.queue := lease.queue[2:];
                lease.seen := lease.seen[2:];
                won := won || wish.key;
                tokens := tokens || lease.token;
            ELSE
                -- The first in the queue learns when the lease ends, should its holder die.
                session_key := wish.key;
                wait := CASE WHEN lease.queue[1] = wish.waiter THEN
                    greatest(extract(epoch FROM lease.until - clock_timestamp()), 0) END;
                RETURN NEXT;
            END IF;
            UPDATE "public"."chat_sessions_leases" AS l
            SET token = lease.token, holder = lease.holder, until = lease.until,
                queue = lease.queue, seen = lease.seen
            WHERE l.key = wish.key;
        END LOOP;
    END IF;
    RETURN QUERY
        SELECT g.key, g.token, NULL::float8, coalesce(s.raw, convert_to(s.data::text, 'UTF8')), s.version,
            extract(epoch FROM s.expires_at)::float8
        FROM unnest(won, tokens) AS g (key, token)
        LEFT JOIN "public"."chat_sessions" AS s
            ON s.key = g.key AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp());
END
$$;
CREATE FUNCTION public.chat_sessions_lock_one(wanted text, waiter text, seconds double precision, again boolean) RETURNS TABLE(session_key text, token bigint, wait double precision, value bytea, version bigint, expires_at double precision)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    era bigint;
    won bigint;
BEGIN
    SELECT e.era << 44 INTO era FROM "public"."chat_sessions_era" AS e WHERE set_config('synchronous_commit', 'off', true) = 'off';
    IF FOUND THEN
        INSERT INTO "public"."chat_sessions_leases" AS l (key, token, holder, until)
        VALUES (wanted, era + nextval('"public"."chat_sessions_numbers"'), waiter, clock_timestamp() + seconds * interval '1 second')
        ON CONFLICT (key) DO UPDATE SET
            token = era + nextval('"public"."chat_sessions_numbers"'), holder = EXCLUDED.holder, until = EXCLUDED.until
        WHERE l.until <= clock_timestamp() AND l.queue = '{}'
        RETURNING l.token INTO won;
    END IF;
    IF won IS NULL THEN
        RETURN QUERY SELECT * FROM "public"."chat_sessions_lock"(ARRAY[wanted], ARRAY[waiter], ARRAY[seconds], again);
        RETURN;
    END IF;
    session_key := wanted;
    token := won;
    -- Read by a statement that begins when the lease is taken; see lock.
    SELECT coalesce(s.raw, convert_to(s.data::text, 'UTF8')), s.version, extract(epoch FROM s.expires_at)
    INTO value, version, expires_at
    FROM "public"."chat_sessions" AS s
    WHERE s.key = wanted AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp());
    RETURN NEXT;
END
$$;
CREATE FUNCTION public.chat_sessions_read(keys text[]) RETURNS TABLE(session_key text, value bytea, version bigint, expires_at double precision)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT s.key, coalesce(s.raw, convert_to(s.data::text, 'UTF8')), s.version,
            extract(epoch FROM s.expires_at)::float8
        FROM "public"."chat_sessions" AS s
        WHERE s.key = ANY (keys) AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp());
END
$$;
CREATE FUNCTION public.chat_sessions_recover(keys text[], tokens bigint[], expects bigint[], seconds double precision) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    era bigint := "public"."chat_sessions_current_era"();
BEGIN
    IF era > ANY (tokens) THEN
        INSERT INTO "public"."chat_sessions_leases" (key, token, holder, until)
        SELECT c.key, c.token, '(recovered)', clock_timestamp() + seconds * interval '1 second'
        FROM unnest(keys, tokens, expects) AS c (key, token, expect)
        WHERE c.token < era AND c.token >= 1::bigint << 44 AND c.expect IS DISTINCT FROM -1
        ORDER BY c.key COLLATE "C"
        ON CONFLICT (key) DO NOTHING;
    END IF;
END
$$;
CREATE FUNCTION public.chat_sessions_renew(keys text[], tokens bigint[], seconds double precision) RETURNS boolean[]
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
#variable_conflict use_column
DECLARE
    each record;
    held boolean[] := array_fill(false, ARRAY[cardinality(keys)]);
BEGIN
    PERFORM "public"."chat_sessions_recover"(keys, tokens, NULL, seconds);
    FOR each IN
        UPDATE "public"."chat_sessions_leases" AS l SET until = clock_timestamp() + seconds * interval '1 second'
        FROM unnest(keys, tokens) WITH ORDINALITY AS c (key, token, place)
        WHERE l.key = c.key AND l.token = c.token AND l.holder IS NOT NULL AND l.until > clock_timestamp()
        RETURNING c.place
    LOOP
        held[each.place] := true;
    END LOOP;
    RETURN held;
END
$$;
CREATE FUNCTION public.chat_sessions_sweep(most bigint) RETURNS bigint[]
    LANGUAGE plpgsql
    AS $$
DECLARE
    sessions bigint;
    leases bigint;
    commits bigint;
BEGIN
    DELETE FROM "public"."chat_sessions" WHERE key IN (
        SELECT key FROM "public"."chat_sessions" WHERE expires_at <= clock_timestamp()
        ORDER BY expires_at LIMIT most FOR UPDATE SKIP LOCKED
    );
    GET DIAGNOSTICS sessions = ROW_COUNT;
    DELETE FROM "public"."chat_sessions_leases" WHERE key IN (
        SELECT key FROM "public"."chat_sessions_leases"
        WHERE until < clock_timestamp() - interval '1 minute' AND clock_timestamp() - interval '1 minute' > ALL (seen)
        LIMIT most FOR UPDATE SKIP LOCKED
    );
    GET DIAGNOSTICS leases = ROW_COUNT;
    DELETE FROM "public"."chat_sessions_commits" WHERE batch IN (
        SELECT batch FROM "public"."chat_sessions_commits" WHERE at < clock_timestamp() - interval '10 minutes'
        ORDER BY at LIMIT most FOR UPDATE SKIP LOCKED
    );
    GET DIAGNOSTICS commits = ROW_COUNT;
    RETURN ARRAY[sessions, leases, commits];
END
$$;
CREATE TABLE public.chat_sessions (
    key text NOT NULL COLLATE pg_catalog."C",
    whole_key bytea,
    data jsonb,
    raw bytea,
    version bigint NOT NULL,
    expires_at timestamp with time zone,
    CONSTRAINT chat_sessions_check CHECK (((data IS NULL) <> (raw IS NULL)))
)
WITH (fillfactor='80');
CREATE TABLE public.chat_sessions_commits (
    batch uuid NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    outcomes bigint[] NOT NULL
);
CREATE UNLOGGED TABLE public.chat_sessions_era (
    era bigint NOT NULL
);
CREATE UNLOGGED TABLE public.chat_sessions_leases (
    key text NOT NULL COLLATE pg_catalog."C",
    token bigint NOT NULL,
    holder text,
    until timestamp with time zone NOT NULL,
    queue text[] DEFAULT '{}'::text[] NOT NULL,
    seen timestamp with time zone[] DEFAULT '{}'::timestamp with time zone[] NOT NULL
)
WITH (fillfactor='50');
CREATE TABLE public.chat_sessions_meta (
    schema_version integer NOT NULL,
    era bigint NOT NULL
);
CREATE SEQUENCE public.chat_sessions_numbers
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
COPY public.chat_sessions (key, whole_key, data, raw, version, expires_at) FROM stdin;
plain:42	\N	{"name": "Ann", "tags": ["a"], "coins": 7, "since": "2026-05-04T03:02:01Z"}	\N	2	\N
plain:-1001234567890	\N	{"name": "", "tags": [], "coins": 0, "since": null}	\N	4	\N
plain:Üb/er all ☕️	\N	{"name": "🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕", "tags": [], "coins": 4611686018427387904, "since": null}	\N	6	\N
plain:long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long 	\N	\N	\\x7b226e616d65223a225c75303030315c7530303030275c225c5c222c22636f696e73223a2d312c2274616773223a5b5d2c2273696e6365223a6e756c6c7d	8	\N
migrated:1	\N	{"gold": 1}	\N	10	\N
migrated:2	\N	{"v": 1, "__d": {"coins": 2}}	\N	12	\N
migrated:3	\N	{"v": 2.5, "__d": {"cents": 300}}	\N	14	\N
compressed:7	\N	\N	\\x017a28b52ffd60a10e8d0000505b2270697a7a61222c5d0100949f5f8e	16	\N
compressed:8	\N	["few"]	\N	18	\N
encrypted:old	\N	\N	\\x016580b2f9a8db7a1346cb69aeaed1a39051af14827c603634bfe416291c92ab4d6eaf7a5c1f11ee3a76ee1d892764a332261399fd7e3ed97bf3cebd0325ab1164e6697b880f8477db6c200f6a328710f2	20	\N
encrypted:42	\N	\N	\\x01655fddf4602da7c77010f6c563d5743e05941f2d7e577c6ba22d451ba5c2c305b9f3be9acc283f18c0b3b246c8cbf03015d6653ba0007391f98290adc983fe5d7922585bd448b3d9ab19b9f60add43d6dfe533a53befdadbb4a1379d36f8317b7b3515aee2	22	\N
encrypted:-1001234567890	\N	\N	\\x01655fddf460820b657aabbf64139b3182c496b0950cecc83fbfdd573267fd185ea6aaf9a56ef4a28cd14902bd2966916cceed62f4d69815a4505f9566585bd582e8afd25f0b3f2dbaaa330a4773	24	\N
encrypted:Üb/er all ☕️	\N	\N	\\x01655fddf460c64ff53aec346409e8ee6d446bc19086c8c9b55a9d3e934a945c0b40a251d21cf53bfddf06a56ba3a699a7d2c0b17d4cf08f601dbfc464aaaf8d6a92b9d9fa36b58a2cf6f5a3632601ee0d0769f79955c8ed8e399d983449bc9bfed02f221e5d10de049aa945fd363c8e778bbcfeb311a9a3edb7153599973dda7169d5d9f0e7f731db38453e69768a15e1612dcd3e1a144042c63690418107faf86d681b3f76c49747fd367b907178439b611eeec023b989d3dba06fcf75cec82437fccc6497641ae232bed6864c6c1e1cf1d6540648564e30983ce565621e006bf606ea80ede87ebd522891aa8c1c8ce07950e15fd2bca99fd9d1a097b62af956eabd4401065bfb14dbbe8c28348a32b9e4332f676a9e6f066ba47d1c7db97de32feb3b147f1bd3	26	\N
encrypted:long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long 	\N	\N	\\x01655fddf460c6425732e90bdc6cfb6a08f88266a8b5f0034e4a6363ab3a88b2ac94f67a1a92cfc553922a042883339e78db404c6455a69882b7d6802198c6dae5c59dafc4d0213c166650ef0df57138a9e91005846c81967a5f80ef100c0b50	28	\N
deduplicated:42	\N	{"u": [0], "__d": {"name": "Ann", "tags": ["a"], "coins": 7, "since": "2026-05-04T03:02:01Z"}}	\N	30	\N
deduplicated:-1001234567890	\N	{"u": [1], "__d": {"name": "", "tags": [], "coins": 0, "since": null}}	\N	32	\N
deduplicated:Üb/er all ☕️	\N	{"u": [2], "__d": {"name": "🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕", "tags": [], "coins": 4611686018427387904, "since": null}}	\N	34	\N
deduplicated:long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long 	\N	\N	\\x7b225f5f64223a7b226e616d65223a225c75303030315c7530303030275c225c5c222c22636f696e73223a2d312c2274616773223a5b5d2c2273696e6365223a6e756c6c7d2c2275223a5b335d7d	36	\N
moved:42	\N	{"name": "Ann", "tags": ["a"], "coins": 7, "since": "2026-05-04T03:02:01Z"}	\N	38	\N
moved:-1001234567890	\N	{"name": "", "tags": [], "coins": 0, "since": null}	\N	40	\N
moved:Üb/er all ☕️	\N	{"name": "🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕", "tags": [], "coins": 4611686018427387904, "since": null}	\N	42	\N
moved:long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long 	\N	\N	\\x7b226e616d65223a225c75303030315c7530303030275c225c5c222c22636f696e73223a2d312c2274616773223a5b5d2c2273696e6365223a6e756c6c7d	44	\N
moved:-100	\N	{"name": "from", "tags": [], "coins": 0, "since": null}	\N	52	\N
moved:-1	\N	{"m": "moved:-100", "__d": null}	\N	53	\N
!moved:6b86b273ff34fce1:moved onto:-2	\N	1	\N	64	\N
moved onto:-200	\N	2	\N	65	\N
moved onto:-2	\N	{"m": "moved onto:-200", "__d": null}	\N	66	\N
expiring:42	\N	{"name": "Ann", "tags": ["a"], "coins": 7, "since": "2026-05-04T03:02:01Z"}	\N	68	2126-10-31 10:54:41.297546+00
expiring:-1001234567890	\N	{"name": "", "tags": [], "coins": 0, "since": null}	\N	70	2126-10-31 10:54:41.299168+00
expiring:Üb/er all ☕️	\N	{"name": "🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕", "tags": [], "coins": 4611686018427387904, "since": null}	\N	72	2126-10-31 10:54:41.300501+00
expiring:long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long 	\N	\N	\\x7b226e616d65223a225c75303030315c7530303030275c225c5c222c22636f696e73223a2d312c2274616773223a5b5d2c2273696e6365223a6e756c6c7d	74	2126-10-31 10:54:41.302812+00
expiring once:42	\N	{"name": "Ann", "tags": ["a"], "coins": 7, "since": "2026-05-04T03:02:01Z"}	\N	76	2126-10-31 10:54:41.305105+00
expiring once:-1001234567890	\N	{"name": "", "tags": [], "coins": 0, "since": null}	\N	78	2126-10-31 10:54:41.306658+00
expiring once:Üb/er all ☕️	\N	{"name": "🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕🍕", "tags": [], "coins": 4611686018427387904, "since": null}	\N	80	2126-10-31 10:54:41.307741+00
expiring once:long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long 	\N	\N	\\x7b226e616d65223a225c75303030315c7530303030275c225c5c222c22636f696e73223a2d312c2274616773223a5b5d2c2273696e6365223a6e756c6c7d	82	2126-10-31 10:54:41.30944+00
all:7	\N	\N	\\x01655fddf460b3fdfc4f74d97a0c22e4034fe19e4eeeb3b3a2cc8852108acf462a53032f30ca5868a519d702b880b222eb7a7d4bfe75ba487cc82d3a5397b0d2ef97da5fae69f8431c7166838bb3fda3184d8a02f3075a	84	2126-10-31 10:54:41.310632+00
all:8	\N	\N	\\x01655fddf46050ca1281e2395e49e3c625cb3cd8fe5a78c7047eabbde8c7acec42518e50b8c7931e673aad888c6058804fbaa27bb08d7ee5ad358bba76ed77	86	2126-10-31 10:54:41.311502+00
\.
COPY public.chat_sessions_commits (batch, at, outcomes) FROM stdin;
61c1ee95-2dd4-48a6-96bb-4642d75adcbf	2026-11-24 10:54:41.167584+00	{2}
bba42e1a-5670-41f7-bbad-656dde65eb1f	2026-11-24 10:54:41.172798+00	{4}
47c56167-07ea-45b0-956e-f28f445f2fb9	2026-11-24 10:54:41.178008+00	{6}
d0627538-ee04-483a-8d4d-9055b3e3cbfd	2026-11-24 10:54:41.181476+00	{8}
576140fb-12ea-467b-a89c-84536c8bceaf	2026-11-24 10:54:41.185321+00	{10}
a6808514-7baf-465e-b3ea-74207af0175f	2026-11-24 10:54:41.193562+00	{12}
0e1a4739-fb8f-48f1-bf95-119bfb6f323c	2026-11-24 10:54:41.202597+00	{14}
6a7bf606-a73a-49c2-a30f-be4d593d8d47	2026-11-24 10:54:41.205957+00	{16}
737ffb18-1af0-4d63-83ba-f34cdccd14f8	2026-11-24 10:54:41.207413+00	{18}
82fa4ce3-dedd-46b2-811e-7f63d679f421	2026-11-24 10:54:41.210587+00	{20}
7f702646-6506-4a6c-95ed-6e2cdbeccdc6	2026-11-24 10:54:41.214485+00	{22}
b4ade06c-3f34-4ae4-a83b-aa411f68f818	2026-11-24 10:54:41.216178+00	{24}
ca82cc7a-4c00-4768-b81d-5a12b9c0f895	2026-11-24 10:54:41.219262+00	{26}
72d582d4-d7d4-4279-bce2-344c7a849e41	2026-11-24 10:54:41.223302+00	{28}
c6b7eeb1-8cc5-4261-8ebe-5f3a4efaf0e0	2026-11-24 10:54:41.22977+00	{30}
1261910e-de9f-40da-9452-4cd4af25da60	2026-11-24 10:54:41.231184+00	{32}
f4b70294-5290-43ac-8347-fe61342172a3	2026-11-24 10:54:41.233687+00	{34}
a42973f0-0e81-4c58-bce0-de5374336b04	2026-11-24 10:54:41.236216+00	{36}
bc1fd77d-9c4d-444f-a4a8-939404e84873	2026-11-24 10:54:41.240054+00	{38}
849ed238-2be3-486c-93fc-86727bd26aba	2026-11-24 10:54:41.241908+00	{40}
75e39d48-f74f-405c-9666-0ab61eefe238	2026-11-24 10:54:41.245036+00	{42}
4f0fae48-d8ef-4020-af97-0eaba47277f0	2026-11-24 10:54:41.247965+00	{44}
57db1d14-1cd0-4f07-bb35-e5cdeee7c9ea	2026-11-24 10:54:41.249217+00	{46}
92500804-7bc6-4aed-b666-7d1416d6bbc0	2026-11-24 10:54:41.251203+00	{50}
05b56aca-477b-4678-aaed-e232fa4270af	2026-11-24 10:54:41.25242+00	{51}
ff37f259-e1ec-46c2-b7f0-d74594504562	2026-11-24 10:54:41.254383+00	{52}
85bac418-ef8a-4b7c-90fd-c07687d3a057	2026-11-24 10:54:41.255778+00	{53}
135233bd-9e05-409d-86e3-b2052821f359	2026-11-24 10:54:41.279296+00	{55}
c62abd49-fe84-4f14-a198-f45e4b1c6b6c	2026-11-24 10:54:41.281332+00	{57}
12bab744-dfd4-46fa-9fdb-9dedbdd2ee22	2026-11-24 10:54:41.283725+00	{62}
9fcfcf43-f244-4591-8ed3-1f5a3ab5c42e	2026-11-24 10:54:41.285144+00	{63}
b30fa4ee-a02f-4116-8943-4156f9bc8270	2026-11-24 10:54:41.287633+00	{64}
c8bb5a0f-1d61-4e24-b601-6907caae2708	2026-11-24 10:54:41.290025+00	{65}
15a9d10c-85a7-418a-b747-6141f8f24b43	2026-11-24 10:54:41.291184+00	{66}
516566ca-f259-44d8-8d53-7e619c446c89	2026-11-24 10:54:41.297476+00	{68}
62b22ba0-5c6a-483a-9ab0-059a73f9ffc4	2026-11-24 10:54:41.299104+00	{70}
78426359-4236-4450-944b-6110a2fea6c1	2026-11-24 10:54:41.300439+00	{72}
ac8e9ca4-b2b3-4792-98c6-17e887f655d9	2026-11-24 10:54:41.302709+00	{74}
5472a9ad-14fd-4ec5-bd3c-569c533e1b03	2026-11-24 10:54:41.305045+00	{76}
bf05ab88-70bf-4881-b7b0-adfe6c58816b	2026-11-24 10:54:41.306562+00	{78}
07a1a0e8-b5cb-4e27-ba8a-9197061a2c1c	2026-11-24 10:54:41.307687+00	{80}
af92c545-65a3-4a67-9fde-03fb161bde53	2026-11-24 10:54:41.308517+00	{82}
f49d107b-3063-417b-8459-57f28542b457	2026-11-24 10:54:41.310577+00	{84}
4f22c682-eea7-4f2e-9290-0ac43d320158	2026-11-24 10:54:41.311446+00	{86}
\.
COPY public.chat_sessions_era (era) FROM stdin;
1
\.
COPY public.chat_sessions_leases (key, token, holder, until, queue, seen) FROM stdin;
plain:42	17592186044417	\N	2026-11-24 10:54:41.167991+00	{}	{}
plain:-1001234567890	17592186044419	\N	2026-11-24 10:54:41.172836+00	{}	{}
plain:Üb/er all ☕️	17592186044421	\N	2026-11-24 10:54:41.178049+00	{}	{}
plain:long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long 	17592186044423	\N	2026-11-24 10:54:41.181514+00	{}	{}
migrated:1	17592186044425	\N	2026-11-24 10:54:41.185357+00	{}	{}
migrated:2	17592186044427	\N	2026-11-24 10:54:41.193662+00	{}	{}
migrated:3	17592186044429	\N	2026-11-24 10:54:41.20264+00	{}	{}
compressed:7	17592186044431	\N	2026-11-24 10:54:41.205989+00	{}	{}
compressed:8	17592186044433	\N	2026-11-24 10:54:41.20744+00	{}	{}
encrypted:old	17592186044435	\N	2026-11-24 10:54:41.210609+00	{}	{}
encrypted:42	17592186044437	\N	2026-11-24 10:54:41.214511+00	{}	{}
encrypted:-1001234567890	17592186044439	\N	2026-11-24 10:54:41.216201+00	{}	{}
encrypted:Üb/er all ☕️	17592186044441	\N	2026-11-24 10:54:41.219289+00	{}	{}
encrypted:long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long 	17592186044443	\N	2026-11-24 10:54:41.223332+00	{}	{}
deduplicated:42	17592186044445	\N	2026-11-24 10:54:41.229807+00	{}	{}
deduplicated:-1001234567890	17592186044447	\N	2026-11-24 10:54:41.231206+00	{}	{}
deduplicated:Üb/er all ☕️	17592186044449	\N	2026-11-24 10:54:41.23371+00	{}	{}
deduplicated:long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long 	17592186044451	\N	2026-11-24 10:54:41.236267+00	{}	{}
moved:42	17592186044453	\N	2026-11-24 10:54:41.240076+00	{}	{}
moved:-1001234567890	17592186044455	\N	2026-11-24 10:54:41.242219+00	{}	{}
moved:Üb/er all ☕️	17592186044457	\N	2026-11-24 10:54:41.245058+00	{}	{}
moved:long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long 	17592186044459	\N	2026-11-24 10:54:41.247987+00	{}	{}
moved:-100	17592186044465	\N	2026-11-24 10:54:41.275071+00	{}	{}
moved:-1	17592186044464	\N	2026-11-24 10:54:41.277394+00	{}	{}
moved onto:-200	17592186044477	\N	2026-11-24 10:54:41.293937+00	{}	{}
moved onto:-2	17592186044475	\N	2026-11-24 10:54:41.294793+00	{}	{}
expiring:42	17592186044483	\N	2026-11-24 10:54:41.2975+00	{}	{}
expiring:-1001234567890	17592186044485	\N	2026-11-24 10:54:41.299125+00	{}	{}
expiring:Üb/er all ☕️	17592186044487	\N	2026-11-24 10:54:41.30046+00	{}	{}
expiring:long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long 	17592186044489	\N	2026-11-24 10:54:41.302729+00	{}	{}
expiring once:42	17592186044491	\N	2026-11-24 10:54:41.305065+00	{}	{}
expiring once:-1001234567890	17592186044493	\N	2026-11-24 10:54:41.306582+00	{}	{}
expiring once:Üb/er all ☕️	17592186044495	\N	2026-11-24 10:54:41.307705+00	{}	{}
expiring once:long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long 	17592186044497	\N	2026-11-24 10:54:41.308537+00	{}	{}
all:7	17592186044499	\N	2026-11-24 10:54:41.310595+00	{}	{}
all:8	17592186044501	\N	2026-11-24 10:54:41.311464+00	{}	{}
\.
COPY public.chat_sessions_meta (schema_version, era) FROM stdin;
1	1
\.
SELECT pg_catalog.setval('public.chat_sessions_numbers', 86, true);
ALTER TABLE ONLY public.chat_sessions_commits
    ADD CONSTRAINT chat_sessions_commits_pkey PRIMARY KEY (batch);
ALTER TABLE ONLY public.chat_sessions_leases
    ADD CONSTRAINT chat_sessions_leases_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.chat_sessions
    ADD CONSTRAINT chat_sessions_pkey PRIMARY KEY (key);
CREATE INDEX chat_sessions_commits_index ON public.chat_sessions_commits USING btree (at);
CREATE INDEX chat_sessions_expiry_index ON public.chat_sessions USING btree (expires_at) WHERE (expires_at IS NOT NULL);

-- The schema is written `holdfast`; a store in another one has its name put there instead.

-- Read one entity, and the time.
-- name: load
SELECT holdfast.utc_now(), entity.*
FROM (SELECT) AS always
LEFT JOIN LATERAL (
    SELECT machine, id, version, state_type, state, schema_version, created_at, updated_at,
        entered_version, digest
    FROM holdfast.entity_row
    WHERE machine = :machine AND id = :id
) AS entity ON true;

-- Read many entities in the order asked, and the time.
-- name: load_many
SELECT holdfast.utc_now(), entity.*
FROM unnest(CAST(:machines AS text[]), CAST(:ids AS text[]))
    WITH ORDINALITY AS asked (machine, id, place)
LEFT JOIN LATERAL (
    SELECT machine, id, version, state_type, state, schema_version, created_at, updated_at,
        entered_version, digest
    FROM holdfast.entity_row
    WHERE machine = asked.machine AND id = asked.id
    OFFSET 0
) AS entity ON true
ORDER BY asked.place;

-- Read many entities, the time, and what an idempotency key of each made; where the key is NULL,
-- the entity only.
-- name: load_keys
SELECT holdfast.utc_now(), entity.*, applied.*
FROM unnest(CAST(:machines AS text[]), CAST(:ids AS text[]), CAST(:keys AS text[]))
    WITH ORDINALITY AS asked (machine, id, key, place)
LEFT JOIN LATERAL (
    SELECT machine, id, version, state_type, state, schema_version, created_at, updated_at,
        entered_version, digest
    FROM holdfast.entity_row
    WHERE machine = asked.machine AND id = asked.id
    OFFSET 0
) AS entity ON true
LEFT JOIN LATERAL (
    SELECT position, machine, id, version, kind, from_type, to_type, command_type, command,
        events, state, command_schema_version, state_schema_version, metadata, key, token, at,
        recorded_at, digest, created_at, previous_state
    FROM holdfast.log_row
    WHERE machine = asked.machine AND id = asked.id AND key = asked.key
    OFFSET 0
) AS applied ON true
ORDER BY asked.place;

-- Read the versions of entities, 0 where there is none, whether they are deleted, and the tokens of
-- versions of theirs.
-- name: load_tokens
SELECT coalesce(stored.version, 0), coalesce(stored.deleted, false), entry.token
FROM unnest(CAST(:machines AS text[]), CAST(:ids AS text[]), CAST(:versions AS bigint[]))
    WITH ORDINALITY AS asked (machine, id, version, place)
LEFT JOIN LATERAL (
    SELECT version, state_type IS NULL AS deleted FROM holdfast.entity
    WHERE machine = asked.machine AND id = asked.id
    OFFSET 0
) AS stored ON true
LEFT JOIN LATERAL (
    SELECT token FROM holdfast.transition
    WHERE machine = asked.machine AND id = asked.id AND version = asked.version
    OFFSET 0
) AS entry ON true
ORDER BY asked.place;

-- Write an entity's new row over the version that was decided on, 0 where it has none, and append
-- the transition; answers with the entity, unless it is at another version or locked by another
-- transaction. What was pending lapses. A proposed row holds the version expected as its attempts,
-- which for a new one is the 0 that it starts with.
-- name: write
WITH entry AS (
    SELECT
        CAST(:machine AS text) AS machine, CAST(:id AS text) AS id,
        CAST(:version AS bigint) AS version, CAST(:kind AS text) AS kind,
        CAST(:from_type AS text) AS from_type, CAST(:to_type AS text) AS to_type,
        CAST(:command_type AS text) AS command_type, CAST(:command AS json) AS command,
        CAST(:events AS json) AS events, CAST(:state AS json) AS state,
        CAST(:command_schema_version AS integer) AS command_schema_version,
        CAST(:state_schema_version AS integer) AS state_schema_version,
        CAST(:metadata AS json) AS metadata, CAST(:key AS text) AS key,
        CAST(:token AS text) AS token, CAST(:at AS text) AS at,
        CAST(:recorded_at AS text) AS recorded_at, CAST(:digest AS text) AS digest,
        CAST(:expected AS bigint) AS expected, CAST(:schema_version AS integer) AS schema_version,
        CAST(:created_at AS text) AS created_at, CAST(:entered_version AS bigint) AS entered_version
),
written AS (
    INSERT INTO holdfast.entity AS stored (machine, id, version, state_type, state, schema_version,
        created_at, updated_at, entered_version, attempts, digest)
    SELECT machine, id, version, to_type, CAST(state AS jsonb), schema_version, created_at, at,
        entered_version, expected, digest
    FROM entry
    WHERE expected = coalesce(
        (
            SELECT version FROM holdfast.entity AS seen
            WHERE seen.machine = entry.machine AND seen.id = entry.id
            FOR NO KEY UPDATE SKIP LOCKED
        ),
        0
    )
    ON CONFLICT (machine, id) DO UPDATE
    SET version = excluded.version, state_type = excluded.state_type, state = excluded.state,
        schema_version = excluded.schema_version, created_at = excluded.created_at,
        updated_at = excluded.updated_at, entered_version = excluded.entered_version,
        digest = excluded.digest, deadline_at = NULL, effect_at = NULL, lease_until = NULL,
        wake_at = NULL, attempts = 0, last_error = NULL
    WHERE stored.version = excluded.attempts
    RETURNING machine, id
),
logged AS (
    INSERT INTO holdfast.transition (machine, id, version, kind, from_type, to_type, command_type,
        command, events, state, command_schema_version, state_schema_version, metadata, key, token,
        at, recorded_at, digest)
    SELECT machine, id, version, kind, from_type, to_type, command_type, command, events, state,
        command_schema_version, state_schema_version, metadata, key, token, at, recorded_at, digest
    FROM entry JOIN written USING (machine, id)
)
SELECT machine, id FROM written;

-- Write many entities as `write` does, rows locked in the order of their keys, and append their
-- transitions in the order given: an entity's stand together, and the last one brings its new row
-- (created_at is NULL at the others). Answers with the entities that were written.
-- name: write_many
WITH entry AS (
    SELECT *
    FROM unnest(
        CAST(:machine AS text[]), CAST(:id AS text[]), CAST(:version AS bigint[]),
        CAST(:kind AS text[]), CAST(:from_type AS text[]), CAST(:to_type AS text[]),
        CAST(:command_type AS text[]), CAST(:command AS text[]), CAST(:events AS text[]),
        CAST(:state AS text[]), CAST(:command_schema_version AS integer[]),
        CAST(:state_schema_version AS integer[]), CAST(:metadata AS text[]), CAST(:key AS text[]),
        CAST(:token AS text[]), CAST(:at AS text[]), CAST(:recorded_at AS text[]),
        CAST(:digest AS text[]), CAST(:expected AS bigint[]), CAST(:schema_version AS integer[]),
        CAST(:created_at AS text[]), CAST(:entered_version AS bigint[])
    ) WITH ORDINALITY AS entry (machine, id, version, kind, from_type, to_type, command_type,
        command, events, state, command_schema_version, state_schema_version, metadata, key, token,
        at, recorded_at, digest, expected, schema_version, created_at, entered_version, place)
),
written AS (
    INSERT INTO holdfast.entity AS stored (machine, id, version, state_type, state, schema_version,
        created_at, updated_at, entered_version, attempts, digest)
    SELECT machine, id, version, to_type, CAST(state AS jsonb), schema_version, created_at, at,
        entered_version, expected, digest
    FROM (
        SELECT * FROM entry
        WHERE created_at IS NOT NULL
        ORDER BY machine COLLATE "C", id COLLATE "C"
    ) AS entry
    WHERE expected = coalesce(
        (
            SELECT version FROM holdfast.entity AS seen
            WHERE seen.machine = entry.machine AND seen.id = entry.id
            FOR NO KEY UPDATE SKIP LOCKED
        ),
        0
    )
    ON CONFLICT (machine, id) DO UPDATE
    SET version = excluded.version, state_type = excluded.state_type, state = excluded.state,
        schema_version = excluded.schema_version, created_at = excluded.created_at,
        updated_at = excluded.updated_at, entered_version = excluded.entered_version,
        digest = excluded.digest, deadline_at = NULL, effect_at = NULL, lease_until = NULL,
        wake_at = NULL, attempts = 0, last_error = NULL
    WHERE stored.version = excluded.attempts
    RETURNING machine, id
),
logged AS (
    INSERT INTO holdfast.transition (machine, id, version, kind, from_type, to_type, command_type,
        command, events, state, command_schema_version, state_schema_version, metadata, key, token,
        at, recorded_at, digest)
    SELECT machine, id, version, kind, from_type, to_type, command_type, CAST(command AS json),
        CAST(events AS json), CAST(state AS json), command_schema_version, state_schema_version,
        CAST(metadata AS json), key, token, at, recorded_at, digest
    FROM entry JOIN written USING (machine, id)
    ORDER BY place
)
SELECT machine, id FROM written;

-- Read how long this transaction waits for others.
-- name: longest_wait
SELECT current_setting('lock_timeout');

-- Wait for other transactions no longer than this, in milliseconds, within this transaction; where
-- the wait is shorter already, it stays so.
-- name: bound_wait
SELECT CASE
    WHEN usual = '0s' OR usual > CAST(:longest || 'ms' AS interval)
    THEN set_config('lock_timeout', :longest, true)
END
FROM CAST(current_setting('lock_timeout') AS interval) AS usual;

-- Wait for other transactions so long, as it is read, within this transaction.
-- name: set_wait
SELECT set_config('lock_timeout', :longest, true);

-- Lock the rows of entities in the order given; read their versions, and whether they are deleted.
-- name: hold
SELECT held.machine, held.id, held.version, held.deleted
FROM unnest(CAST(:machines AS text[]), CAST(:ids AS text[])) AS asked (machine, id)
CROSS JOIN LATERAL (
    SELECT machine, id, version, version > 0 AND state_type IS NULL AS deleted FROM holdfast.entity
    WHERE machine = asked.machine AND id = asked.id
    FOR NO KEY UPDATE
) AS held;

-- Hold the places of entities that have no row, in the order given, with rows of version 0.
-- name: hold_absent
INSERT INTO holdfast.entity (machine, id, version, schema_version, created_at, updated_at,
    entered_version, digest)
SELECT machine, id, 0, 0, '', '', 0, ''
FROM unnest(CAST(:machines AS text[]), CAST(:ids AS text[])) AS absent (machine, id)
ON CONFLICT DO NOTHING
RETURNING machine, id;

-- Let go of the places that were not taken.
-- name: release_absent
DELETE FROM holdfast.entity
WHERE ctid = ANY (ARRAY(
    SELECT place.ctid
    FROM unnest(CAST(:machines AS text[]), CAST(:ids AS text[])) AS absent (machine, id)
    CROSS JOIN LATERAL (
        SELECT held.ctid FROM holdfast.entity AS held
        WHERE held.machine = absent.machine AND held.id = absent.id AND held.version = 0
        OFFSET 0
    ) AS place
));

-- Let this transaction erase an entity's payloads.
-- name: begin_purge
INSERT INTO holdfast.purging (machine, id) VALUES (:machine, :id);

-- Turn an entity's transitions up to a version into stubs.
-- name: purge
UPDATE holdfast.transition
SET kind = 'purged', from_type = NULL, to_type = NULL, command_type = NULL, command = NULL,
    events = NULL, state = NULL, metadata = NULL
WHERE machine = :machine AND id = :id AND version <= :version AND kind <> 'purged';

-- Close the log to changes again.
-- name: end_purge
DELETE FROM holdfast.purging WHERE machine = :machine AND id = :id;

-- Read an entity's transitions in order.
-- name: history
SELECT position, machine, id, version, kind, from_type, to_type, command_type, command, events,
    state, command_schema_version, state_schema_version, metadata, key, token, at, recorded_at,
    digest
FROM holdfast.log_row
WHERE machine = :machine AND id = :id AND version > :after
ORDER BY version
LIMIT :limit;

-- Read the transition that made a version, when the life began that it belongs to, and the state
-- before it.
-- name: transition_at_version
SELECT position, machine, id, version, kind, from_type, to_type, command_type, command, events,
    state, command_schema_version, state_schema_version, metadata, key, token, at, recorded_at,
    digest, created_at, previous_state
FROM holdfast.log_row
WHERE machine = :machine AND id = :id AND version = :version;

-- Read the last transition at or before a time as `transition_at_version` does. An entity's times
-- never fall, so its version is found by halving.
-- name: transition_at_time
WITH RECURSIVE search (low, high) AS (
    SELECT CAST(0 AS bigint), version FROM holdfast.entity
    WHERE entity.machine = :machine AND entity.id = :id
    UNION ALL
    SELECT
        CASE WHEN entry.at <= :time THEN half.version ELSE search.low END,
        CASE WHEN entry.at <= :time THEN search.high ELSE half.version - 1 END
    FROM search
    CROSS JOIN LATERAL (SELECT (search.low + search.high + 1) / 2 AS version) AS half
    CROSS JOIN LATERAL (
        SELECT at FROM holdfast.transition
        WHERE machine = :machine AND id = :id AND version = half.version
        OFFSET 0
    ) AS entry
    WHERE search.low < search.high
)
SELECT position, machine, id, version, kind, from_type, to_type, command_type, command, events,
    state, command_schema_version, state_schema_version, metadata, key, token, at, recorded_at,
    digest, created_at, previous_state
FROM holdfast.log_row
WHERE machine = :machine AND id = :id AND version = (SELECT low FROM search WHERE low = high);

-- Read live entities by id.
-- name: find
SELECT machine, id, version, state_type, state, schema_version, created_at, updated_at,
    entered_version, digest
FROM holdfast.entity_row
WHERE machine = :machine AND id > :after AND state_type IS NOT NULL
ORDER BY id
LIMIT :limit;

-- Read live entities by id that are in one of some states. Equality alone would leave it to what is
-- known of the states' numbers whether they are looked up at all.
-- name: find_in_state
SELECT entity.*
FROM unnest(CAST(:state_types AS text[])) AS wanted (state_type)
CROSS JOIN LATERAL (
    SELECT machine, id, version, state_type, state, schema_version, created_at, updated_at,
        entered_version, digest
    FROM holdfast.entity_row
    WHERE machine = :machine AND (state_type, id) > (wanted.state_type, :after)
        AND state_type <= wanted.state_type
    ORDER BY state_type, id
    LIMIT :limit
) AS entity
ORDER BY entity.id
LIMIT :limit;

-- Count live entities by state.
-- name: count
SELECT state_type, count(*)
FROM holdfast.entity
WHERE machine = :machine AND state_type IS NOT NULL
GROUP BY state_type
ORDER BY state_type;

-- Read the rows of all entities, deleted ones included, by machine and id.
-- name: entities
SELECT machine, id, version, state_type, state, schema_version, created_at, updated_at,
    entered_version, digest
FROM holdfast.entity_row
WHERE (machine, id) > (:machine, :id)
ORDER BY machine, id
LIMIT :limit;

-- Read the log in order, as far as it is numbered.
-- name: read_log
SELECT feed.position, entry.*
FROM holdfast.feed
CROSS JOIN LATERAL (
    SELECT machine, id, version, kind, from_type, to_type, command_type,
        CAST(command AS text) AS command, CAST(events AS text) AS events,
        CAST(state AS text) AS state, command_schema_version, state_schema_version,
        CAST(metadata AS text) AS metadata, key, token, at, recorded_at, digest
    FROM holdfast.transition
    WHERE transition.seq = feed.seq
    OFFSET 0
) AS entry
WHERE feed.position > :after
ORDER BY feed.position
LIMIT :limit;

-- Find out whether there is anything to number, or a missing transition to be forgotten, and
-- whether it may be done here.
-- name: is_behind
SELECT current_setting('transaction_read_only') = 'off' AND (
    (
        SELECT fresh.seq FROM holdfast.transition AS fresh
        WHERE fresh.seq > head.seen
        ORDER BY fresh.seq
        LIMIT 1
    ) IS NOT NULL
    OR EXISTS (
        SELECT FROM unnest(head.missing, head.missing_since) AS gap (seqs, since)
        WHERE gap.since <= pg_snapshot_xmin(pg_current_snapshot())
            OR gap.since >= pg_snapshot_xmax(pg_current_snapshot())
            OR (
                SELECT late.seq FROM holdfast.transition AS late
                WHERE late.seq >= lower(gap.seqs) AND late.seq < upper(gap.seqs)
                LIMIT 1
            ) IS NOT NULL
    )
)
FROM holdfast.log_head AS head;

-- Number what was committed since, at most so many transitions.
-- name: number_log
SELECT holdfast.number_log(:most);

-- Read how far a named reader came.
-- name: load_checkpoint
SELECT position FROM holdfast.checkpoint WHERE name = :name;

-- Lock how far a named reader came, and read it; one that is new came nowhere yet.
-- name: hold_checkpoint
INSERT INTO holdfast.checkpoint AS stored (name, position, updated_at)
VALUES (:name, 0, '')
ON CONFLICT (name) DO UPDATE SET position = stored.position
RETURNING position;

-- Write how far a named reader came.
-- name: save_checkpoint
UPDATE holdfast.checkpoint SET position = :position, updated_at = :updated_at WHERE name = :name;

-- Set up a connection: waits have a bound, and so has a transaction whose client is gone; writes
-- outlast a power failure; plans go by the indexes, however small the tables were when they were made.
-- name: prepare_session
SELECT
    current_setting('server_encoding'),
    CAST(current_setting('server_version_num') AS integer),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('plan_cache_mode', 'force_generic_plan', false),
    set_config('enable_seqscan', 'off', false),
    set_config('jit', 'off', false),
    CASE current_setting('lock_timeout')
        WHEN '0' THEN set_config('lock_timeout', '5s', false)
    END,
    CASE current_setting('idle_in_transaction_session_timeout')
        WHEN '0' THEN set_config('idle_in_transaction_session_timeout', '10s', false)
    END,
    CASE current_setting('synchronous_commit')
        WHEN 'off' THEN set_config('synchronous_commit', 'on', false)
    END;

-- Read the time.
-- name: time
SELECT holdfast.utc_now();

-- Find out whether the schema has been set up.
-- name: has_schema
SELECT count(*) > 0
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace
WHERE nspname = :schema AND relname = 'migration';

-- Read what guards the log: triggers and indexes that work, functions and constraints.
-- name: definitions
SELECT 'trigger' AS kind, tgname AS name, pg_get_triggerdef(pg_trigger.oid) AS definition
FROM pg_trigger
JOIN pg_class ON pg_class.oid = tgrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = :schema AND NOT tgisinternal AND tgenabled IN ('O', 'A')
UNION ALL
SELECT 'index', relname, pg_get_indexdef(indexrelid)
FROM pg_index
JOIN pg_class ON pg_class.oid = indexrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = :schema AND indisvalid AND indisready
UNION ALL
SELECT 'function', proname, prosrc
FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
WHERE nspname = :schema
UNION ALL
SELECT 'constraint', conname, ''
FROM pg_constraint JOIN pg_namespace ON pg_namespace.oid = connamespace
WHERE nspname = :schema AND convalidated;

-- Read the last position that was given out, and the last one in the log; nothing takes one back.
-- name: last_positions
SELECT
    (SELECT position FROM holdfast.log_head) AS given,
    coalesce(
        (
            SELECT position FROM holdfast.feed
            WHERE (
                SELECT transition.seq FROM holdfast.transition WHERE transition.seq = feed.seq
            ) IS NOT NULL
            ORDER BY position DESC
            LIMIT 1
        ),
        0
    ) AS last;

-- Find entities whose state is not what the log says it is.
-- name: altered_states
SELECT entity.machine, entity.id
FROM holdfast.entity
JOIN holdfast.transition AS last ON last.machine = entity.machine AND last.id = entity.id
    AND last.version = entity.version
WHERE entity.state IS DISTINCT FROM CAST(last.state AS jsonb)
ORDER BY entity.machine, entity.id
LIMIT :limit;

-- Find out whether the schema is there, with or without tables.
-- name: has_namespace
SELECT count(*) > 0 FROM pg_namespace WHERE nspname = :schema;

-- Let no other migration of the schema begin in this session, unless there is one.
-- name: try_to_migrate
SELECT pg_try_advisory_lock(:key);

-- Begin a migration; it waits in the queue of a lock, where it holds up others, for a short time.
-- name: begin_migration
BEGIN;
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = 0;

-- Begin a migration that is no transaction; it takes no lock that others would have to wait for.
-- name: begin_alone
SET lock_timeout = 0;
SET statement_timeout = 0;

-- Make the schema.
-- name: create_schema
CREATE SCHEMA holdfast;

-- Record which migrations were applied, and the oldest code that may still run on the result.
-- name: create_migration_table
CREATE TABLE holdfast.migration (
    number integer PRIMARY KEY,
    name text NOT NULL,
    oldest_code integer NOT NULL,
    applied_at text NOT NULL
);

-- Read the newest migration applied, and the oldest code that may run on it.
-- name: schema_version
SELECT coalesce(max(number), 0), coalesce(max(oldest_code), 0) FROM holdfast.migration;

-- Read what tells a store from others: its database, its tables, and when they were made.
-- name: identity
SELECT concat_ws(' ', pg_database.oid, migration.tableoid, applied_at)
FROM holdfast.migration JOIN pg_database ON datname = current_database()
WHERE number = 1;

-- Record a migration as applied.
-- name: record_migration
INSERT INTO holdfast.migration (number, name, oldest_code, applied_at)
VALUES (:number, :name, :oldest_code, holdfast.utc_now());

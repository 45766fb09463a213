-- Read one entity.
-- name: load
SELECT machine, id, version, state_type, state, schema_version, created_at, updated_at,
    entered_version, digest
FROM entity
WHERE machine = :machine AND id = :id;

-- Read the version of an entity, and whether it is deleted.
-- name: load_version
SELECT version, state_type IS NULL AS deleted
FROM entity
WHERE machine = :machine AND id = :id;

-- Read many entities, given as a JSON array of [machine, id].
-- name: load_many
SELECT machine, id, version, state_type, state, schema_version, created_at, updated_at,
    entered_version, digest
FROM (
    SELECT json_extract(value, '$[0]') AS wanted_machine, json_extract(value, '$[1]') AS wanted_id
    FROM json_each(:wanted)
)
CROSS JOIN entity ON machine = wanted_machine AND id = wanted_id;

-- Read what an idempotency key of an entity made.
-- name: load_key
SELECT seq, machine, id, version, kind, from_type, to_type, command_type, command, events, state,
    command_schema_version, state_schema_version, metadata, key, token, at, recorded_at, digest
FROM transition
WHERE machine = :machine AND id = :id AND key = :key;

-- Read the token of a version.
-- name: load_token
SELECT token FROM transition WHERE machine = :machine AND id = :id AND version = :version;

-- Read when the life began that a version belongs to, and the state before that version.
-- name: load_origin
SELECT
    (
        SELECT at FROM transition
        WHERE machine = :machine AND id = :id AND version <= :version
            AND from_type IS NULL AND to_type IS NOT NULL
        ORDER BY version DESC LIMIT 1
    ) AS created_at,
    (
        SELECT state FROM transition
        WHERE machine = :machine AND id = :id AND version = :version - 1
    ) AS previous_state;

-- Write an entity that has no row; no row is written where there is one.
-- name: insert_entity
INSERT INTO entity (machine, id, version, state_type, state, schema_version, created_at,
    updated_at, entered_version, digest)
VALUES (:machine, :id, :version, :state_type, :state, :schema_version, :created_at, :updated_at,
    :entered_version, :digest)
ON CONFLICT DO NOTHING;

-- Write an entity's new row over the version that was decided on; what was pending lapses.
-- name: update_entity
UPDATE entity
SET version = :version, state_type = :state_type, state = :state,
    schema_version = :schema_version, created_at = :created_at, updated_at = :updated_at,
    entered_version = :entered_version, digest = :digest, deadline_at = NULL, effect_at = NULL,
    lease_until = NULL, wake_at = NULL, attempts = 0, last_error = NULL
WHERE machine = :machine AND id = :id AND version = :expected;

-- Append a transition to the log.
-- name: insert_transition
INSERT INTO transition (machine, id, version, kind, from_type, to_type, command_type, command,
    events, state, command_schema_version, state_schema_version, metadata, key, token, at,
    recorded_at, digest)
VALUES (:machine, :id, :version, :kind, :from_type, :to_type, :command_type, :command, :events,
    :state, :command_schema_version, :state_schema_version, :metadata, :key, :token, :at,
    :recorded_at, :digest);

-- Let this transaction erase an entity's payloads.
-- name: begin_purge
INSERT INTO purging (machine, id) VALUES (:machine, :id);

-- Turn an entity's transitions up to a version into stubs.
-- name: purge
UPDATE transition
SET kind = 'purged', from_type = NULL, to_type = NULL, command_type = NULL, command = NULL,
    events = NULL, state = NULL, metadata = NULL
WHERE machine = :machine AND id = :id AND version <= :version AND kind <> 'purged';

-- Close the log to changes again.
-- name: end_purge
DELETE FROM purging WHERE machine = :machine AND id = :id;

-- Read an entity's transitions in order.
-- name: history
SELECT seq, machine, id, version, kind, from_type, to_type, command_type, command, events, state,
    command_schema_version, state_schema_version, metadata, key, token, at, recorded_at, digest
FROM transition
WHERE machine = :machine AND id = :id AND version > :after
ORDER BY version
LIMIT :limit;

-- Read the transition that made a version.
-- name: transition_at_version
SELECT seq, machine, id, version, kind, from_type, to_type, command_type, command, events, state,
    command_schema_version, state_schema_version, metadata, key, token, at, recorded_at, digest
FROM transition
WHERE machine = :machine AND id = :id AND version = :version;

-- Read when a version was made.
-- name: load_at
SELECT at FROM transition WHERE machine = :machine AND id = :id AND version = :version;

-- Read live entities by id.
-- name: find
SELECT machine, id, version, state_type, state, schema_version, created_at, updated_at,
    entered_version, digest
FROM entity
WHERE machine = :machine AND id > :after AND state_type IS NOT NULL
ORDER BY id
LIMIT :limit;

-- Read live entities by id that are in a state.
-- name: find_in_state
SELECT machine, id, version, state_type, state, schema_version, created_at, updated_at,
    entered_version, digest
FROM entity
WHERE machine = :machine AND state_type = :state_type AND id > :after
ORDER BY id
LIMIT :limit;

-- Count live entities by state.
-- name: count
SELECT state_type, count(*)
FROM entity
WHERE machine = :machine AND state_type IS NOT NULL
GROUP BY state_type
ORDER BY state_type;

-- Read the rows of all entities, deleted ones included, by machine and id.
-- name: entities
SELECT machine, id, version, state_type, state, schema_version, created_at, updated_at,
    entered_version, digest
FROM entity
WHERE (machine, id) > (:machine, :id)
ORDER BY machine, id
LIMIT :limit;

-- Read the log in order.
-- name: read_log
SELECT seq, machine, id, version, kind, from_type, to_type, command_type, command, events, state,
    command_schema_version, state_schema_version, metadata, key, token, at, recorded_at, digest
FROM transition
WHERE seq > :after
ORDER BY seq
LIMIT :limit;

-- Read how far a named reader came.
-- name: load_checkpoint
SELECT position FROM checkpoint WHERE name = :name;

-- Write how far a named reader came.
-- name: save_checkpoint
INSERT INTO checkpoint (name, position, updated_at)
VALUES (:name, :position, :updated_at)
ON CONFLICT (name) DO UPDATE SET position = excluded.position, updated_at = excluded.updated_at;

-- Find out whether the schema has been set up.
-- name: has_schema
SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'migration';

-- Find out whether the file is a store, without relying on what its tables look like.
-- name: is_store
SELECT count(*) = 3 FROM sqlite_master
WHERE type = 'table' AND name IN ('entity', 'transition', 'migration');

-- Read what the schema is made of.
-- name: definitions
SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT GLOB 'sqlite_*';

-- Read the last position that was given out, and the last one in the log; nothing takes one back.
-- name: last_positions
SELECT
    coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'transition'), 0) AS given,
    coalesce((SELECT max(seq) FROM transition), 0) AS last;

-- Count the permits to purge; outside of a purge there is none.
-- name: permits
SELECT count(*) FROM purging;

-- Record which migrations were applied, and the oldest code that may still run on the result.
-- name: create_migration_table
CREATE TABLE migration (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    oldest_code INTEGER NOT NULL,
    applied_at TEXT NOT NULL
) STRICT;

-- Read the newest migration applied, and the oldest code that may run on it.
-- name: schema_version
SELECT coalesce(max(number), 0), coalesce(max(oldest_code), 0) FROM migration;

-- Record a migration as applied.
-- name: record_migration
INSERT INTO migration (number, name, oldest_code, applied_at)
VALUES (:number, :name, :oldest_code, :applied_at);

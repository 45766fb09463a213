-- What Django reads: times as it writes them, and no payloads.
CREATE VIEW holdfast_entity AS
SELECT
    machine, id AS entity_id, version, state_type AS state,
    replace(rtrim(created_at, 'Z'), 'T', ' ') AS created_at,
    replace(rtrim(updated_at, 'Z'), 'T', ' ') AS updated_at
FROM entity;

CREATE VIEW holdfast_transition AS
SELECT
    seq, machine, id AS entity_id, version, kind, from_type AS from_state, to_type AS to_state,
    command_type, metadata, key,
    replace(rtrim(at, 'Z'), 'T', ' ') AS at,
    replace(rtrim(recorded_at, 'Z'), 'T', ' ') AS recorded_at
FROM transition;

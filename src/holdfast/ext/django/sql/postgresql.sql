-- What Django reads: times with their zone, and no payloads. Version 0 is no entity's.
CREATE VIEW holdfast_entity AS
SELECT
    machine, id AS entity_id, version, state_type AS state,
    CAST(created_at AS timestamptz) AS created_at,
    CAST(updated_at AS timestamptz) AS updated_at
FROM holdfast.entity
WHERE version > 0;

CREATE VIEW holdfast_transition AS
SELECT
    seq, machine, id AS entity_id, version, kind, from_type AS from_state, to_type AS to_state,
    command_type, CAST(metadata AS jsonb) AS metadata, key,
    CAST(at AS timestamptz) AS at,
    CAST(recorded_at AS timestamptz) AS recorded_at
FROM holdfast.transition;

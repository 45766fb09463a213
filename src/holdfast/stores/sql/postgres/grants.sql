-- Give the roles their rights on the tables, where there are such roles. Runs with every migration;
-- run it by hand, as the owner of the schema, where the roles were made later.
DO $$
BEGIN
    IF to_regrole('holdfast_viewer') IS NOT NULL THEN
        GRANT USAGE ON SCHEMA holdfast TO holdfast_viewer;
        GRANT SELECT ON ALL TABLES IN SCHEMA holdfast TO holdfast_viewer;
        GRANT EXECUTE ON FUNCTION holdfast.number_log(integer) TO holdfast_viewer;
    END IF;
    IF to_regrole('holdfast_application') IS NOT NULL THEN
        GRANT USAGE ON SCHEMA holdfast TO holdfast_application;
        GRANT SELECT ON ALL TABLES IN SCHEMA holdfast TO holdfast_application;
        GRANT EXECUTE ON FUNCTION holdfast.number_log(integer) TO holdfast_application;
        -- The trigger lets it delete the places that it held for absent entities, and no entity.
        GRANT INSERT, UPDATE, DELETE ON holdfast.entity TO holdfast_application;
        -- Without seq, which is drawn. The trigger lets it update what it purges, and no more.
        GRANT INSERT (machine, id, version, kind, from_type, to_type, command_type, command, events,
            state, command_schema_version, state_schema_version, metadata, key, token, at,
            recorded_at, digest) ON holdfast.transition TO holdfast_application;
        GRANT UPDATE (kind, from_type, to_type, command_type, command, events, state, metadata)
            ON holdfast.transition TO holdfast_application;
        GRANT INSERT (machine, id), DELETE ON holdfast.purging TO holdfast_application;
        GRANT INSERT, UPDATE ON holdfast.checkpoint TO holdfast_application;
    END IF;
END
$$;

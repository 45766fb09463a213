-- The roles of a store, made once a server by an administrator, before `holdfast migrate`, which
-- gives them their rights on the tables. Nobody logs in as one of them; accounts are granted them:
--
--     GRANT holdfast_application TO shop;
--     GRANT holdfast_viewer TO reporting;
--     GRANT holdfast_migrator TO deploy;
--     GRANT CREATE ON DATABASE shop TO holdfast_migrator;
--     ALTER ROLE deploy SET role = holdfast_migrator; -- so that it owns what deploy makes
DO $$
BEGIN
    -- Reads and writes entities, and appends to the log; changes neither the log nor any table.
    IF to_regrole('holdfast_application') IS NULL THEN
        CREATE ROLE holdfast_application NOLOGIN;
    END IF;
    -- Reads everything, and writes nothing.
    IF to_regrole('holdfast_viewer') IS NULL THEN
        CREATE ROLE holdfast_viewer NOLOGIN;
    END IF;
    -- Makes the schema, owns it and migrates it.
    IF to_regrole('holdfast_migrator') IS NULL THEN
        CREATE ROLE holdfast_migrator NOLOGIN;
    END IF;
END
$$;

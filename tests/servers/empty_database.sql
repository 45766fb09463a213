-- What a test left in its database goes: connections first, since they may hold locks.
SET lock_timeout = '10s';

SELECT pg_terminate_backend(pid, 5000)
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid();

-- Every schema of a test goes, and `public` comes back as a new database has it.
DO $$
DECLARE
    used text;
BEGIN
    FOR used IN
        SELECT nspname FROM pg_namespace
        WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema'
    LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', used);
    END LOOP;
    CREATE SCHEMA public AUTHORIZATION pg_database_owner;
    GRANT USAGE ON SCHEMA public TO PUBLIC;
END
$$;

-- Settings and rights on the database go back to what a new one has.
DO $$
DECLARE
    used record;
BEGIN
    FOR used IN
        SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC'
            ELSE quote_ident(pg_get_userbyid(grantee)) END AS grantee
        FROM pg_database, aclexplode(datacl)
        WHERE datname = current_database()
    LOOP
        EXECUTE format('REVOKE ALL ON DATABASE %I FROM %s', current_database(), used.grantee);
    END LOOP;
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO PUBLIC', current_database());
    EXECUTE format('GRANT ALL ON DATABASE %I TO %I', current_database(), current_user);
    FOR used IN
        SELECT pg_get_userbyid(setrole) AS name
        FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase
        WHERE datname = current_database() AND setrole <> 0
    LOOP
        EXECUTE format('ALTER ROLE %I IN DATABASE %I RESET ALL', used.name, current_database());
    END LOOP;
    EXECUTE format('ALTER DATABASE %I RESET ALL', current_database());
END
$$;

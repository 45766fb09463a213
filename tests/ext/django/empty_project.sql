-- Empties all tables but those that `migrate` fills; the log is emptied as only a superuser can.
DO $$
DECLARE
    tables text;
BEGIN
    SET LOCAL session_replication_role = replica;
    SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') INTO tables
    FROM pg_tables
    WHERE schemaname IN ('public', 'holdfast')
        AND tablename NOT IN (
            'django_migrations', 'django_content_type', 'auth_permission', 'migration'
        );
    EXECUTE 'TRUNCATE ' || tables;
    INSERT INTO holdfast.log_head DEFAULT VALUES;
END
$$;

-- What tells a used database from a new one.
SELECT 'schema', nspname, CAST(nspacl AS text) FROM pg_namespace
WHERE nspname NOT LIKE 'pg\_t%'
UNION ALL SELECT 'right', CAST(grantee AS text), privilege_type
FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))
WHERE datname = current_database()
UNION ALL SELECT 'setting', CAST(setrole AS text), CAST(setconfig AS text) FROM pg_db_role_setting
WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
UNION ALL SELECT 'prepared transaction', gid, NULL FROM pg_prepared_xacts
WHERE database = current_database()
UNION ALL SELECT 'default rights', CAST(defaclrole AS text), CAST(defaclacl AS text)
FROM pg_default_acl
UNION ALL SELECT 'extension', extname, NULL FROM pg_extension
UNION ALL SELECT 'event trigger', evtname, NULL FROM pg_event_trigger
UNION ALL SELECT 'publication', pubname, NULL FROM pg_publication
UNION ALL SELECT 'large object', CAST(oid AS text), NULL FROM pg_largeobject_metadata
UNION ALL SELECT 'foreign server', srvname, NULL FROM pg_foreign_server
UNION ALL SELECT 'relation', relname, NULL FROM pg_class
WHERE oid >= 16384
UNION ALL SELECT 'function', proname, NULL FROM pg_proc
WHERE oid >= 16384
UNION ALL SELECT 'cast', CAST(castsource AS text), NULL FROM pg_cast
WHERE oid >= 16384
ORDER BY 1, 2, 3;

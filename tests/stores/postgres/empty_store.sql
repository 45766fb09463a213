-- What a test wrote into a store goes, and the tables stay: making them takes far longer. Sessions
-- that it left go first, since they may hold locks; triggers refuse what follows.
SET lock_timeout = '10s';

SELECT pg_terminate_backend(pid, 5000)
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid();

SET session_replication_role = replica;

DELETE FROM holdfast.entity;
DELETE FROM holdfast.transition;
DELETE FROM holdfast.feed;
DELETE FROM holdfast.checkpoint;
DELETE FROM holdfast.purging;

UPDATE holdfast.log_head SET position = 0, seen = 0, missing = '{}', missing_since = '{}';

SELECT setval(pg_get_serial_sequence('holdfast.transition', 'seq'), 1, false);

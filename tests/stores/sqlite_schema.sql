CREATE INDEX entity_by_state ON entity (machine, state_type);
CREATE INDEX entity_by_wake_at ON entity (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX transition_by_birth ON transition (machine, id, version)
WHERE from_type IS NULL AND to_type IS NOT NULL;
CREATE UNIQUE INDEX transition_by_key ON transition (machine, id, key) WHERE key IS NOT NULL;
CREATE TABLE checkpoint (
    name TEXT NOT NULL PRIMARY KEY,
    position INTEGER NOT NULL,
    updated_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE entity (
    machine TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    state_type TEXT,
    state TEXT,
    schema_version INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    entered_version INTEGER NOT NULL,
    deadline_at TEXT,
    effect_at TEXT,
    lease_until TEXT,
    wake_at TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    digest TEXT NOT NULL,
    PRIMARY KEY (machine, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE migration (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    oldest_code INTEGER NOT NULL,
    applied_at TEXT NOT NULL
) STRICT;
CREATE TABLE purging (
    machine TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (machine, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE sqlite_sequence(name,seq);
CREATE TABLE transition (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    machine TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('command', 'deletion', 'staged', 'purged')),
    from_type TEXT,
    to_type TEXT,
    command_type TEXT,
    command TEXT,
    events TEXT,
    state TEXT,
    command_schema_version INTEGER,
    state_schema_version INTEGER,
    metadata TEXT,
    key TEXT,
    token TEXT,
    at TEXT NOT NULL,
    recorded_at TEXT NOT NULL,
    digest TEXT NOT NULL,
    UNIQUE (machine, id, version)
) STRICT;
CREATE TRIGGER transition_is_not_deleted BEFORE DELETE ON transition
BEGIN
    SELECT RAISE(ABORT, 'the log is append-only: transitions are not deleted');
END;
CREATE TRIGGER transition_is_not_replaced BEFORE INSERT ON transition
WHEN EXISTS (
    SELECT 1 FROM transition
    WHERE machine = NEW.machine AND id = NEW.id AND version = NEW.version
) OR EXISTS (
    SELECT 1 FROM transition WHERE seq = NEW.seq
) OR (
    NEW.key IS NOT NULL AND EXISTS (
        SELECT 1 FROM transition
        WHERE machine = NEW.machine AND id = NEW.id AND key = NEW.key
    )
)
BEGIN
    SELECT RAISE(ABORT, 'the log is append-only: this transition exists already');
END;
CREATE TRIGGER transition_is_not_updated BEFORE UPDATE ON transition
WHEN NOT (
    EXISTS (SELECT 1 FROM purging WHERE machine = OLD.machine AND id = OLD.id)
    AND NEW.kind = 'purged'
    AND NEW.seq = OLD.seq
    AND NEW.machine = OLD.machine
    AND NEW.id = OLD.id
    AND NEW.version = OLD.version
    AND NEW.command_schema_version IS OLD.command_schema_version
    AND NEW.state_schema_version IS OLD.state_schema_version
    AND NEW.key IS OLD.key
    AND NEW.token IS OLD.token
    AND NEW.at = OLD.at
    AND NEW.recorded_at = OLD.recorded_at
    AND NEW.digest = OLD.digest
    AND coalesce(
        NEW.from_type, NEW.to_type, NEW.command_type, NEW.command, NEW.events, NEW.state,
        NEW.metadata
    ) IS NULL
)
BEGIN
    SELECT RAISE(ABORT, 'the log is append-only: transitions are not changed');
END;

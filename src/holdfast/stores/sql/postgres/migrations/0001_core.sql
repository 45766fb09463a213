-- oldest-code: 1

-- Times are text, here as in SQLite: the digests cover them to the byte, and UTC with six digits
-- sorts as text. Texts that are compared are compared by their bytes.

-- The current state of each entity: one row an entity, which stays as a tombstone (state_type
-- NULL) after a deletion so that versions go on rising. jsonb serves queries; it keeps neither
-- spelling nor order, so whoever reads the state itself reads entity_row.
CREATE TABLE holdfast.entity (
    machine text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    state_type text COLLATE "C",
    state jsonb,
    schema_version integer NOT NULL,
    created_at text COLLATE "C" NOT NULL,
    updated_at text COLLATE "C" NOT NULL,
    entered_version bigint NOT NULL,
    deadline_at text COLLATE "C",
    effect_at text COLLATE "C",
    lease_until text COLLATE "C",
    wake_at text COLLATE "C",
    attempts bigint NOT NULL DEFAULT 0,
    last_error text,
    digest text COLLATE "C" NOT NULL,
    PRIMARY KEY (machine, id)
) WITH (fillfactor = 85);

CREATE INDEX entity_by_state ON holdfast.entity (machine, state_type, id)
WHERE state_type IS NOT NULL;

CREATE INDEX entity_by_wake_at ON holdfast.entity (wake_at) WHERE wake_at IS NOT NULL;

-- The log: one row a transition, appended only; json keeps payloads to the byte. `seq` is drawn
-- while the entity's row is locked, and commits out of order: readers go by `feed`.
CREATE TABLE holdfast.transition (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    machine text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    kind text COLLATE "C" NOT NULL
        CONSTRAINT transition_kind CHECK (kind IN ('command', 'deletion', 'staged', 'purged')),
    from_type text COLLATE "C",
    to_type text COLLATE "C",
    command_type text COLLATE "C",
    command json,
    events json,
    state json,
    command_schema_version integer,
    state_schema_version integer,
    metadata json,
    key text COLLATE "C",
    token text COLLATE "C",
    at text COLLATE "C" NOT NULL,
    recorded_at text COLLATE "C" NOT NULL,
    digest text COLLATE "C" NOT NULL,
    CONSTRAINT transition_by_version UNIQUE (machine, id, version)
);

CREATE UNIQUE INDEX transition_by_key ON holdfast.transition (machine, id, key)
WHERE key IS NOT NULL;

-- Where lives begin: the transitions that create an entity.
CREATE INDEX transition_by_birth ON holdfast.transition (machine, id, version)
WHERE from_type IS NULL AND to_type IS NOT NULL;

-- The order of the log as readers number it: positions without gaps, each given once.
CREATE TABLE holdfast.feed (
    position bigint PRIMARY KEY,
    seq bigint NOT NULL CONSTRAINT feed_by_seq UNIQUE
);

-- How far the log is numbered: the last position given, the highest seq looked at, and which below
-- it were not there yet, each range with a transaction that began after they were drawn.
CREATE TABLE holdfast.log_head (
    one boolean PRIMARY KEY DEFAULT true CONSTRAINT log_head_is_one CHECK (one),
    position bigint NOT NULL DEFAULT 0,
    seen bigint NOT NULL DEFAULT 0,
    missing int8range[] NOT NULL DEFAULT '{}',
    missing_since xid8[] NOT NULL DEFAULT '{}'
);

INSERT INTO holdfast.log_head DEFAULT VALUES;

-- How far named readers came.
CREATE TABLE holdfast.checkpoint (
    name text COLLATE "C" PRIMARY KEY,
    position bigint NOT NULL,
    updated_at text COLLATE "C" NOT NULL
);

-- The entities whose payloads a purge may erase, within its transaction.
CREATE TABLE holdfast.purging (
    machine text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (machine, id)
);

-- An entity as it is loaded, its state as it was written.
CREATE VIEW holdfast.entity_row AS
SELECT machine, id, version, state_type,
    (
        SELECT CAST(last.state AS text) FROM holdfast.transition AS last
        WHERE last.machine = entity.machine AND last.id = entity.id
            AND last.version = entity.version
    ) AS state,
    schema_version, created_at, updated_at, entered_version, digest
FROM holdfast.entity;

-- A transition as it is read. Its position is 0 until a reader has numbered it.
CREATE VIEW holdfast.log_row AS
SELECT
    coalesce((SELECT feed.position FROM holdfast.feed WHERE feed.seq = entry.seq), 0) AS position,
    machine, id, version, kind, from_type, to_type, command_type,
    CAST(command AS text) AS command, CAST(events AS text) AS events,
    CAST(state AS text) AS state, command_schema_version, state_schema_version,
    CAST(metadata AS text) AS metadata, key, token, at, recorded_at, digest,
    coalesce(
        (
            SELECT origin.at FROM holdfast.transition AS origin
            WHERE origin.machine = entry.machine AND origin.id = entry.id
                AND origin.version <= entry.version
                AND origin.from_type IS NULL AND origin.to_type IS NOT NULL
            ORDER BY origin.version DESC LIMIT 1
        ),
        at
    ) AS created_at,
    (
        SELECT CAST(previous.state AS text) FROM holdfast.transition AS previous
        WHERE previous.machine = entry.machine AND previous.id = entry.id
            AND previous.version = entry.version - 1
    ) AS previous_state
FROM holdfast.transition AS entry;

-- The time of the database, as it is stored.
CREATE FUNCTION holdfast.utc_now() RETURNS text
LANGUAGE sql STABLE
AS $$
    SELECT to_char(statement_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

-- Number what was committed since, by seq, at most so many transitions; returns how many it were.
--
-- A seq that is not there may be that of a transaction which commits later, so it is looked for
-- again as long as one lives that can have drawn it. That one had its own number (xid8) before it
-- drew a seq, and it drew before the snapshot was taken in which a higher seq is seen. So its
-- number is below one that is given after that snapshot: the number of this transaction, which
-- therefore may have none yet. To lock the row of log_head would give it one too early; to lock
-- the table does not.
CREATE FUNCTION holdfast.number_log(most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    count bigint;
BEGIN
    IF pg_current_xact_id_if_assigned() IS NOT NULL THEN
        RAISE EXCEPTION 'the log is numbered in a transaction of its own';
    END IF;
    LOCK TABLE holdfast.log_head IN SHARE ROW EXCLUSIVE MODE;
    WITH head AS MATERIALIZED (
        SELECT position, seen, missing, missing_since FROM holdfast.log_head
    ),
    unread AS MATERIALIZED (
        SELECT gap.seqs, gap.since
        FROM head CROSS JOIN unnest(head.missing, head.missing_since) AS gap (seqs, since)
        UNION ALL
        SELECT int8range(head.seen + 1, NULL), NULL FROM head
    ),
    due AS MATERIALIZED (
        SELECT entry.seq, unread.seqs
        FROM unread CROSS JOIN LATERAL (
            SELECT transition.seq FROM holdfast.transition
            WHERE transition.seq >= lower(unread.seqs)
                AND transition.seq < coalesce(upper(unread.seqs), 9223372036854775807)
            ORDER BY transition.seq
            LIMIT most
        ) AS entry
        ORDER BY entry.seq
        LIMIT most
    ),
    numbered AS (
        INSERT INTO holdfast.feed (position, seq)
        SELECT head.position + row_number() OVER (ORDER BY due.seq), due.seq
        FROM head CROSS JOIN due
        ORDER BY due.seq
    ),
    reached AS MATERIALIZED (
        SELECT count(due.seq) AS count, greatest(head.seen, max(due.seq)) AS seen
        FROM head LEFT JOIN due ON true
        GROUP BY head.seen
    ),
    still_missing AS MATERIALIZED (
        SELECT
            unnest(
                int8multirange(unread.seqs * int8range(NULL, reached.seen + 1))
                - coalesce(found.seqs, '{}')
            ) AS seqs,
            coalesce(unread.since, pg_current_xact_id()) AS since
        FROM unread
        CROSS JOIN reached
        LEFT JOIN (
            SELECT due.seqs AS within, range_agg(int8range(due.seq, due.seq, '[]')) AS seqs
            FROM due
            GROUP BY due.seqs
        ) AS found ON found.within = unread.seqs
        WHERE unread.since IS NULL
            OR reached.count = most -- perhaps there is more in it
            OR unread.since > pg_snapshot_xmin(pg_current_snapshot())
                AND unread.since < pg_snapshot_xmax(pg_current_snapshot())
    ),
    moved AS (
        UPDATE holdfast.log_head AS stored
        SET position = stored.position + reached.count, seen = reached.seen,
            missing = coalesce((SELECT array_agg(seqs ORDER BY seqs) FROM still_missing), '{}'),
            missing_since = coalesce((SELECT array_agg(since ORDER BY seqs) FROM still_missing), '{}')
        FROM reached
    )
    SELECT reached.count INTO count FROM reached;
    RETURN count;
END
$$;

REVOKE ALL ON FUNCTION holdfast.number_log(integer) FROM PUBLIC;

CREATE FUNCTION holdfast.refuse() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'the % is append-only: nothing is % there', TG_ARGV[0], TG_ARGV[1];
END
$$;

-- A purge turns a row into a stub; nothing else updates the log.
CREATE FUNCTION holdfast.allow_purge() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NEW.kind = 'purged'
        AND num_nonnulls(
            NEW.from_type, NEW.to_type, NEW.command_type, NEW.command, NEW.events, NEW.state,
            NEW.metadata
        ) = 0
        AND ROW (
            NEW.seq, NEW.machine, NEW.id, NEW.version, NEW.command_schema_version,
            NEW.state_schema_version, NEW.key, NEW.token, NEW.at, NEW.recorded_at, NEW.digest
        ) IS NOT DISTINCT FROM ROW (
            OLD.seq, OLD.machine, OLD.id, OLD.version, OLD.command_schema_version,
            OLD.state_schema_version, OLD.key, OLD.token, OLD.at, OLD.recorded_at, OLD.digest
        )
        AND EXISTS (
            SELECT FROM holdfast.purging
            WHERE purging.machine = OLD.machine AND purging.id = OLD.id
                AND purging.transaction = pg_current_xact_id()
        )
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'the log is append-only: nothing is changed there';
END
$$;

CREATE TRIGGER transition_is_not_updated BEFORE UPDATE ON holdfast.transition
FOR EACH ROW EXECUTE FUNCTION holdfast.allow_purge();

CREATE TRIGGER transition_is_not_deleted BEFORE DELETE ON holdfast.transition
FOR EACH ROW EXECUTE FUNCTION holdfast.refuse('log', 'deleted');

CREATE TRIGGER transition_is_not_truncated BEFORE TRUNCATE ON holdfast.transition
FOR EACH STATEMENT EXECUTE FUNCTION holdfast.refuse('log', 'deleted');

CREATE TRIGGER feed_is_not_updated BEFORE UPDATE ON holdfast.feed
FOR EACH ROW EXECUTE FUNCTION holdfast.refuse('feed', 'changed');

CREATE TRIGGER feed_is_not_deleted BEFORE DELETE ON holdfast.feed
FOR EACH ROW EXECUTE FUNCTION holdfast.refuse('feed', 'deleted');

CREATE TRIGGER feed_is_not_truncated BEFORE TRUNCATE ON holdfast.feed
FOR EACH STATEMENT EXECUTE FUNCTION holdfast.refuse('feed', 'deleted');

CREATE TRIGGER log_head_is_not_deleted BEFORE DELETE ON holdfast.log_head
FOR EACH ROW EXECUTE FUNCTION holdfast.refuse('log head', 'deleted');

CREATE TRIGGER log_head_is_not_truncated BEFORE TRUNCATE ON holdfast.log_head
FOR EACH STATEMENT EXECUTE FUNCTION holdfast.refuse('log head', 'deleted');

-- Version 0 is that of a row which holds the place of an absent entity while a commit checks it.
CREATE TRIGGER entity_is_not_deleted BEFORE DELETE ON holdfast.entity
FOR EACH ROW WHEN (OLD.version > 0) EXECUTE FUNCTION holdfast.refuse('entity table', 'deleted');

CREATE TRIGGER entity_is_not_truncated BEFORE TRUNCATE ON holdfast.entity
FOR EACH STATEMENT EXECUTE FUNCTION holdfast.refuse('entity table', 'deleted');

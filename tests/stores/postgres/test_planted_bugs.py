"""The tests of the PostgreSQL store can fail: with each of these bugs planted, some test does."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conftest import DSN
from tests.servers.databases import Server
from tests.stores.test_planted_bugs import ROOT, Bug, copy_of_the_source, run_tests

QUERIES = "stores/sql/postgres/queries.sql"
CORE = "stores/sql/postgres/migrations/0001_core.sql"
GRANTS = "stores/sql/postgres/grants.sql"
WRITING = "stores/postgres/writing.py"
MIGRATIONS = "stores/postgres/migrations.py"

CONFORMANCE = "test_conformance.py::TestPostgres::"
CONFLICTS = "postgres/test_conflicts.py::"
LOST = "postgres/test_lost_answers.py::"
FEED = "postgres/test_feed.py::"
ROLES = "postgres/test_roles.py::"
LIFECYCLE = "postgres/test_lifecycle.py::"

BUGS = {
    "what is not there is written over": Bug(
        WRITING,
        "end = (str(write.expected), ",
        "end = (str(0 if write.expected == 1 else write.expected), ",
        f"{CONFORMANCE}test_a_write_over_nothing_is_a_conflict",
    ),
    "a write looks at the version before it waits, and not after": Bug(
        QUERIES,
        "WHERE stored.version = excluded.attempts",
        "WHERE stored.version >= excluded.attempts",
        f"{CONFLICTS}test_a_creation_waits_for_another_one",
    ),
    "a write waits for a row": Bug(
        QUERIES, " SKIP LOCKED", "", f"{CONFLICTS}test_a_locked_row_holds_up_itself_only"
    ),
    "a locked row counts as a conflict": Bug(
        "stores/postgres/store.py",
        "if not outcome.applied and outcome.version == write.expected",
        "if outcome.version < 0",
        f"{CONFLICTS}test_a_locked_row_holds_up_no_other_thread",
    ),
    "rows are locked as they come": Bug(
        WRITING,
        "sorted(set(names) - held.keys())",
        "[name for name in names if name not in held]",
        f"{CONFLICTS}test_rows_are_locked_in_the_order_of_their_keys",
    ),
    "a check does not hold its row": Bug(
        WRITING,
        "    names += [(check.machine, check.id) for check in batch.checks]\n"
        "    held: dict[Name, Held] = {}\n",
        "    held: dict[Name, Held] = {}\n"
        "    checked = [(check.machine, check.id) for check in batch.checks]\n"
        "    rows = yield _ask_for(sql, 'load_many', checked)\n"
        "    held.update({name: Held(row[3] or 0, False) for name, row in zip(checked, rows)})\n",
        f"{CONFLICTS}test_a_check_holds_what_it_looked_at",
    ),
    "a deadlock is told, and not tried again": Bug(
        "stores/postgres/errors.py",
        '_IN_THE_WAY = ("40001", "40P01", "55P03")',
        '_IN_THE_WAY = ("40001", "55P03")',
        f"{CONFLICTS}test_a_deadlock_is_tried_again",
    ),
    "places that were held are left behind": Bug(
        WRITING,
        "    yield from _release(sql, held, due)\n",
        "",
        f"{CONFLICTS}test_what_held_a_place_is_gone",
    ),
    "a lost answer counts as nothing written": Bug(
        WRITING,
        "entries, is_commit=True",
        "entries",
        f"{LOST}test_the_store_says_that_it_does_not_know",
    ),
    "a lost COMMIT counts as nothing written": Bug(
        "stores/postgres/statements.py",
        'Ask(b"COMMIT", is_commit=True, is_control=True)',
        'Ask(b"COMMIT", is_control=True)',
        f"{LOST}test_a_transaction_happens_once",
    ),
    "any write at the version counts as one's own": Bug(
        WRITING,
        "and token == write.log[0].token",
        "and write.log[0].token is not None",
        f"{CONFORMANCE}test_another_token_is_a_conflict",
    ),
    "a write that was stored is not recognised": Bug(
        WRITING,
        "and token == write.log[0].token",
        "and token is write.log[0]",
        f"{LOST}test_the_store_says_that_it_does_not_know",
    ),
    "a checkpoint is written in a transaction of its own": Bug(
        WRITING,
        "    yield sql.begin\n",
        "    if batch.checkpoint is not None:\n"
        "        name, position = batch.checkpoint.name, batch.checkpoint.position\n"
        "        yield sql.ask('hold_checkpoint', name=name)\n"
        "        yield sql.ask('save_checkpoint', name=name, position=position, updated_at='')\n"
        "    yield sql.begin\n",
        f"{CONFORMANCE}test_it_is_held_back_with_the_batch",
    ),
    "an atomic batch is committed all the same": Bug(
        WRITING,
        "        if settled is not None:\n"
        "            yield sql.rollback\n            return settled\n",
        "        if settled is not None and all(outcome.applied for outcome in settled):\n"
        "            yield sql.rollback\n            return settled\n",
        f"{CONFORMANCE}test_all_or_nothing_writes_nothing",
    ),
    "a session that was ended is written to": Bug(
        "stores/postgres/pool.py",
        "_is_alive(connection)",
        "bool(connection)",
        f"{LIFECYCLE}test_an_ended_session_is_not_written_to",
    ),
    "a place that an interrupt left taken stays taken": Bug(
        "stores/postgres/pool.py",
        "left_over = self._lent.pop(thread, None)",
        "left_over, self._lent[-len(self._lent)] = self._lent.get(thread), None",
        f"{LIFECYCLE}test_interrupts_leave_the_store_as_it_is",
    ),
    "what an interrupt left in the midst of a query is used again": Bug(
        "stores/postgres/pool.py",
        "        else:\n            connection.close()\n    except psycopg.Error:",
        "    except psycopg.Error:",
        f"{LIFECYCLE}test_interrupts_leave_the_store_as_it_is",
    ),
    "a child uses its parent's connections": Bug(
        "stores/postgres/connections.py",
        "        self._busy = set()\n        self._pool = None\n\n",
        "        self._busy = set()\n\n",
        f"{LIFECYCLE}test_a_child_has_connections_of_its_own",
    ),
    "an acknowledged write may be lost": Bug(
        QUERIES,
        "set_config('synchronous_commit', 'on', false)",
        "set_config('synchronous_commit', 'off', false)",
        "postgres/test_sessions.py",
    ),
    "the log is read by what was drawn": Bug(
        CORE,
        "CROSS JOIN unnest(head.missing, head.missing_since) AS gap (seqs, since)\n",
        "CROSS JOIN unnest(head.missing, head.missing_since) AS gap (seqs, since)\n"
        "        WHERE false\n",
        f"{FEED}test_commits_out_of_order_are_all_read",
    ),
    "a gap is forgotten while it can still be filled": Bug(
        CORE,
        "unread.since > pg_snapshot_xmin(pg_current_snapshot())",
        "unread.since > pg_snapshot_xmax(pg_current_snapshot())",
        f"{FEED}test_commits_out_of_order_are_all_read",
    ),
    "a gap is dated before it is noticed": Bug(
        CORE,
        "    LOCK TABLE holdfast.log_head IN SHARE ROW EXCLUSIVE MODE;\n",
        "    LOCK TABLE holdfast.log_head IN SHARE ROW EXCLUSIVE MODE;\n"
        "    PERFORM pg_current_xact_id();\n    PERFORM pg_sleep(0.5);\n",
        f"{FEED}test_a_gap_is_dated_after_it_was_noticed",
    ),
    "a gap is never forgotten": Bug(
        CORE,
        "            OR unread.since > pg_snapshot_xmin(pg_current_snapshot())\n"
        "                AND unread.since < pg_snapshot_xmax(pg_current_snapshot())\n",
        "            OR true\n",
        f"{FEED}test_what_is_rolled_back_leaves_no_gap",
    ),
    "effects are numbered before their causes": Bug(
        CORE,
        "        ORDER BY entry.seq\n        LIMIT most\n    ),",
        "        ORDER BY entry.seq DESC\n        LIMIT most\n    ),",
        f"{FEED}test_a_cause_is_read_before_its_effect",
    ),
    "the log can be changed": Bug(
        CORE,
        "    IF NEW.kind = 'purged'\n        AND num_nonnulls(",
        "    IF true OR NEW.kind = 'purged'\n        AND num_nonnulls(",
        f"{ROLES}test_nothing_is_changed",
    ),
    "a permit outlives its transaction": Bug(
        CORE,
        "                AND purging.transaction = pg_current_xact_id()\n",
        "",
        f"{ROLES}test_a_permit_ends_with_its_transaction",
    ),
    "an application may order the log": Bug(
        GRANTS,
        "GRANT INSERT (machine, id), DELETE ON holdfast.purging",
        "GRANT INSERT ON holdfast.feed TO holdfast_application;\n"
        "        GRANT INSERT (machine, id), DELETE ON holdfast.purging",
        f"{ROLES}test_what_an_application_may_not",
    ),
    "migrations run at the same time": Bug(
        MIGRATIONS,
        '    while not fetch(connection, ask, url, "migrate")[0][0]:\n',
        "    while False:\n",
        "postgres/test_migrations.py::test_several_at_once",
    ),
    "states are found by reading everything": Bug(
        CORE,
        "CREATE INDEX entity_by_state ON holdfast.entity (machine, state_type, id)\n"
        "WHERE state_type IS NOT NULL;\n",
        "",
        "postgres/test_queries.py::test_rows_are_found_by_an_index",
    ),
}  # fmt: skip


@pytest.fixture
def same_server(postgres_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the tests of the copy use the server that is running."""
    monkeypatch.setenv(DSN, postgres_server.url())


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS.keys())
def test_every_bug_can_be_planted(bug: Bug) -> None:
    """The code still reads as it did when the bug was thought of."""
    text = (ROOT / "src" / "holdfast" / bug.file).read_text("utf-8")
    assert bug.right in text, f"{bug.file} reads differently now: plant the bug anew"


@pytest.mark.soak
@pytest.mark.usefixtures("same_server")
@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS.keys())
def test_a_planted_bug_is_found(bug: Bug, tmp_path: Path) -> None:
    """The tests that hold the guarantee fail, and do not merely break."""
    source = copy_of_the_source(tmp_path)
    file = source / "holdfast" / bug.file
    text = file.read_text("utf-8")
    file.write_text(text.replace(bug.right, bug.wrong), "utf-8")
    done = run_tests(source, bug.tests)
    assert done.returncode == 1, f"{done.stdout}\n{done.stderr}"

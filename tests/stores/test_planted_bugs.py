"""The tests of the stores can fail: with each of these bugs planted in a copy, some test does.

A bug that cannot be planted any more, since the code reads differently now, is planted anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
CONFORMANCE = "test_conformance.py::TestSqliteInMemory"
SQL = "stores/sql/sqlite"


class Bug(NamedTuple):
    """A change of the source that some test must notice."""

    file: str
    right: str
    wrong: str
    tests: str = CONFORMANCE


BUGS = {
    "an update does not look at the version": Bug(
        f"{SQL}/queries.sql", "AND version = :expected;", "AND :expected = :expected;"
    ),
    "a write that was stored is not recognised": Bug(
        "stores/sqlite/statements.py", "and stored[0] == first.token", "and stored[0] is first"
    ),
    "any write at the version counts as one's own": Bug(
        "stores/sqlite/statements.py", "and stored[0] == first.token", "and first.token"
    ),
    "a conflict with a deletion looks like any other": Bug(
        "stores/sqlite/statements.py",
        "return Outcome(False, version, deleted=gone)\n\n\ndef _is_at",
        "return Outcome(False, version)\n\n\ndef _is_at",
    ),
    "a conflict is logged all the same": Bug(
        "stores/sqlite/statements.py",
        "        return _too_late(cursor, write)\n",
        "        cursor.execute(_INSERT_TRANSITION, log[0])\n"
        "        return _too_late(cursor, write)\n",
    ),
    "the entity keeps its old state": Bug(
        f"{SQL}/queries.sql",
        "state_type = :state_type, state = :state,",
        "state_type = :state_type, state = coalesce(state, :state),",
    ),
    "the log is written without the entity": Bug(
        "stores/sqlite/statements.py",
        "if cursor.execute(statement, entity).rowcount != 1:",
        "if not write.expected and cursor.execute(statement, entity).rowcount != 1:",
    ),
    "a checkpoint is written in a transaction of its own": Bug(
        "stores/sqlite/statements.py",
        "    outcomes = _write(cursor, writes, recorded_at) if",
        "    if terms.checkpoint is not None:\n"
        "        parameters = (*terms.checkpoint[:2], recorded_at)\n"
        '        cursor.execute(QUERIES["save_checkpoint"].positional, parameters)\n'
        '        cursor.execute("COMMIT")\n'
        '        cursor.execute("BEGIN")\n'
        "    outcomes = _write(cursor, writes, recorded_at) if",
    ),
    "a small batch is not held to its checkpoint": Bug(
        "service/settle.py",
        "len(decision.writes) > 1 or self.checkpoint is not None",
        "len(decision.writes) > 1",
    ),
    "a checkpoint moves from anywhere": Bug(
        "stores/outcomes.py", "due = position == (checkpoint.after or 0)", "due = position >= 0"
    ),
    "a key is looked up for any entity": Bug(
        f"{SQL}/queries.sql", "AND id = :id AND key = :key;", "AND :id = :id AND key = :key;"
    ),
    "a batch that failed is not rolled back": Bug(
        "stores/sqlite/statements.py",
        "raise KeptBack(settled)",
        "return settled",
    ),
    "the digest leaves out a column": Bug("stores/digests.py", 'row.metadata or "",', '"",'),
    "the digest leaves out what was before": Bug(
        "stores/digests.py",
        "        previous,\n        row.machine,",
        '        "",\n        row.machine,',
    ),
    "the log is not in the order of the writes": Bug(
        "stores/sqlite/statements.py",
        "rows = [row for _, _, log in bound for row in log]",
        "rows = [row for _, _, log in bound[::-1] for row in log]",
    ),
    "the log is read by entity": Bug(
        f"{SQL}/queries.sql",
        "WHERE seq > :after\nORDER BY seq",
        "WHERE seq > :after\nORDER BY id, seq",
    ),
    "ids are ordered as people would": Bug(
        f"{SQL}/queries.sql",
        "AND id > :after AND state_type IS NOT NULL\nORDER BY id",
        "AND id > :after AND state_type IS NOT NULL\nORDER BY id COLLATE NOCASE",
    ),
    "the deleted are found": Bug(
        f"{SQL}/queries.sql", "AND id > :after AND state_type IS NOT NULL", "AND id > :after"
    ),
    "the time falls with the clock": Bug(
        "stores/sqlite/statements.py", "max(now, parse_time(entity.updated_at))", "now"
    ),
    "a purge forgets the metadata": Bug(
        f"{SQL}/queries.sql",
        "events = NULL, state = NULL, metadata = NULL",
        "events = NULL, state = NULL",
    ),
    "a purge forgets the token": Bug(
        f"{SQL}/queries.sql",
        "events = NULL, state = NULL, metadata = NULL",
        "events = NULL, state = NULL, metadata = NULL, token = NULL",
    ),
    "of several purges in one commit none erases anything": Bug(
        "stores/sqlite/statements.py",
        "    if any(write.purge for write in writes):\n        return False\n",
        "",
    ),
    "the purge of a deleted entity is not recorded": Bug(
        "service/draft.py",
        "        return self._take(call, None, token, self.loaded.now)\n",
        "        record = self._take(call, None, token, self.loaded.now)\n"
        "        if self.log[-1].from_type is None:\n"
        "            self.log.pop()\n"
        "        return record\n",
    ),
    "a deletion forgets the version": Bug(
        "stores/tables.py",
        "        self.entities[name] = write.entity\n",
        "        self.entities[name] = write.entity\n"
        "        if write.entity.state is None:\n"
        "            del self.entities[name]\n"
        "            self.order.remove(name)\n",
        "test_conformance.py::TestMemory",
    ),
    "several reads are several moments": Bug(
        "stores/sqlite/statements.py",
        '    connection.execute("BEGIN")\n',
        "",
        "test_sqlite_moments.py",
    ),
    "the log can be changed": Bug(
        f"{SQL}/migrations/0001_core.sql",
        "BEFORE UPDATE ON transition\nWHEN NOT (",
        "BEFORE UPDATE ON transition\nWHEN NULL AND (",
        "test_sqlite_log.py",
    ),
    "a transition can be replaced by its key": Bug(
        f"{SQL}/migrations/0001_core.sql",
        "NEW.key IS NOT NULL AND EXISTS (",
        "NULL AND EXISTS (",
        "test_sqlite_log.py",
    ),
    "states are found by reading everything": Bug(
        f"{SQL}/migrations/0001_core.sql",
        "CREATE INDEX entity_by_state ON entity (machine, state_type);",
        "",
        "test_sqlite_queries.py",
    ),
    "connections are inherited": Bug(
        "stores/sqlite/connections.py",
        "        if not self._file.in_memory:\n            self._drop_writer()",
        "        if not self:\n            self._drop_writer()",
        "test_forks.py::test_a_forked_process_uses_the_file_as_its_parent_does"
        "[the parent closes first]",
    ),
}


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS.keys())
def test_a_planted_bug_is_found(bug: Bug, tmp_path: Path) -> None:
    """The tests that hold the guarantee fail, and do not merely break."""
    source = copy_of_the_source(tmp_path)
    file = source / "holdfast" / bug.file
    text = file.read_text("utf-8")
    assert text.count(bug.right) == 1, f"{bug.file} reads differently now: plant the bug anew"
    file.write_text(text.replace(bug.right, bug.wrong), "utf-8")
    done = run_tests(source, bug.tests)
    assert done.returncode == 1, f"{done.stdout}\n{done.stderr}"


def test_the_copy_without_a_bug_passes(tmp_path: Path) -> None:
    """So it is the bug that the tests fail for, and not the copying."""
    source = copy_of_the_source(tmp_path)
    done = run_tests(source, CONFORMANCE, "test_sqlite_moments.py")
    assert done.returncode == 0, done.stdout


def copy_of_the_source(folder: Path) -> Path:
    """Copy the package, and return the folder to import it from."""
    source = folder / "src"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "holdfast", source / "holdfast", ignore=ignored)
    return source


def run_tests(source: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests of the stores on a copy of the package, up to the first that fails."""
    config = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "--basetemp", "temp"]
    one_way = ["-k", "not Batched and not Awaited"]  # of calling a service is enough here
    options = ["-x", "-q", "-p", "no:cacheprovider", *one_way, *config]
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", *options),
            *(str(ROOT / "tests" / "stores" / name) for name in tests),
        ],
        cwd=source,
        env={
            **os.environ,
            "PYTHONPATH": str(source),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )

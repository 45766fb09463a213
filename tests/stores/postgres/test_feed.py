"""The order of the log: everything once, each entity in order, causes first, whatever is open."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from tests.servers.databases import Database
from tests.servers.postgres import PostgresServer
from tests.stores.postgres.accounts import create_accounts, migrated
from tests.stores.postgres.conftest import Open, at_once

from holdfast import open_store
from holdfast.stores.contract import LogRow, Store, Write
from holdfast.stores.postgres import feed
from holdfast.stores.postgres.drive import Connection, drive, fetch
from holdfast.stores.postgres.statements import Statements
from holdfast.stores.postgres.writing import write_free
from holdfast.testing.conformance.base import history, row_of, service_on, stored
from holdfast.testing.consistency import all_log_rows, faults
from holdfast.testing.sample import Add
from holdfast.testing.writes import write

SQL = Statements("holdfast")
HEAD = "SELECT position, seen, CAST(missing AS text) FROM holdfast.log_head"


class Writer:
    """A transaction of somebody else, which writes as a store does and stays open."""

    def __init__(self, url: str) -> None:
        self._connection = Connection.connect(url, cursor_factory=psycopg.RawCursor)

    def write(self, *writes: Write) -> None:
        if self._connection.info.transaction_status == TransactionStatus.IDLE:
            fetch(self._connection, SQL.begin, "", "write")
        outcomes = drive(write_free(SQL, writes, at_once), self._connection, "", "write")
        assert all(outcome.applied for outcome in outcomes)

    def execute(self, statement: str) -> None:
        self._connection.execute(statement.encode())

    def commit(self) -> None:
        self._connection.commit()

    def roll_back(self) -> None:
        self._connection.rollback()

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def writers(application_url: str) -> Iterator[Sequence[Writer]]:
    """Give some writers whose transactions may overlap."""
    with ExitStack() as stack:
        made = [Writer(application_url) for _ in range(4)]
        for writer in made:
            stack.callback(writer.close)
        yield made


class Reader:
    """A reader that goes on from where it was."""

    def __init__(self, store: Store, *, limit: int = 1_000) -> None:
        self._store = store
        self._limit = limit
        self.rows: list[LogRow] = []

    def read(self) -> list[str]:
        """Read what is new, and return the ids in their order."""
        new = self._store.read_log(after=len(self.rows), limit=self._limit)
        self.rows += new
        assert [row.seq for row in self.rows] == list(range(1, len(self.rows) + 1))
        return [row.id for row in new]


@pytest.fixture
def reader(store: Store) -> Reader:
    return Reader(store)


def expect_forgotten(reader: Reader, raw: psycopg.Connection) -> None:
    """Read nothing, and see that no gap is remembered once the transactions of now have ended.

    These may be of other tests, which use the same server.
    """
    deadline = time.monotonic() + 20
    while raw.execute(HEAD).fetchall()[0][2] != "{}":
        assert time.monotonic() < deadline
        assert reader.read() == []
        time.sleep(0.01)


def test_commits_out_of_order_are_all_read(writers: Sequence[Writer], reader: Reader) -> None:
    """What drew first and commits last comes last; nobody waits for it."""
    first, second, third, _ = writers
    first.write(write("a", "Open"))
    second.write(write("b", "Open", "Open"))
    third.write(write("c", "Open"))
    assert reader.read() == []
    third.commit()
    assert reader.read() == ["c"]
    first.commit()
    assert reader.read() == ["a"]
    second.commit()
    assert reader.read() == ["b", "b"]
    assert reader.read() == []


def test_several_that_are_new_are_read_as_they_were_drawn(
    writers: Sequence[Writer], reader: Reader
) -> None:
    """However they were committed."""
    for id, writer in zip("abcd", writers, strict=True):
        writer.write(write(id, "Open"))
    for writer in reversed(writers):
        writer.commit()
    assert reader.read() == ["a", "b", "c", "d"]


def test_what_is_rolled_back_leaves_no_gap(
    writers: Sequence[Writer], reader: Reader, raw: psycopg.Connection
) -> None:
    """And is not looked for any longer than it could still come."""
    first, second, third, _ = writers
    first.write(*[write(f"a-{place}", "Open") for place in range(50)])
    second.write(write("b", "Open"))
    third.write(write("c", "Open"))
    third.commit()
    assert reader.read() == ["c"]
    assert raw.execute(HEAD).fetchone() == (1, 52, '{"[1,52)"}')
    first.roll_back()
    second.commit()
    assert reader.read() == ["b"]
    expect_forgotten(reader, raw)


def test_a_transaction_that_wrote_something_else_first(
    writers: Sequence[Writer], reader: Reader, raw: psycopg.Connection
) -> None:
    """Its number is old, and what it drew is new: it is read when it commits."""
    first, second, _, _ = writers
    first.execute("INSERT INTO holdfast.checkpoint VALUES ('theirs', 1, '')")
    second.write(write("b", "Open"))
    second.commit()
    assert reader.read() == ["b"]
    first.write(write("a", "Open"))
    second.write(write("c", "Open"))
    second.commit()
    assert reader.read() == ["c"]
    assert reader.read() == []
    first.commit()
    assert reader.read() == ["a"]


def test_a_gap_is_dated_after_it_was_noticed(writers: Sequence[Writer], reader: Reader) -> None:
    """A transaction that begins while a reader numbers is not taken for one that has ended."""
    first, second, third, _ = writers
    with ThreadPoolExecutor(1) as pool:
        for turn in range(5):
            third.write(write(f"c-{turn}", "Open"))
            third.commit()
            reading = pool.submit(reader.read)
            time.sleep(0.02 * turn)
            first.write(write(f"a-{turn}", "Open"))
            second.write(write(f"b-{turn}", "Open"))
            second.commit()
            reading.result()
            reader.read()
            reader.read()
            first.commit()
            assert reader.read() == [f"a-{turn}"]


@pytest.mark.parametrize("ends", ["commits", "rolls back"])
def test_a_part_of_a_transaction_has_a_number_of_its_own(
    writers: Sequence[Writer], reader: Reader, ends: str
) -> None:
    """What was written after a savepoint is looked for until the whole transaction ends."""
    first, second, _, _ = writers
    first.execute("SAVEPOINT part")
    first.write(write("a", "Open"))
    second.write(write("b", "Open"))
    second.commit()
    assert reader.read() == ["b"]
    first.execute("RELEASE SAVEPOINT part" if ends == "commits" else "ROLLBACK TO SAVEPOINT part")
    for id in ("c", "d"):
        second.write(write(id, "Open"))
        second.commit()
        assert reader.read() == [id]
    first.commit()
    assert reader.read() == (["a"] if ends == "commits" else [])


def test_a_prepared_transaction_is_still_to_come(
    writers: Sequence[Writer], reader: Reader, raw: psycopg.Connection
) -> None:
    """Though no session holds it."""
    first, second, _, _ = writers
    first.write(write("a", "Open"))
    first.execute("PREPARE TRANSACTION 'held'")
    first.commit()
    for id in ("b", "c"):
        second.write(write(id, "Open"))
        second.commit()
        assert reader.read() == [id]
    raw.execute("COMMIT PREPARED 'held'")
    assert reader.read() == ["a"]


def test_what_is_open_elsewhere_holds_nobody_up(
    writers: Sequence[Writer], reader: Reader, postgres_database: Database, raw: psycopg.Connection
) -> None:
    """A transaction of another database, and an old snapshot: only the memory of gaps is kept."""
    first, second, third, _ = writers
    third.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    third.execute("SELECT count(*) FROM holdfast.transition")
    with postgres_database.server.connect() as elsewhere, elsewhere.transaction():
        elsewhere.execute("SELECT pg_current_xact_id()")
        first.write(write("a", "Open"))
        second.write(write("b", "Open"))
        second.commit()
        first.roll_back()
        assert reader.read() == ["b"]
        for id in ("c", "d"):
            second.write(write(id, "Open"))
            second.commit()
            assert reader.read() == [id]
        assert raw.execute(HEAD).fetchone() == (3, 4, '{"[1,2)"}')
    expect_forgotten(reader, raw)


def test_a_gap_of_another_cluster_is_forgotten(store: Store, raw: psycopg.Connection) -> None:
    """A transaction that this cluster has not come to yet is none of it."""
    stored(store, write("e", "Open"))
    assert len(store.read_log(limit=9)) == 1
    raw.execute(
        "UPDATE holdfast.log_head SET missing = '{\"[-9,-5)\"}', missing_since = '{999999999}'"
    )
    assert store.read_log(after=1, limit=9) == []
    assert raw.execute(HEAD).fetchone() == (1, 1, "{}")


def test_a_cause_is_read_before_its_effect(
    writers: Sequence[Writer], reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though many more than can be numbered at a time come late, and the effect is new."""
    monkeypatch.setattr(feed, "MOST", 3)
    first, second, _, _ = writers
    first.write(*[write(f"cause-{place}", "Open") for place in range(8)])
    second.write(write("other", "Open"))
    second.commit()
    assert reader.read() == ["other"]
    first.commit()
    second.write(write("effect", "Open"))
    second.commit()
    assert reader.read() == [*(f"cause-{place}" for place in range(8)), "effect"]


def test_a_page_numbers_no_more_than_it_takes(
    store: Store, raw: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the first reader of a long log is answered soon."""
    monkeypatch.setattr(feed, "MOST", 10)
    store.commit([write(f"e-{place}", "Open") for place in range(100)])
    assert len(store.read_log(limit=5)) == 5
    assert raw.execute(HEAD).fetchone() == (10, 10, "{}")
    assert len(store.read_log(limit=25)) == 25
    assert raw.execute(HEAD).fetchone() == (30, 30, "{}")
    assert len(store.read_log(after=95, limit=25)) == 5


def test_an_idle_reader_writes_nothing(store: Store, raw: psycopg.Connection) -> None:
    """Not even where it looks again for what is missing."""
    stored(store, write("e", "Open"))
    store.read_log(limit=9)
    version = "SELECT xmin, xmax, ctid FROM holdfast.log_head"
    before = raw.execute(version).fetchone()
    for _ in range(3):
        assert store.read_log(after=1, limit=9) == []
    assert raw.execute(version).fetchone() == before


def test_positions_stay_through_a_purge(store: Store, reader: Reader) -> None:
    """Stubs stand where the transitions stood."""
    row = stored(store, write("a", "Open", "Open"))
    stored(store, write("b", "Open"))
    assert reader.read() == ["a", "a", "b"]
    stored(store, write("a", None, on=row, purge=True))
    assert reader.read() == ["a"]
    kinds = [(row.seq, row.kind) for row in store.read_log(limit=9)]
    assert kinds == [(1, "purged"), (2, "purged"), (3, "command"), (4, "deletion")]


def test_histories_know_the_positions(store: Store, writers: Sequence[Writer]) -> None:
    """Whoever asks first has them given."""
    writers[0].write(write("a", "Open"))
    stored(store, write("b", "Open"))
    writers[0].commit()
    assert [row.seq for row in history(store, "b")] == [2]
    assert [row.seq for row in history(store, "a")] == [1]


def test_many_writers_and_readers(open: Open, writers: Sequence[Writer]) -> None:
    """Every reader reads everything once, each entity in order, while others write."""
    stores = [open() for _ in range(4)]
    service = service_on(stores[0], attempts=1_000)
    written = 8 * 40

    def work(number: int) -> None:
        mine = service_on(stores[number % 4], attempts=1_000)
        for turn in range(20):
            mine.handle(f"own-{number}", Add())
            mine.handle(f"shared-{turn % 2}", Add())

    def follow(number: int) -> list[LogRow]:
        reader = Reader(stores[number], limit=7 + 50 * number)
        while len(reader.rows) < written:
            reader.read()
        return reader.rows

    with ThreadPoolExecutor(10) as pool:
        readers = [pool.submit(follow, number) for number in range(2)]
        for worker in [pool.submit(work, number) for number in range(8)]:
            worker.result()
        one, other = (reader.result(timeout=60) for reader in readers)
    assert one == other == all_log_rows(stores[2])
    assert service.get("shared-0").version == 80
    assert faults(stores[3]) == []


@pytest.mark.parametrize("seed", range(8))
def test_any_interleaving(
    writers: Sequence[Writer], store: Store, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers that begin, write, commit and roll back by chance, and a reader now and then.

    Each entity is caused by what the reader, or the writer's own transaction, had seen before.
    """
    chance = random.Random(seed)
    monkeypatch.setattr(feed, "MOST", chance.choice([1, 2, 5, 1_000]))
    reader = Reader(store, limit=chance.choice([1, 3, 100]))
    committed: set[str] = set()
    pending: dict[Writer, list[str]] = {writer: [] for writer in writers}
    causes: dict[str, set[str]] = {}
    for turn in range(80):
        writer = chance.choice(writers)
        act = chance.choice(["write", "write", "commit", "roll back", "read"])
        if act == "write":
            id = f"e-{turn}"
            causes[id] = {*committed, *pending[writer]}
            writer.write(write(id, *["Open"] * chance.randint(1, 3)))
            pending[writer].append(id)
        elif act == "commit":
            writer.commit()
            committed.update(pending[writer])
            pending[writer] = []
        elif act == "roll back":
            writer.roll_back()
            pending[writer] = []
        else:
            reader.read()
    for writer in writers:
        writer.roll_back()
    while reader.read():
        pass
    order = list(dict.fromkeys(row.id for row in reader.rows))
    assert set(order) == committed
    for place, id in enumerate(order):
        assert causes[id] <= set(order[:place]), f"{id} was read before its causes"
    assert faults(store) == []


def test_a_dump_is_restored_into_a_fresh_cluster(
    own_postgres_server: PostgresServer, postgres_database: Database, application_url: str,
    writers: Sequence[Writer],
) -> None:  # fmt: skip
    """What was read keeps its position, and what comes goes on from there."""
    with open_store(application_url) as store:
        writers[0].write(write("open", "Open"))
        stored(store, write("a", "Open", "Open", keys=["k"]))
        before = all_log_rows(store)
        stored(store, write("b", "Open"))
    dump = dumped(own_postgres_server, postgres_database)
    create_accounts(own_postgres_server)
    target = Database(own_postgres_server, own_postgres_server.create_database())
    with psycopg.connect(target.url(), autocommit=True) as connection:
        connection.execute(dump.encode())
    with open_store(migrated(target, "application")) as store:
        assert [row.id for row in all_log_rows(store)] == ["a", "a", "b"]
        assert all_log_rows(store)[:2] == before
        stored(store, write("a", "Closed", on=row_of(store, "a")))
        stored(store, write("c", "Open"))
        assert [row.id for row in all_log_rows(store)] == ["a", "a", "b", "a", "c"]
        assert faults(store) == []
        assert store.flaws() == []


def dumped(server: PostgresServer, database: Database) -> str:
    """Return a database as SQL."""
    program = server.programs / "pg_dump"
    command = [str(program), "--inserts", "--dbname", database.url()]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return "".join(line for line in done.stdout.splitlines(True) if not line.startswith("\\"))

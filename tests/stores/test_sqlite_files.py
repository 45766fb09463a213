"""SQLite files that cannot be used: each is told apart, nothing is written, nothing is lost."""

from __future__ import annotations

import ctypes
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest
from tests.stores.scenes import command, environment, play

from holdfast import OutcomeUnknownError, StoreError, open_store
from holdfast.stores.contract import Checkpoint, CommitUncertainError, Store
from holdfast.testing.conformance.base import (
    SampleService,
    commit_one,
    find_row,
    row_of,
    service_on,
    stored,
    versions,
)
from holdfast.testing.consistency import faults
from holdfast.testing.sample import Add, Create
from holdfast.testing.writes import write


def make(path: Path) -> bytes:
    """Make a store's file with an entity, and return its bytes."""
    with open_store(f"sqlite:///{path}") as store:
        stored(store, write("e", "Open"))
    return path.read_bytes()


def refusal(store: Store) -> str:
    """Return with which words a store refuses to write; it must refuse to read, too."""
    with pytest.raises(StoreError):
        store.count("sample")
    with pytest.raises(StoreError) as caught:
        store.commit([write("new", "Open")], checkpoint=Checkpoint("reader", 1))
    return str(caught.value)


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    """It is not made; its name may be mistyped."""
    with open_store(f"sqlite:///{tmp_path}/missing/shop.db") as store:
        assert "check that the folder exists" in refusal(store)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("mode", ["ro", "rw", "rwc"])
def test_a_path_that_is_a_folder(tmp_path: Path, mode: str) -> None:
    """It is told to be one; no disk has failed."""
    with open_store(f"sqlite:///{tmp_path}?mode={mode}") as store:
        with pytest.raises(StoreError, match="is a folder; name a file in it"):
            store.count("sample")
        assert "is a folder; name a file in it" in refusal(store) or mode == "ro"
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_no_database(path: Path) -> None:
    """It is left as it is."""
    path.write_text("Some notes that somebody took.\n" * 200, "utf-8")
    before = path.read_bytes()
    with open_store(f"sqlite:///{path}") as store:
        assert "is no SQLite database: check the path" in refusal(store)
    assert path.read_bytes() == before


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_a_file_of_another_encoding(path: Path, encoding: str) -> None:
    """There ids would not be in the order of their bytes."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        connection.execute("CREATE TABLE mine (value TEXT)")
    before = path.read_bytes()
    with open_store(f"sqlite:///{path}") as store:
        assert f"keeps text in {encoding}" in refusal(store)
    assert path.read_bytes() == before


def test_an_empty_file(path: Path) -> None:
    """It is a database with nothing in it."""
    path.touch()
    with open_store(f"sqlite:///{path}") as store:
        stored(store, write("e", "Open"))


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_file_that_was_cut_off(path: Path, kept: float) -> None:
    """Reading what is lost is an error."""
    with open_store(f"sqlite:///{path}") as store:
        store.commit([write(f"e-{i}", "Open", "Open", tokens=["t" * 99]) for i in range(200)])
    os.truncate(path, int(path.stat().st_size * kept))
    with (
        open_store(f"sqlite:///{path}") as store,
        pytest.raises(StoreError, match="the file is damaged: restore a backup"),
    ):
        faults(store)


def test_a_file_with_a_damaged_page(path: Path) -> None:
    """What needs the page says so; what does not goes on."""
    with open_store(f"sqlite:///{path}") as store:
        for i in range(20):
            stored(store, write(f"e-{i}", "Open", tokens=["t" * 999]))
    with closing(sqlite3.connect(path)) as connection:
        page = "SELECT rootpage FROM sqlite_master WHERE name = 'transition'"
        (number,) = connection.execute(page).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((number - 1) * size)
        file.write(b"\xff" * size)
    with open_store(f"sqlite:///{path}") as store:
        with pytest.raises(StoreError, match="damaged: restore a backup"):
            store.read_log(limit=1)
        with pytest.raises(StoreError, match="damaged: restore a backup"):
            store.commit([write("new", "Open")])
        assert store.count("sample") == {"Open": 20}
        assert find_row(store, "new") is None


def give_up_privileges() -> None:
    """Have permission bits count, whoever runs the tests: even for root, once it may not pass."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 bits
    assert libc.capget(header, sets) == 0
    sets[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, sets) == 0


def scene_read_only(path: str, locked: str) -> None:
    file = Path(path)
    make(file)
    target = file if locked == "file" else file.parent
    target.chmod(0o444 if locked == "file" else 0o555)
    before = file.read_bytes()
    give_up_privileges()
    with open_store(f"sqlite:///{path}") as store:
        with pytest.raises(StoreError) as caught:
            store.commit([write("new", "Open")])
        print(caught.value)
    assert file.read_bytes() == before
    target.chmod(0o755)
    for left in file.parent.iterdir():  # SQLite makes the files beside it like the file
        left.chmod(0o644)
    with open_store(f"sqlite:///{path}") as store:
        assert find_row(store, "new") is None
        stored(store, write("new", "Open"))
        assert faults(store) == []


def scene_read_only_folder_without_a_file(path: str) -> None:
    folder = Path(path).parent
    folder.chmod(0o555)
    give_up_privileges()
    with open_store(f"sqlite:///{path}") as store:
        print(refusal(store))
    assert os.listdir(folder) == []
    folder.chmod(0o755)


@pytest.mark.parametrize("locked", ["file", "folder"])
def test_a_file_that_may_only_be_read(path: Path, locked: str) -> None:
    """It stays as it is, and is used again once it may be written."""
    said = play(scene_read_only, path, locked)
    assert "allow this process to write there" in said or "this process may write there" in said
    assert "nothing was written" in said


def test_a_folder_that_may_only_be_read(path: Path) -> None:
    """No file can be made there."""
    assert "this process may write there" in play(scene_read_only_folder_without_a_file, path)


def test_a_full_database(path: Path, connections: list[sqlite3.Connection]) -> None:
    """What does not fit is not written, and what does is written again once there is room."""
    with open_store(f"sqlite:///{path}") as store:
        service = service_on(store)
        service.handle("e", Add())
        connection = connections[0]
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 3}")
        fitted = fill(service, "the disk is full: free some space")
        assert 1 <= fitted < 5
        with pytest.raises(StoreError, match="nothing was written"):
            service.handle_many([("e", Add()), ("f", Create(note="y" * 50_000))], atomic=True)
        assert store.count("sample") == {"Open": 1 + fitted}
        assert faults(store) == []
        connection.execute("PRAGMA max_page_count = 100000")
        assert service.handle("f", Create(note="y" * 50_000)).version == 1
        assert faults(store) == []


def fill(service: SampleService, reason: str) -> int:
    """Make entities until the store refuses, with the reason; return how many were made."""
    for made in range(100):
        try:
            service.handle(f"e-{made}", Create(note="x" * 2_500))
        except StoreError as error:
            if reason in str(error) and "nothing was written" in str(error):
                return made
            raise
    raise AssertionError("100 were made, and there is still room")


def test_a_commit_that_sqlite_refuses_is_certain(
    path: Path, connections: list[sqlite3.Connection]
) -> None:
    """A constraint that is checked at the end keeps the transaction open, so it is rolled back."""
    with open_store(f"sqlite:///{path}") as store:
        service = service_on(store, attempts=3)
        service.handle("e", Add())
        connections[0].executescript("""
            CREATE TABLE parent (id INTEGER PRIMARY KEY);
            CREATE TABLE child (id REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED);
            CREATE TRIGGER break_later AFTER INSERT ON transition
            BEGIN INSERT INTO child VALUES (1); END;
            PRAGMA foreign_keys = ON;
        """)
        with pytest.raises(StoreError, match=r"FOREIGN KEY.*nothing was written") as caught:
            service.handle("e", Add(), timeout=5)
        assert not isinstance(caught.value, CommitUncertainError | OutcomeUnknownError)
        assert not connections[0].in_transaction
        assert service.get("e").version == 1
        connections[0].execute("DROP TRIGGER break_later")
        assert service.handle("e", Add()).version == 2
        assert faults(store) == []
        assert len(connections) == 1


def scene_full_disk(path: str) -> None:
    disk = Path(path).parent
    ballast = disk / "ballast"
    with open_store(f"sqlite:///{path}") as store:
        service = service_on(store)
        service.handle("e", Add())
        ballast.write_bytes(b"\0" * (room_in(disk) - 40_000))
        began = time.monotonic()
        fitted = fill(service, "the disk is full: free some space")
        assert time.monotonic() - began < 2  # it is known at once, so nothing is tried again
        assert fitted > 0
        assert store.count("sample") == {"Open": 1 + fitted}
        assert faults(store) == []
        with pytest.raises(StoreError, match="nothing was written"):
            service.handle_many([("e", Add()), ("f", Create(note="y" * 99_000))], atomic=True)
        assert store.count("sample") == {"Open": 1 + fitted}
        ballast.unlink()
        service.handle(f"e-{fitted}", Create(note="x" * 3_000))
        assert store.count("sample") == {"Open": 2 + fitted}
        assert faults(store) == []
    with open_store(f"sqlite:///{path}") as store:
        assert store.count("sample") == {"Open": 2 + fitted}
        assert faults(store) == []
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    print("played")


def room_in(folder: Path) -> int:
    """Return how many bytes a file there may have."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


@cache
def namespace() -> list[str]:
    """Return a command that runs another where it may mount; empty where nobody lets us."""
    unshare = shutil.which("unshare")
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    if unshare is None:
        return []
    within = [unshare, *user, "--mount", "--propagation", "private"]
    tried = subprocess.run(
        [*within, "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /tmp"],
        check=False,
        capture_output=True,
    )
    return within if tried.returncode == 0 else []


def test_a_full_disk(tmp_path: Path) -> None:
    """The commit fails, for certain; nothing is lost, and it is used again once there is room."""
    if not namespace():
        pytest.skip("this machine lets nobody mount a small disk")
    mount = f'mount -t tmpfs -o size=1m tmpfs "{tmp_path}" && exec "$@"'
    within = [*namespace(), "sh", "-c", mount, "sh"]
    assert play(scene_full_disk, tmp_path / "store.db", within=within) == "played\n"
    assert os.listdir(tmp_path) == []


def scene_hold_the_lock(path: str, seconds: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        print("locked", flush=True)
        time.sleep(float(seconds))
        connection.execute("COMMIT")


@pytest.fixture
def locked(path: Path) -> Iterator[Path]:
    """Give a store's file that another process is writing, for a minute."""
    make(path)
    yield from locked_for(path, 60)


@pytest.fixture
def locked_shortly(path: Path) -> Iterator[Path]:
    """Give a store's file that another process is writing, and soon lets go of."""
    make(path)
    yield from locked_for(path, 0.5)


def locked_for(path: Path, seconds: float) -> Iterator[Path]:
    """Give a path while another process holds the lock there."""
    with subprocess.Popen(
        command(scene_hold_the_lock, path, seconds),
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        try:
            yield path
        finally:
            holder.kill()


def test_a_file_that_is_written_for_too_long(locked: Path) -> None:
    """The wait is bounded; reading goes on meanwhile."""
    with open_store(f"sqlite:///{locked}?busy_timeout_seconds=0.2") as store:
        began = time.monotonic()
        with pytest.raises(StoreError, match="another process is writing: try again"):
            store.commit([write("new", "Open")], checkpoint=Checkpoint("reader", 1))
        assert 0.15 < time.monotonic() - began < 5
        assert row_of(store, "e").version == 1
        assert find_row(store, "new") is None
        assert store.checkpoint("reader") is None


def test_a_caller_may_wait_less(locked: Path) -> None:
    """`timeout=` bounds the wait for others, where it is shorter."""
    with open_store(f"sqlite:///{locked}?busy_timeout_seconds=30") as store:
        began = time.monotonic()
        with pytest.raises(StoreError, match="another process is writing"):
            service_on(store).handle("new", Add(), timeout=0.2)
        assert 0.15 < time.monotonic() - began < 5
    with open_store(f"sqlite:///{locked}?busy_timeout_seconds=0.2") as store:
        began = time.monotonic()
        with pytest.raises(StoreError, match="another process is writing"):
            service_on(store).handle("new", Add(), timeout=30)
        assert time.monotonic() - began < 5


def test_a_writer_waits_for_its_turn(locked_shortly: Path) -> None:
    """What comes while another writes is written after it."""
    with open_store(f"sqlite:///{locked_shortly}") as store:
        assert commit_one(store, write("new", "Open")).applied
        assert versions(store, "new") == [1]


def test_a_new_file_that_is_locked(path: Path) -> None:
    """Opening waits, with a bound, and makes nothing."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE mine (value TEXT)")
        other.execute("BEGIN EXCLUSIVE")
        with open_store(f"sqlite:///{path}?busy_timeout_seconds=0.2") as store:
            assert "another process is writing" in refusal(store)
            other.execute("COMMIT")
            stored(store, write("e", "Open"))

"""What is promised, on which store and with which setting, and which tests show it.

The texts hold no figures: those come from the records of runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

SQLITE, NORMAL = "SQLite", "SQLite, `synchronous=NORMAL`"
POSTGRES, MEMORY = "PostgreSQL", "in memory"
STORES = (SQLITE, NORMAL, POSTGRES, MEMORY)

CRASH = "tests/crash/test_crashes.py"
POSTGRES_CRASH = "tests/crash/test_postgres_crashes.py"
POWER = "tests/crash/test_power_cuts.py"
CONFORMANCE = "tests/stores/test_conformance.py"
JOINED = "tests/stores/joined"
SEEDS = "tests/simulation/test_seeds.py"
HARNESS = (CRASH, POSTGRES_CRASH, POWER)

KILLED = ("kills", "acknowledged", "unanswered, written", "unanswered, not written")
SERVED = ("immediate restarts", "fast restarts", "server away for long", "backends ended")
LINES = (
    "commits cut off before they went out",
    "commits cut off after they went out",
    "answers to commits swallowed",
    "answers to commits delayed",
)
RESOLVED = (
    "outcomes unknown",
    "unknown outcomes resolved: stored",
    "unknown outcomes resolved: not stored",
)
SIMULATED = ("seeds", "transitions")


class Shown(Struct, frozen=True):
    """A test that shows a promise, on some stores, and which of its figures tell how."""

    test: str
    stores: Sequence[str]
    figures: Sequence[str] = ()


class Promise(Struct, frozen=True):
    """What is promised, and where it is not."""

    title: str
    text: str
    shown: Sequence[Shown]
    not_on: Sequence[str] = ()
    """Stores that do not promise it."""
    remarks: Mapping[str, str] = {}
    """What is said instead of stores on which it was not tried."""


def crashes(*figures: str, not_on: Sequence[str] = ()) -> list[Shown]:
    """Return what the crash harness shows, long and short, on every store that processes share."""
    shown = [
        Shown(f"{CRASH}::test_no_seed_loses_anything", [SQLITE], figures),
        Shown(f"{CRASH}::test_killed_workers_lose_nothing", [SQLITE], figures),
        Shown(f"{CRASH}::test_no_kill_loses_anything_at_normal", [NORMAL], figures),
        Shown(f"{POSTGRES_CRASH}::test_no_seed_loses_anything", [POSTGRES], figures),
        Shown(f"{POSTGRES_CRASH}::test_killed_workers_lose_nothing", [POSTGRES], figures),
    ]
    return [each for each in shown if not set(each.stores) & set(not_on)]


def simulations(*figures: str) -> list[Shown]:
    """Return what the simulation shows, long and short: the service's own code, on two stores."""
    tests = ("test_none_of_many_seeds_breaks_a_promise", "test_no_seed_breaks_a_promise")
    return [Shown(f"{SEEDS}::{test}", [SQLITE, MEMORY], (*SIMULATED, *figures)) for test in tests]


def conformance(*names: str) -> list[Shown]:
    """Return the suite that every store passes."""
    stores = {
        "TestSqliteFile": SQLITE,
        "TestSqliteFileNormal": NORMAL,
        "TestPostgres": POSTGRES,
        "TestOldestPostgres": POSTGRES,
        "TestMemory": MEMORY,
    }
    return [
        Shown("::".join(filter(None, (CONFORMANCE, suite, name))), [store])
        for name in names or ("",)
        for suite, store in stores.items()
    ]


PROMISES = (
    Promise(
        "What was acknowledged outlives the process",
        "A transition whose call has returned is in the log, once, with the version that the call "
        "was told, whatever becomes of the process: killed at any request or statement, stopped "
        "past every time limit, locked out by another program.",
        [
            *crashes(*KILLED),
            Shown(
                "tests/durability/test_kills.py::"
                "test_200_kills_lose_nothing_and_leave_nothing_in_half",
                [SQLITE],
                ("kills", "acknowledged"),
            ),
        ],
        not_on=[MEMORY],
    ),
    Promise(
        "What was acknowledged outlives a power cut",
        "After the power fails, the file holds every transition that was acknowledged, and work "
        "goes on there. The cut is a copy of the mounted file system as it is on the disk at one "
        "moment. On PostgreSQL this rests on the server's own write-ahead log and `fsync`: the "
        "server is made to crash here, the power of its disk is not cut.",
        [
            Shown(f"{POWER}::test_no_seed_loses_anything", [SQLITE], ("cuts", "acknowledged")),
            Shown(f"{POWER}::test_a_power_cut_loses_nothing", [SQLITE], ("cuts", "acknowledged")),
        ],
        not_on=[NORMAL, MEMORY],
        remarks={POSTGRES: "as its server does"},
    ),
    Promise(
        "What was acknowledged outlives the server",
        "Backends that are ended, servers that crash and come back, or are away for a while, lose "
        "nothing that was acknowledged, and apply nothing twice.",
        [
            Shown(
                f"{POSTGRES_CRASH}::test_no_seed_loses_anything",
                [POSTGRES],
                ("acknowledged", *SERVED),
            ),
            Shown(
                f"{POSTGRES_CRASH}::test_killed_workers_lose_nothing",
                [POSTGRES],
                ("acknowledged", *SERVED),
            ),
            Shown(
                "tests/stores/postgres/test_faults.py::"
                "test_every_acknowledged_transition_is_there_once",
                [POSTGRES],
                ("acknowledged", "immediate restarts", "outcomes unknown"),
            ),
        ],
        remarks=dict.fromkeys([SQLITE, NORMAL, MEMORY], "there is none"),
    ),
    Promise(
        "A lost answer is neither success nor failure",
        "Where the acknowledgement of a commit is lost, the same write is sent again and the log "
        "tells what became of it. The call is answered with what truly happened; only where the "
        "store stays away for longer than the call may take is it told that this is not known.",
        [
            Shown(
                f"{POSTGRES_CRASH}::test_no_seed_loses_anything", [POSTGRES], (*LINES, *RESOLVED)
            ),
            Shown(
                f"{POSTGRES_CRASH}::test_killed_workers_lose_nothing",
                [POSTGRES],
                (*LINES, *RESOLVED),
            ),
            Shown("tests/stores/postgres/test_lost_answers.py", [POSTGRES]),
            Shown("tests/durability/test_unknown_outcomes.py", [SQLITE, MEMORY]),
            *simulations("lost_before", "lost_after", "lost_late", "found again"),
        ],
        remarks={NORMAL: "as SQLite"},
    ),
    Promise(
        "Nothing is applied twice",
        "A command that is handled again under its key is answered with its first result, from "
        "any process, before and after crashes. Without a key, one call is one transition at most, "
        "however often its write is sent.",
        [
            *crashes("acknowledged", "duplicates"),
            *simulations("duplicates", "keys reused"),
            Shown("tests/service/test_keys.py", [SQLITE, MEMORY]),
        ],
    ),
    Promise(
        "Two at once never overwrite each other",
        "A write counts only on the version that was decided on; the loser decides again, or is "
        "told. Versions of an entity are without gap or repeat, and reads and writes of one entity "
        "are linearizable.",
        [
            *crashes("acknowledged", "reads", "VersionConflictError"),
            *simulations("conflicts"),
            Shown("tests/durability/test_contention.py", [SQLITE]),
            *conformance("test_nothing_is_lost_between_threads"),
        ],
    ),
    Promise(
        "All or nothing",
        "The state and the entry in the log, the writes of an atomic batch and of a transaction, "
        "and a checkpoint with its batch, are written together or not at all; a reader of several "
        "entities sees no batch in half.",
        [
            *crashes("transitions", "reads"),
            *simulations("atomic batches", "transactions", "checkpoints"),
            *conformance(),
        ],
    ),
    Promise(
        "Inside a transaction of yours",
        "What a service writes on a connection of the caller's is committed or rolled back with "
        "the caller's own rows, and a conflict there leaves the transaction usable.",
        [
            Shown(f"{JOINED}/test_conformance.py::TestSqliteJoined", [SQLITE]),
            Shown(f"{JOINED}/test_conformance.py::TestPostgresJoined", [POSTGRES]),
            Shown(f"{JOINED}/test_transactions.py", [SQLITE, POSTGRES]),
        ],
        not_on=[MEMORY],
        remarks={NORMAL: "as SQLite"},
    ),
    Promise(
        "Everything goes on",
        "Once nothing goes wrong any more, each verb of each machine that the workers call is "
        "answered again within {progress} seconds (`handle`, `handle_many`, also atomic, `get`, "
        "`get_many`), and programs end when they are told to: after kills, held locks, deadlocks, "
        "bad lines, a server that was away, a disk that was full.",
        [
            *crashes("locks held", "rows locked", "rows locked crosswise", "deadlocks"),
            Shown(
                f"{CRASH}::test_no_seed_loses_anything_on_a_full_disk",
                [SQLITE],
                (*KILLED, "disks full"),
            ),
            Shown(
                f"{CRASH}::test_workers_on_a_full_disk_lose_nothing",
                [SQLITE],
                (*KILLED, "disks full"),
            ),
        ],
        not_on=[MEMORY],
    ),
    Promise(
        "A caller that gives up harms nobody else",
        "Cancelled coroutines and interrupted threads leave every other caller with its own "
        "result, and what they had under way is written whole or not at all.",
        [
            *simulations("callers cancelled", "drop_before", "drop_after"),
            Shown("tests/async_service/test_cancellation.py", [SQLITE]),
            Shown("tests/stores/test_interrupts.py", [SQLITE, NORMAL, MEMORY]),
            Shown(
                "tests/stores/postgres/test_lifecycle.py::test_interrupts_leave_the_store_as_it_is",
                [POSTGRES],
            ),
        ],
    ),
    Promise(
        "What is stored can be read",
        "What would not come back as it was is refused before anything is written, by every store "
        "alike; bytes are the same everywhere.",
        [
            *conformance(),
            Shown("tests/machine/test_codec_properties.py", STORES),
            Shown("tests/stores/test_stores_agree.py", [SQLITE, MEMORY]),
        ],
    ),
    Promise(
        "The log is whole, and in an order",
        "Positions are without gaps, causes before their effects, each entity in the order of its "
        "versions; replaying the log gives the current states.",
        [
            *crashes("transitions"),
            *simulations(),
            Shown("tests/stores/postgres/test_feed.py", [POSTGRES]),
        ],
    ),
    Promise(
        "History cannot be edited quietly",
        "The database refuses to change or delete an entry of the log, and `holdfast verify` finds "
        "what was changed behind its back; what only `--anchor` finds is said in "
        "[What is stored](storage.md).",
        [
            Shown("tests/test_verify.py", [SQLITE]),
            Shown("tests/stores/postgres/test_flaws.py", [POSTGRES]),
            Shown("tests/stores/postgres/test_roles.py", [POSTGRES]),
        ],
        not_on=[MEMORY],
        remarks={NORMAL: "as SQLite"},
    ),
)

BUGS = {
    "tests/simulation/test_planted_bugs.py::test_a_planted_bug_is_found": (
        "in the service and the stores, found by the simulation"
    ),
    f"{CRASH}::test_a_planted_bug_is_found": "found by killing workers on SQLite",
    f"{POSTGRES_CRASH}::test_a_planted_bug_is_found": "found by losing answers on PostgreSQL",
    "tests/stores/test_planted_bugs.py::test_a_planted_bug_is_found": (
        "in the stores and on SQLite, found by the tests of the stores"
    ),
    "tests/stores/postgres/test_planted_bugs.py::test_a_planted_bug_is_found": (
        "on PostgreSQL, found by the tests of its store"
    ),
}
"""Tests that plant bugs, and which."""

LOSES = f"{POWER}::test_without_flushes_a_power_cut_loses_what_was_acknowledged"

NOT_PROMISED = (
    "**SQLite with `synchronous=NORMAL` at a power cut.** What was acknowledged since the last "
    f"checkpoint of the write-ahead log can be gone. `{LOSES}` cuts the power and sees it go.",
    "**Disks that lie.** A disk, a controller or a virtual machine that reports a flush which did "
    "not happen; file systems over a network, where SQLite's locks and its write-ahead log do not "
    "work.",
    "**Bit rot.** What the medium changes is found by `holdfast verify`, as far as it is in what "
    "the digests cover, and not repaired. Keep backups.",
    "**PostgreSQL with `fsync=off`, and failovers to a standby that lags behind.** What the server "
    "acknowledged can be gone then, and no client can tell. The power of a server's disk was not "
    "cut here.",
    "**`memory://`.** It ends with the process.",
    "**An answer in every case.** Where the store stays away for longer than a call may take, the "
    "outcome is `OutcomeUnknownError`. Send the command again under its key.",
    "**An end to every silence.** Where a server keeps a connection and never answers, a call "
    "waits as long as the connection lasts.",
    "**That a handler runs once.** It decides again after a conflict; what it does outside of the "
    "store may be done again, which `context.token` lets the other side notice.",
    "**Somebody who may write everywhere.** Whoever can change the database and the anchor can "
    "hide a change.",
    "**Other versions and systems** than those below. The tests run anywhere: see what they say "
    "there.",
)

NAMES = {
    "acknowledged": "commands acknowledged",
    "unanswered, written": "commands unanswered and written",
    "unanswered, not written": "commands unanswered and not written",
    "kills": "processes killed",
    "cuts": "power cuts",
    "duplicates": "duplicates recognised",
    "VersionConflictError": "conflicts told",
    "unknown outcomes resolved: stored": "resolved as stored",
    "unknown outcomes resolved: not stored": "resolved as not stored",
    "server away for long": "absences of five seconds and more",
    "transitions": "transitions in the log",
    "lost_before": "requests lost",
    "lost_after": "answers lost",
    "lost_late": "commits that came late",
    "found again": "lost commits found",
    "drop_before": "callers gone before a request",
    "drop_after": "callers gone after a request",
    "keys reused": "keys with another command",
    "locks held": "times the lock was held",
    "rows locked": "times all rows were locked",
    "rows locked crosswise": "times rows were locked crosswise",
    "disks full": "times the disk was full",
}
"""How the document names what was counted, where it is not by its own name."""

OVERALL = (
    ("Seeds simulated", ["seeds"], [SEEDS]),
    ("Transitions simulated", ["transitions"], [SEEDS]),
    ("Commands acknowledged to processes under faults", ["acknowledged"], HARNESS),
    ("Processes killed while they wrote to SQLite", ["kills"], [CRASH, "tests/durability"]),
    ("Processes killed while they wrote to PostgreSQL", ["kills"], [POSTGRES_CRASH]),
    ("Power cuts", ["cuts"], [POWER]),
    ("Times the disk was full", ["disks full"], [CRASH]),
    ("Backends ended", ["backends ended"], [POSTGRES_CRASH]),
    ("Immediate restarts of a server", ["immediate restarts"], [POSTGRES_CRASH]),
    ("Fast restarts of a server", ["fast restarts"], [POSTGRES_CRASH]),
    ("Deadlocks", ["deadlocks"], [POSTGRES_CRASH]),
    ("Commits cut off, unanswered or answered late", LINES, [POSTGRES_CRASH]),
    ("Commits of unknown outcome, resolved", RESOLVED[1:], [POSTGRES_CRASH, CRASH]),
    ("Answers that were held against the store", ["acknowledged", "reads"], HARNESS),
    ("Violations", ["violations"], HARNESS),
)  # fmt: skip
"""Figures over all runs: what they are called, their counts, and the files of their tests."""


def named_tests() -> list[str]:
    """Return every test that the document names, once."""
    named = [each.test for promise in PROMISES for each in promise.shown]
    return [*dict.fromkeys([*named, *BUGS, LOSES])]

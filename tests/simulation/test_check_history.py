"""The checker of histories: sound ones pass, and every kind of bad one is told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from holdfast import Request, Service, open_store
from holdfast.testing import Entry, Operation, check_history, log_entries
from holdfast.testing.sample import Add, sample, undisturbed

MANY = 20_000


def entry(version: int, name: str | None = None, **other: Any) -> Entry:
    """Return an entry of the log, whose position is its version and whose state `s1`, `s2`."""
    given = {"position": version, "machine": "m", "id": "a", "state": f"s{version}", **other}
    return Entry(version=version, name=name or f"w{version}", **given)


def write(name: str, began: float, ended: float | None = None, **other: Any) -> Operation:
    """Return a write, acknowledged where it has an end; `w2` at version 2."""
    version = int(name[1:2]) if ended is not None else None
    given: dict[str, Any] = {
        "client": "c",
        "machine": "m",
        "id": "a",
        "told": "unknown" if ended is None else "done",
        "version": version,
        "state": None if version is None else f"s{version}",
        **other,
    }
    if given["told"] == "refused":
        given["version"], given["state"] = other.get("version"), None
    return Operation(name=name, began=began, ended=ended, **given)


def read(version: int, began: float, ended: float, **other: Any) -> Operation:
    """Return a read that was told a version, 0 for no entity."""
    state = f"s{version}" if version else None
    given: dict[str, Any] = {
        "client": "r",
        "kind": "read",
        "machine": "m",
        "id": "a",
        "version": version,
        "state": state,
        **other,
    }
    return Operation(began=began, ended=ended, told="done", **given)


def told(name: str, began: float, ended: float, **other: Any) -> Operation:
    """Return a write that was acknowledged, and of which nothing else was told."""
    return write(name, began, ended, version=None, state=None, **other)


def erased(version: int) -> Entry:
    """Return an entry that was purged, or that a purge made and another one erased."""
    return Entry(position=version, machine="m", id="a", version=version, name=None, purged=True)


SOUND: dict[str, tuple[list[Operation], list[Entry]]] = {
    "nothing": ([], []),
    "one write": ([write("w1", 1, 2)], [entry(1)]),
    "a lost answer, stored": ([write("w1", 1)], [entry(1)]),
    "a lost answer, not stored": ([write("w1", 1)], []),
    "a lost answer, stored much later": (
        [write("w2", 1), write("w1", 2, 3), read(1, 4, 5), read(2, 6, 7)],
        [entry(1), entry(2)],
    ),
    "a refusal": ([write("w1", 1, 2), write("w9", 3, 4, told="refused")], [entry(1)]),
    "writes at once, in either order": (
        [write("w1", 1, 10), write("w2", 1, 10), read(2, 2, 3)],
        [entry(1), entry(2)],
    ),
    "a key used twice": (
        [write("w1", 1, 2, key="k"), write("w9", 3, 4, key="k", version=1, state="s1")],
        [entry(1, key="k")],
    ),
    "a key used twice, answered late": (
        [
            write("w1", 1, 2, key="k"),
            write("w2", 3, 4),
            write("w9", 5, 6, key="k", version=1, state="s1"),
        ],
        [entry(1, key="k"), entry(2)],
    ),
    "a deletion, and absence": (
        [read(0, 0, 1), write("w1", 1, 2), write("w2", 3, 4, state=None), read(0, 5, 6)],
        [entry(1), entry(2, state=None)],
    ),
    "a conflict with what is there": (
        [write("w1", 1, 2), write("w9", 3, 4, told="refused", expected=0, version=1)],
        [entry(1)],
    ),
    "an expected version": (
        [write("w1", 1, 2, expected=0), write("w2", 3, 4, expected=1)],
        [entry(1), entry(2)],
    ),
    "a refusal that tells of the state": (
        [
            write("w1", 1, 2),
            write("w9", 3, 4, told="refused", saw="Open"),
            write("w2", 5, 6),
            write("w8", 5, 7, told="refused", saw="Open"),
        ],
        [entry(1, state_type="Open"), entry(2, state_type="Closed")],
    ),
    "a refusal that tells of no entity": (
        [write("w9", 1, 2, told="refused", saw=""), write("w1", 3, 4)],
        [entry(1)],
    ),
    "an old version": (
        [write("w1", 1, 2), write("w2", 3, 4), read(1, 5, 6, kind="past")],
        [entry(1), entry(2)],
    ),
    "what was purged is not known": (
        [write("w1", 1, 2), read(1, 3, 4), write("w2", 5, 6, state=None)],
        [entry(1, purged=True, state=None), entry(2, state=None)],
    ),
    "a batch, all of it": (
        [write("w1", 1, 2, together="t"), write("w1b", 1, 2, id="b", version=1, state="s1")],
        [entry(1), entry(1, "w1b", id="b", position=2)],
    ),
    "a batch, none of it": (
        [write("w1", 1, together="t"), write("w2", 1, id="b", together="t")],
        [],
    ),
    "acknowledgements that tell no version": (
        [told("w2", 1, 6), read(1, 3, 4), told("w1", 2, 3), told("w1b", 5, 6, id="b")],
        [entry(1), entry(2), entry(1, "w1b", id="b", position=3)],
    ),
    "a key used twice, of which no version is told": (
        [told("w1", 1, 2, key="k"), told("w9", 3, 4, key="k"), read(1, 5, 6)],
        [entry(1, key="k")],
    ),
    "a key used twice, and purged": (
        [told("w1", 1, 2, key="k"), told("w9", 3, 4, key="k"), read(1, 5, 6), told("w8", 7, 8)],
        [erased(1), erased(2)],
    ),
    "a purge": (
        [write("w1", 1, 2), read(1, 3, 4), told("w9", 3, 6), read(0, 7, 8)],
        [erased(1), erased(2)],
    ),
    "a purge of what was told no version": (
        [told("w1", 1, 2), read(1, 3, 4), told("w9", 5, 6), read(0, 7, 8)],
        [erased(1), erased(2)],
    ),
    "purges, one after another": (
        [
            write("w1", 1, 2),
            told("w9", 3, 4),
            read(2, 5, 6, state=None),
            told("w8", 5, 8),
            read(0, 7, 8),
        ],
        [erased(1), erased(2), erased(3)],
    ),
    "a time when it did not exist": (
        [write("w1", 1, 2), read(0, 3, 4, kind="past")],
        [entry(1)],
    ),
    "a refusal by rule, of the version that was expected": (
        [write("w1", 1, 2), write("w9", 3, 4, told="refused", expected=1, version=1)],
        [entry(1)],
    ),
    "a commit that is seen as a whole, by one after another": (
        [
            write("w1", 1, 9, together="t"),
            write("w1b", 1, 9, id="b", version=1, state="s1", together="t"),
            read(0, 2, 5, id="b"),
            read(1, 4, 6),
            read(1, 6, 7, id="b"),
        ],
        [entry(1), entry(1, "w1b", id="b", position=2)],
    ),
    "two entities at one moment": (
        [
            write("w1", 1, 2),
            write("w2", 3, 4, id="b", version=1, state="s1"),
            read(1, 2, 3, together="r"),
            read(0, 2, 3, id="b", together="r"),
        ],
        [entry(1), entry(1, "w2", id="b", position=2)],
    ),
}


@pytest.mark.parametrize("history", SOUND.values(), ids=SOUND.keys())
def test_a_sound_history_passes(history: tuple[list[Operation], list[Entry]]) -> None:
    """Nothing is told of it."""
    assert check_history(*history) == []


BAD: dict[str, tuple[list[Operation], list[Entry], str]] = {
    "a hole in the versions": (
        [write("w1", 1, 2), write("w3", 3, 4)],
        [entry(1), entry(3)],
        "has the versions 1, 3",
    ),
    "a version twice": (
        [write("w1", 1, 2), write("w9", 3, 4)],
        [entry(1), entry(1, "w9", position=2)],
        "has the versions 1, 1",
    ),
    "versions that do not begin at 1": ([write("w2", 1, 2)], [entry(2)], "has the versions 2"),
    "acknowledged, and not in the log": (
        [write("w1", 1, 2), write("w2", 3, 4)],
        [entry(1)],
        "has no version 2, as was told",
    ),
    "acknowledged, and overwritten": (
        [write("w1", 1, 2), write("w9", 1, 3, version=1, state="s1")],
        [entry(1)],
        "acknowledged w9 as version 1, and it is not in the log",
    ),
    "acknowledged at another version": (
        [write("w1", 1, 9), write("w2", 1, 9, version=1, state="s1")],
        [entry(1), entry(2)],
        "acknowledged w2 as version 1, and it is version 2",
    ),
    "acknowledged with another state": (
        [write("w1", 1, 2, state="other")],
        [entry(1)],
        "was told to be 'other' at version 1, and the log says 's1'",
    ),
    "read with another state": (
        [write("w1", 1, 2), read(1, 3, 4, state="other")],
        [entry(1)],
        "was told to be 'other' at version 1",
    ),
    "in the log twice": (
        [write("w1", 1, 2)],
        [entry(1), entry(2, "w1")],
        "w1 is in the log twice",
    ),
    "in the log of two entities": (
        [write("w1", 1, 2)],
        [entry(1), entry(1, "w1", id="b", position=2)],
        "w1 is in the log twice",
    ),
    "in the log of another entity": (
        [write("w1", 1)],
        [entry(1, id="b")],
        "has version 1 of m 'a'",
    ),
    "refused, and in the log": (
        [write("w1", 1, 2, told="refused")],
        [entry(1)],
        "was refused w1, and version 1 holds it",
    ),
    "issued by nobody": ([], [entry(1)], "has version 1 (w1), which nobody issued"),
    "without a name": (
        [],
        [Entry(position=1, machine="m", id="a", version=1, name=None)],
        "nobody",
    ),
    "a key twice": (
        [write("w1", 1, 2, key="k"), write("w2", 3, 4, key="k")],
        [entry(1, key="k"), entry(2, key="k")],
        "has the key 'k' at 1 and at 2",
    ),
    "another key than was given": (
        [write("w1", 1, 2, key="k")],
        [entry(1, key="other")],
        "has version 1 with the key 'other', not 'k'",
    ),
    "a key answered with another's result": (
        [write("w1", 1, 2, key="k"), write("w9", 3, 4, key="j", version=1, state="s1")],
        [entry(1, key="k")],
        "acknowledged w9 as version 1, and it is not in the log",
    ),
    "an expected version that was not there": (
        [write("w1", 1, 2), write("w2", 3, 4, expected=0)],
        [entry(1), entry(2)],
        "has version 2, which was to follow 0",
    ),
    "a stale read": (
        [write("w1", 1, 2), write("w2", 3, 4), read(1, 5, 6)],
        [entry(1), entry(2)],
        "version 2 was told of by 4",
    ),
    "a read that goes back": (
        [write("w1", 1, 2), write("w2", 3), read(2, 4, 5), read(1, 6, 7)],
        [entry(1), entry(2)],
        "version 2 was told of by 5",
    ),
    "a read of the future": (
        [write("w1", 1, 2), read(2, 3, 4), write("w2", 5, 6)],
        [entry(1), entry(2)],
        "version 2 was told of by 4",
    ),
    "a write that came before one that was answered": (
        [write("w1", 5, 6), write("w2", 1, 2)],
        [entry(1), entry(2)],
        "version 1 was told of by 2",
    ),
    "a conflict with what was not there any more": (
        [
            write("w1", 1, 2),
            write("w2", 3, 4),
            write("w9", 5, 6, told="refused", expected=0, version=1),
        ],
        [entry(1), entry(2)],
        "version 2 was told of by 4",
    ),
    "absence of what is there": (
        [write("w1", 1, 2), read(0, 3, 4)],
        [entry(1)],
        "was told not to exist while it was not so",
    ),
    "absence between two lives, told too late": (
        [
            write("w1", 1, 2),
            write("w2", 3, 4, state=None),
            write("w3", 5, 6),
            read(0, 7, 8),
        ],
        [entry(1), entry(2, state=None), entry(3)],
        "was told not to exist while it was not so",
    ),
    "a refusal that tells of a state that was left": (
        [
            write("w1", 1, 2),
            write("w2", 3, 4),
            write("w9", 5, 6, told="refused", saw="Open"),
        ],
        [entry(1, state_type="Open"), entry(2, state_type="Closed")],
        "was told to be Open while it was not so",
    ),
    "a refusal that tells of no entity where there is one": (
        [write("w1", 1, 2), write("w9", 3, 4, told="refused", saw="")],
        [entry(1, state_type="Open")],
        "was told not to exist while it was not so",
    ),
    "an old version that was not there yet": (
        [read(1, 1, 2, kind="past"), write("w1", 3, 4)],
        [entry(1)],
        "version 1 was told of by 2",
    ),
    "half a batch": (
        [write("w1", 1, together="t"), write("w2", 1, id="b", together="t")],
        [entry(1)],
        "t was written in part: w2 is not in the log",
    ),
    "two entities at no one moment": (
        [
            write("w1", 1, 2),
            write("w2", 1, 2, id="b", version=1, state="s1"),
            read(0, 0, 5, together="r"),
            read(1, 0, 5, id="b", together="r"),
        ],
        [entry(1), entry(1, "w2", id="b", position=2)],
        "which was not so at any one moment",
    ),
    "acknowledged without a version, and not in the log": (
        [write("w1", 1, 2, version=None, state=None)],
        [],
        "acknowledged w1, and it is not in the log",
    ),
    "a conflict with what never was": (
        [write("w1", 1, 2), write("w9", 3, 4, told="refused", expected=0, version=7)],
        [entry(1)],
        "has no version 7, as was told",
    ),
    "half a batch that is read": (
        [
            write("w1", 1, 2, together="t"),
            write("w2", 1, 2, id="b", version=1, state="s1", together="t"),
            read(1, 1, 2, together="r"),
            read(0, 1, 2, id="b", together="r"),
        ],
        [entry(1), entry(1, "w2", id="b", position=2)],
        "which was not so at any one moment",
    ),
    "versions that are in the log the wrong way round": (
        [write("w1", 1, 2), write("w2", 3, 4)],
        [entry(1, position=2), entry(2, position=1)],
        "has version 2 at 1, not after 2",
    ),
    "an effect before its cause": (
        [write("w1", 1, 2), write("w2", 3, 4, id="b", version=1, state="s1")],
        [entry(1, position=2), entry(1, "w2", id="b", position=1)],
        "was there before it",
    ),
    "two batches, each before the other": (
        [
            write("w1", 1, 9, together="t"),
            write("w2b", 1, 9, id="b", together="t"),
            write("w2", 1, 9, together="u"),
            write("w1b", 1, 9, id="b", together="u"),
        ],
        [
            entry(1),
            entry(2),
            entry(1, "w1b", id="b", position=3),
            entry(2, "w2b", id="b", position=4),
        ],
        "were each written before the other",
    ),
    "a refusal that tells of a state which another one saw left": (
        [
            write("w1", 0),
            write("w2", 0),
            write("w9", 1, 2, told="refused", saw="Open"),
            write("w8", 3, 4, told="refused", saw="Closed"),
            write("w7", 5, 6, told="refused", saw="Open"),
        ],
        [entry(1, state_type="Open"), entry(2, state_type="Closed")],
        "was told to be Open while it was not so (write w7",
    ),
    "absence of what was seen, whoever wrote it": (
        [write("w1", 0), write("w9", 1, 2, told="refused", saw="Open"), read(0, 3, 4)],
        [entry(1, state_type="Open")],
        "was told not to exist while it was not so",
    ),
    "a stale read after an acknowledgement that told no version": (
        [write("w1", 1, 2), told("w2", 3, 4), read(1, 5, 6)],
        [entry(1), entry(2)],
        "version 2 was told of by 4 (write w2",
    ),
    "absence after an acknowledgement that told no version": (
        [told("w1", 1, 2), read(0, 3, 4)],
        [entry(1)],
        "was told not to exist while it was not so",
    ),
    "acknowledged without a version before what it follows was sent": (
        [told("w2", 1, 2), told("w1", 5, 6)],
        [entry(1), entry(2)],
        "version 1 was told of by 2 (write w2",
    ),
    "acknowledged without a version, and behind what was sent later": (
        [told("w1", 1, 2), told("w1b", 5, 6, id="b")],
        [entry(1, "w1b", id="b"), entry(1, position=2)],
        "version 1 is in the log behind version 1 of m 'b', and was there before it",
    ),
    "a key acknowledged before it was used": (
        [write("w1", 5, 6, key="k"), told("w9", 1, 2, key="k")],
        [entry(1, key="k")],
        "version 1 was told of by 2 (write w9",
    ),
    "a stale read after a purge": (
        [write("w1", 1, 2), told("w9", 3, 4), read(1, 5, 6)],
        [erased(1), erased(2)],
        "version 2 was told of by 4 (write w9",
    ),
    "a stale read after the second of two purges": (
        [told("w9", 1, 4), told("w8", 3, 6), read(1, 7, 8, state=None)],
        [erased(1), erased(2)],
        "version 2 was told of by 6 (write w8",
    ),
    "a read of what was purged, before it was sent": (
        [read(1, 1, 2), write("w1", 3, 4)],
        [erased(1)],
        "version 1 was told of by 2 (read by r",
    ),
    "a key of what was purged, acknowledged before anything was sent": (
        [told("w9", 1, 2, key="k"), write("w1", 3, 4)],
        [erased(1)],
        "version 1 was told of by 2 (write w9",
    ),
    "acknowledged more often than anything was purged": (
        [told("w1", 1, 2), told("w8", 3, 4), told("w9", 5, 6)],
        [erased(1), erased(2)],
        "acknowledged w9, and it is not in the log",
    ),
    "absence of what is in the log before what was there": (
        [
            write("w1b", 0, id="b"),
            write("w1", 0, 5),
            read(0, 10, 11, id="b"),
        ],
        [entry(1, "w1b", id="b"), entry(1, position=2)],
        "version 1 is in the log behind version 1 of m 'b', and was there before it",
    ),
    "a state that was left by what is in the log before what was there": (
        [
            write("w1", 0, 1),
            write("w2", 0),
            write("w1b", 0, 5, id="b", version=1, state="s1"),
            write("w9", 10, 11, told="refused", saw="Open"),
        ],
        [
            entry(1, state_type="Open"),
            entry(2, state_type="Closed"),
            entry(1, "w1b", id="b", position=3),
        ],
        "version 1 is in the log behind version 2 of m 'a', and was there before it",
    ),
    "a transaction whose read had changed": (
        [
            write("w1", 1, 2),
            write("w2", 0, 4, id="b", version=1, state="s1", together="t"),
            read(0, 0, 1, together="t"),
        ],
        [entry(1), entry(1, "w2", id="b", position=2)],
        "t read 'a' at 0, which was not so right before what it wrote",
    ),
}


@pytest.mark.parametrize("history", BAD.values(), ids=BAD.keys())
def test_a_bad_history_is_told(history: tuple[list[Operation], list[Entry], str]) -> None:
    """By a sentence that names the entity and what contradicts what."""
    operations, log, words = history
    faults = check_history(operations, log)
    assert any(words in fault for fault in faults), faults


TORN: dict[str, list[Operation]] = {
    "by reads": [read(1, 4, 5), read(1, 7, 8, id="c"), read(0, 7, 8, id="b")],
    "by a refusal": [read(1, 4, 5), write("w9", 7, 8, told="refused", version=0, id="b")],
    "by a state": [read(1, 4, 5), write("w9", 7, 8, told="refused", saw="", id="b")],
    "with the commit after it": [read(2, 4, 5, id="c"), read(0, 7, 8, id="a")],
    "with the commit before it": [
        read(1, 4, 5, id="b", kind="past"),
        read(0, 7, 8, id="c"),
    ],
}


@pytest.mark.parametrize("answers", TORN.values(), ids=TORN.keys())
@pytest.mark.parametrize("in_commit_order", [True, False])
def test_a_commit_that_is_seen_in_part_is_told(
    answers: list[Operation], *, in_commit_order: bool
) -> None:
    """One entity of it by one client, and later another as it was before by another client."""
    operations = [
        write("w1", 1, 20, together="t"),
        write("w1b", 1, 20, id="b", version=1, state="s1", together="t"),
        write("w1c", 1, 20, id="c", version=1, state="s1", together="t"),
        write("w2c", 1, 20, id="c", together="u"),
        write("w1d", 1, 20, id="d", version=1, state="s1", together="u"),
        *answers,
    ]
    log = [
        entry(1),
        entry(1, "w1b", id="b", position=2),
        entry(1, "w1c", id="c", position=3),
        entry(2, "w2c", id="c", position=4),
        entry(1, "w1d", id="d", position=5),
    ]
    faults = check_history(operations, log, in_commit_order=in_commit_order)
    assert any("was told of by 5 (" in f and "not be there before 7 (" in f for f in faults), faults
    sooner = [msgspec.structs.replace(o, began=2) for o in answers]
    assert check_history([*operations[:5], *sooner], log, in_commit_order=in_commit_order) == []


def test_positions_need_not_be_in_the_order_of_the_commits() -> None:
    """Where the caller says so, any moment will do at which no commit was there in part."""
    operations = [
        write("w1", 1, 10),
        write("w2", 1, 10, id="b", version=1, state="s1"),
        read(0, 2, 5, together="r"),
        read(1, 2, 5, id="b", together="r"),
    ]
    log = [entry(1), entry(1, "w2", id="b", position=2)]
    assert len(check_history(operations, log)) == 1
    assert check_history(operations, log, in_commit_order=False) == []


@pytest.mark.parametrize(
    ("began", "together"), [(1, "t"), (3, None)], ids=["half a commit", "not what came before"]
)
def test_some_reads_no_moment_explains(began: float, together: str | None) -> None:
    """Whatever the order of the commits was."""
    operations = [
        write("w1", 1, 2, together=together),
        write("w2", began, 9, id="b", version=1, state="s1", together=together),
        read(0, 0, 8, together="r"),
        read(1, 0, 8, id="b", together="r"),
    ]
    log = [entry(1), entry(1, "w2", id="b", position=2)]
    [fault] = check_history(operations, log, in_commit_order=False)
    assert "which was not so at any one moment" in fault


def test_what_commits_late_may_be_in_the_log_before_what_it_did_not_cause() -> None:
    """Where positions are not in the order of the commits; but not before what caused it."""
    operations = [
        write("w2", 0, 9),
        write("w1", 0, 1),
        write("w3", 1, 2, id="b", version=1, state="s1"),
        read(1, 3, 4),
    ]
    log = [entry(1), entry(2), entry(1, "w3", id="b", position=3)]
    assert len(check_history(operations, log)) == 1
    assert check_history(operations, log, in_commit_order=False) == []
    operations[0].began = 5
    [fault] = check_history(operations, log, in_commit_order=False)
    assert "was there before it" in fault


def test_what_was_read_holds_until_it_is_written() -> None:
    """Not only at some moment before, whatever the order of the commits was."""
    operations = [
        write("w1", 1, 2),
        read(0, 0, 1, together="t"),
        write("w2", 1, 4, id="b", version=1, state="s1", together="t"),
    ]
    log = [entry(1), entry(1, "w2", id="b", position=2)]
    assert check_history(operations, log, in_commit_order=False) == []
    operations[2].began = 3
    [fault] = check_history(operations, log, in_commit_order=False)
    assert "which was not so right before what it wrote" in fault


def test_what_has_no_answer_is_there_once_its_successor_is() -> None:
    """A moment without it is none at which something later was there."""
    operations = [
        write("w1", 0, 1),
        write("w2", 0),
        write("w3", 1, 2),
        write("w4", 3, 4, id="b", version=1, state="s1"),
        read(1, 0, 9, together="r"),
        read(1, 0, 9, id="b", together="r"),
    ]
    log = [entry(1), entry(2), entry(3), entry(1, "w4", id="b", position=4)]
    [fault] = check_history(operations, log, in_commit_order=False)
    assert "which was not so at any one moment" in fault


@pytest.mark.parametrize(("version", "is_sound"), [(0, True), (11, False)])
def test_many_deleted_entities_are_read_at_one_moment(version: int, *, is_sound: bool) -> None:
    """However many ways there are to understand that none was there; the last was there, or not."""
    operations, log = [write("w1", 1_290, 1_291)], [entry(1, position=2_000)]
    for place, id in enumerate("bcdef"):
        for number in range(1, 13):
            state = None if number % 2 == 0 else f"s{number}"
            name, began = f"{id}{number}", 100 * number + 2 * place
            told = {"version": number, "state": state, "id": id}
            operations.append(write(name, began, began + 1, **told))
            log.append(entry(number, name, id=id, state=state, position=began))
    operations += [read(0, 1_150, 1_300, id=id, together="r") for id in "bcde"]
    operations += [read(version, 1_150, 1_300, id="f", together="r")]
    operations += [read(1, 1_150, 1_300, together="r")]
    faults = check_history(operations, log, in_commit_order=False)
    assert [("which was not so at any one moment" in fault) for fault in faults] == (
        [] if is_sound else [True]
    )


@pytest.mark.parametrize(
    ("reads", "when"),
    [
        ([read(1, 0, 9, together="t"), read(2, 0, 9, together="t")], "at any one moment"),
        ([read(7, 0, 9, together="t")], "at any one moment"),
        (
            [read(2, 0, 9, together="t"), write("w2", 0, 9, together="t")],
            "right before what it wrote",
        ),
    ],
    ids=["two versions at once", "a version that is not there", "what itself wrote"],
)
def test_no_moment_shows_what_none_could(reads: list[Operation], when: str) -> None:
    """Whatever the order of the commits was."""
    writes = {o.name: o for o in (write("w1", 0, 9), write("w2", 0, 9), *reads) if o.name}
    operations = [*writes.values(), *(o for o in reads if not o.name)]
    faults = check_history(operations, [entry(1), entry(2)], in_commit_order=False)
    assert any(f"which was not so {when}" in fault for fault in faults), faults


@pytest.mark.parametrize("history", SOUND.values(), ids=SOUND.keys())
def test_a_sound_history_passes_whatever_its_positions_say(
    history: tuple[list[Operation], list[Entry]],
) -> None:
    """What holds in the order of the commits holds without it."""
    assert check_history(*history, in_commit_order=False) == []


@pytest.mark.parametrize("history", BAD.values(), ids=BAD.keys())
def test_the_order_in_which_a_history_is_given_does_not_matter(
    history: tuple[list[Operation], list[Entry], str],
) -> None:
    """Clients wrote their files apart."""
    operations, log, words = history
    faults = check_history(reversed(operations), reversed(log))
    assert any(words in fault for fault in faults), faults


def test_names_must_tell_writes_apart() -> None:
    """Else nothing could be told from the log."""
    with pytest.raises(ValueError, match="two writes have the name 'w1'"):
        check_history([write("w1", 1, 2), write("w1", 3, 4)], [])


MALFORMED: dict[str, tuple[Operation, str]] = {
    "done, and not ended": (
        write("w1", 1, told="done", version=1, state="s1"),
        "the write w1 by c, 1 to no answer, done, version 1, on m 'a', .* has no `ended`",
    ),
    "refused, and not ended": (write("w1", 1, told="refused"), "refused and has no `ended`"),
    "ended before it began": (write("w1", 2, 1), "that is not after its `began`"),
    "no time": (write("w1", float("nan")), "that is not after its `began`"),
    "of no known kind": (write("w1", 1, 2, kind="reed"), "none of write, read, past"),
    "told what is no answer": (write("w1", 1, 2, told="ok"), "told none of done, refused"),
    "acknowledged as version 0": (
        write("w1", 1, 2, version=0, state=None),
        "acknowledged as version 0; versions begin with 1",
    ),
    "acknowledged below 0": (write("w1", 1, 2, version=-1), "was told version -1"),
    "a state of no entity": (read(0, 1, 2, state="s1"), "`state` without a version"),
    "a state of no version": (
        write("w1", 1, 2, version=None),
        "`state` without a version",
    ),
    "a state without an answer": (write("w1", 1, state="s1"), "`state` without a version"),
    "a version without an answer": (write("w1", 1, version=1), "is not known to be done"),
    "a read of nothing": (
        msgspec.structs.replace(read(0, 1, 2), version=None),
        "tells no `version`",
    ),
    "a write without a name": (
        Operation(client="c", machine="m", id="a", began=1),
        "a write without a `name`",
    ),
    "a read with a name": (read(0, 1, 2, name="w1"), "is no write and has `name`"),
    "a read under a key": (read(0, 1, 2, key="k"), "is no write and has `key`"),
    "a read that expects": (read(0, 1, 2, expected=0), "is no write and has `expected`"),
    "expected below 0": (write("w1", 1, 2, expected=-1), "expects version -1"),
    "saw a state without a refusal": (write("w1", 1, 2, saw="Open"), "has `saw`"),
}


@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("in_commit_order", [True, False])
def test_an_operation_that_contradicts_itself_is_refused(
    malformed: tuple[Operation, str], *, in_commit_order: bool
) -> None:
    """Taken as it is, part of it would not be held against anything."""
    operation, words = malformed
    with pytest.raises(ValueError, match=words) as error:
        check_history([operation], [entry(1)], in_commit_order=in_commit_order)
    assert f"{operation.kind} {operation.name or 'by'}" in str(error.value)
    assert "on m 'a'" in str(error.value)


def test_the_log_of_a_store_is_read_whole() -> None:
    """In pages; the name of a write is found in the metadata, or wherever the caller says."""
    with open_store("memory://") as store:
        service = Service(sample, store, deps=undisturbed)
        many = [Request("a", Add(), metadata={"name": f"w{n}"}) for n in range(1, 1_201)]
        service.handle_many(many)
        log = log_entries(store)
        assert [e.name for e in log] == [f"w{n}" for n in range(1, 1_201)]
        assert {e.state_type for e in log} == {"Open"}
        keyed = log_entries(store, name=lambda row: f"{row.id}-{row.version}")
        assert keyed[7].name == "a-8"


def test_operations_and_entries_are_json() -> None:
    """So that clients can write them to files of their own."""
    for value in (write("w1", 1, 2, key="k"), read(1, 3, 4), entry(1)):
        text = msgspec.json.encode(value)
        assert msgspec.json.decode(text, type=type(value)) == value


def test_a_long_history_is_checked_as_one() -> None:
    """Tens of thousands of operations on one entity; the last is stale by one version."""
    operations: list[Operation] = []
    for n in range(1, MANY + 1):
        told = {"version": n, "state": f"s{n}"}
        operations.append(write(f"w{n}", 4 * n, 4 * n + 1, **told))
        operations.append(read(n, 4 * n + 2, 4 * n + 3))
    log = [entry(n) for n in range(1, MANY + 1)]
    assert check_history(operations, log) == []
    operations.append(read(MANY - 1, 4 * MANY + 4, 4 * MANY + 5))
    [fault] = check_history(operations, log)
    assert f"version {MANY} was told of by {4 * MANY + 1}" in fault

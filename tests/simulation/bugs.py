"""The bugs that the simulation must find: each breaks one promise of the service or of a store."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace
from tests.simulation.planting import SQL, Change

from holdfast.service.requests import Commit, Load, Plan
from holdfast.stores.contract import Key, Outcome, Write

MEMORY, SQLITE, FILE = "memory://", "sqlite:///:memory:", "sqlite:///"


class Bug(NamedTuple):
    """Changes of the code, and the stores on which they show."""

    changes: Sequence[Change]
    stores: Sequence[str] = (MEMORY, SQLITE)


def in_memory(right: str, wrong: str) -> Bug:
    """Return a bug of the store in memory."""
    where = "stores.memory" if re.search("checks or", right) else "stores.tables"
    return Bug([Change(where, right, wrong)], [MEMORY])


def in_sqlite(right: str, wrong: str) -> Bug:
    """Return a bug of the store on SQLite."""
    return Bug([Change("stores.sqlite", right, wrong)], [SQLITE])


def in_query(name: str, right: str, wrong: str) -> Bug:
    """Return a bug of a query of SQLite."""
    return Bug([Change(f"{SQL}{name}", right, wrong)], [SQLITE])


def in_service(right: str, wrong: str, **names: Any) -> Bug:
    """Return a bug of the service, which shows on any store."""
    return Bug([Change("service", right, wrong, names)])


def in_stores(right: str, wrong: str) -> Bug:
    """Return a bug in what all stores share."""
    return Bug([Change("stores", right, wrong)])


def restamped(asked: Commit) -> Plan[list[Outcome]]:
    """Commit again what was decided on an old version, as if it had been on the new one."""
    loaded = yield Load([Key(machine, id) for machine, id in asked.entities])
    stamped = [_on(write, each.entity) for write, each in zip(asked.writes, loaded, strict=True)]
    outcomes: list[Outcome] = yield Commit(stamped)
    return outcomes


def _on(write: Write, row: Any) -> Write:
    if row is None or row.version == write.expected:
        return write
    rise = row.version - write.expected
    return replace(
        write,
        expected=row.version,
        previous_digest=row.digest,
        entity=replace(write.entity, version=write.entity.version + rise),
        log=tuple(replace(entry, version=entry.version + rise) for entry in write.log),
    )


def looked_up(asked: Commit) -> Plan[list[Outcome]]:
    """Answer a commit by what is there: where it is not there yet, it never will be."""
    loaded = yield Load([Key(machine, id) for machine, id in asked.entities])
    outcomes = [
        Outcome(
            each.entity is not None and each.entity.state == write.entity.state,
            0 if each.entity is None else each.entity.version,
        )
        for write, each in zip(asked.writes, loaded, strict=True)
    ]
    return [*outcomes, *acknowledged(asked)[len(outcomes) :]]


def acknowledged(asked: Commit) -> list[Outcome]:
    """Answer a commit as if it had been written."""
    written = [Outcome(True, write.entity.version) for write in asked.writes]
    checked = [Outcome(True, check.version) for check in asked.checks]
    moved = [] if asked.checkpoint is None else [Outcome(True, asked.checkpoint.position)]
    return [*written, *checked, *moved]


BUGS = {
    "no version check in memory": in_memory(r"\bversion == write\.expected", "True"),
    "no version check on SQLite": in_query(
        "update_entity", r"AND version = (\?|:expected)", r"AND \1 IS NOT NULL"
    ),
    "no token in memory": in_memory(r"\.token == first\.token", ".token is first"),
    "no token on SQLite": in_sqlite(r"stored\[0\] == first\.token", "False"),
    "any token is one's own": in_memory(r"\.token == first\.token", ".token is not None"),
    "acknowledged before the commit": Bug(
        [
            Change(
                "stores.sqlite",
                r'(cursor\.execute\("BEGIN IMMEDIATE"\)[^~]*?)'
                r"(try:\s+)cursor\.execute\(\"COMMIT\"\)",
                r'connection.in_transaction and cursor.execute("COMMIT"); \1\2pass',
            ),
        ],
        [FILE],
    ),
    "a lost acknowledgement taken for a commit": in_service(
        r"outcomes = yield from commit_again\([^)]*\)\n",
        "outcomes = acknowledged(asked)\n",
        acknowledged=acknowledged,
    ),
    "a lost acknowledgement of one call taken for a commit": in_service(
        r"\[outcome\] = yield from commit_again\([^)]*\)\n",
        "[outcome] = acknowledged(asked)\n",
        acknowledged=acknowledged,
    ),
    "a lost acknowledgement taken for a failure": in_service(
        r"outcomes = yield from commit_again\([^)]*\)\n", "raise\n"
    ),
    "a lost acknowledgement of one call taken for a failure": in_service(
        r"\[outcome\] = yield from commit_again\([^)]*\)\n", "raise\n"
    ),
    "an unknown outcome told as a success": in_service(
        r"raise OutcomeUnknownError\([^~]*\) from \w+",
        "return acknowledged(asked)",
        acknowledged=acknowledged,
    ),
    "a lost commit looked up, not sent again": in_service(
        r"(outcomes: list\[Outcome\] =) yield (again\b)",
        r"\1 yield from looked_up(\2)",
        looked_up=looked_up,
    ),
    "a stale decision stamped anew": in_service(
        r"conflict = first_conflict\(asked, outcomes\)\n    if conflict is None",
        "if terms.checkpoint is None and any(not outcome.applied for outcome in outcomes):\n"
        "        outcomes = yield from restamped(asked)\n"
        "    \\g<0>",
        restamped=restamped,
    ),
    "a stale decision of one call stamped anew": in_service(
        r"if not outcome\.applied:(\n +late)",
        "if not outcome.applied:\n"
        "            [outcome] = yield from restamped(asked)\n"
        "        if not outcome.applied:\\1",
        restamped=restamped,
    ),
    "a conflict of one call passed over": in_service(
        r"if not outcome\.applied:(\n +late)", r"if False:\1"
    ),
    "the log without the entity": in_memory(
        r"self\.entities\[name\] = write\.entity", "self.entities.setdefault(name, write.entity)"
    ),
    "the entity without the log": in_sqlite(
        r"for row in log:(\n        seq)", r"for row in log[1:] or log:\1"
    ),
    "no rollback of half a batch": in_sqlite(r"raise KeptBack\(settled\)", "return settled"),
    "half a batch in memory": in_memory(
        r"if atomic or checks or is_late else None", "if checks or is_late else None"
    ),
    "a refused command asked again": in_service(
        r"if not terms\.tolerate\([^)]*\):",
        "if not decision.writes and attempts.made < 3:\n"
        "            attempts.made += 1\n"
        "            return (yield from _attempt(binding, groups, tokens, terms, attempts))\n"
        "        \\g<0>",
    ),
    "the version in 8 bits": in_service(
        r"version = before\.version \+ 1", "version = (before.version + 1) % 256"
    ),
    "a key looked up for any entity in memory": in_memory(
        r"self\._keys\.get\(\(machine, id, key\)\)",
        "next((i for (m, _, k), i in self._keys.items() if (m, k) == (machine, key)), None)",
    ),
    "a key looked up for any entity on SQLite": in_query(
        "load_key", r"AND id = (\?|:id)", r"AND \1 IS NOT NULL"
    ),
    "a key not looked up": in_service(r"if key in draft\.made:", "return None\n    \\g<0>"),
    "answers of a lockstep swapped": in_service(
        r"answer\[start : start \+ size\]",
        "answer[len(answer) - start - size : len(answer) - start]",
    ),
    "answers of coalesced calls swapped": in_service(
        r"self\._answers \+= zip\(tickets, result,", "self._answers += zip(tickets, result[::-1],"
    ),
    "a call begun that its caller gave up": in_service(
        r"if queue\[0\]\.future\.done\(\):", "if queue[0] in dropped:"
    ),
    "a hook that sees the attempt before": in_service(
        r"yield Notify\(terms\.before_commit, decision\.answers\)",
        "if attempts.made == 0: \\g<0>",
    ),
    "answers of a batch swapped": in_service(r"zip\(self\._places,", "zip(sorted(self._places),"),
    "the conflict of a batch lost": in_service(
        r"(for place, write, outcome in zip[^~]*)if not outcome\.applied",
        r"\1if not outcome.applied and len(writes) == 1",
    ),
    "what a transaction read may change": in_service(r"checks=checks, atomic", "checks=(), atomic"),
    "an expected version not looked at": in_service(
        r"if call\.expected_version is not None and call", "if False and call"
    ),
    "a deletion forgets the version": in_memory(
        r"self\.entities\[name\] = write\.entity",
        "\\g<0>\n"
        "        if write.entity.state is None:\n"
        "            del self.entities[name], self.order[self.order.index(name)]",
    ),
    "a checkpoint moves from anywhere": in_stores(r"due = position[^\n]*\n", "due = True\n"),
    "a checkpoint moves without its batch": in_service(
        r"len\(decision\.writes\) > 1 or self\.checkpoint is not None", "False"
    ),
    "the digest leaves out what was before": in_stores(r"\n        previous,", '\n        "",'),
    "the next command sees the state before the last": in_service(
        r"(to_type,\n +)text(,\n +SCHEMA_VERSION,\n +created_at)", r"\1before.state or text\2"
    ),
    "a hook's error passed over": in_service(
        r"raise KeptBack\(HookRaised\(decided, error\)\) from None", "return"
    ),
    "hooks after the write left out": in_service(
        r"yield from self\._call\(self\.after, here\)", "pass"
    ),
    "a guard's refusal passed over": in_service(r"raise refusal\b", "pass"),
    "what a hook undid acknowledged": in_service(
        r"return outcomes\.among\([^)]*\)", "return decision.answers"
    ),
    "what a hook undid taken for a refusal": in_service(r"error is undone or not", "not"),
    "what follows a commit called without one": in_service(
        r"if trail\.commit is not None:", "if True:"
    ),
    "what follows a commit called for every attempt": in_service(
        r"(outcomes\)\n)(    if conflict is None:)",
        r"\1    if conflict:\n        yield from after_commit(binding, decision.decided)\n\2",
    ),
    "what a hook undid kept in memory": in_memory(
        r"for place, stored in mark\.log\.items\(\):", "return self.keep(mark)\n        \\g<0>"
    ),
}

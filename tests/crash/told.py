"""What a run of the harness tells, from its process to the test."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Self

import msgspec

MOST = 20
PATIENCE_SECONDS = 150.0
"""How long a run may take on a machine that has much else to do; it takes some seconds."""

LOST = r"has no version \d+, as was told \(write .* done|acknowledged .*, and it is not in the log"
"""What the checker says of a write that was acknowledged and is not there.

Another one may have its version meanwhile.
"""

Record = Callable[[str, object], None]
"""As the fixture `record_property` is one."""


class Told(msgspec.Struct):
    """What a run came to."""

    violations: list[str]
    counts: dict[str, int]

    def show(self) -> None:
        """Print it, some of each kind first, without what would be too much to read."""
        first = {_kind_of(violation): violation for violation in reversed(self.violations)}
        shown = dict.fromkeys([*reversed(first.values()), *self.violations])
        told = Told([*shown][:MOST], self.counts)
        print(msgspec.json.encode(told, order="sorted").decode())

    def keep(self, record: Record) -> Self:
        """Put what was seen on record, also where it does not hold."""
        record("seen", {**self.counts, "violations": len(self.violations)})
        return self

    def expect_sound(self, least: Mapping[str, int]) -> None:
        """Hold it to the promises, and to having seen enough to tell."""
        assert self.violations == []
        seen = {what: self.counts.get(what, 0) for what in least}
        assert {w: n for w, n in seen.items() if n < least[w]} == {}, "too little was seen"

    def expect_violation(self, words: str) -> None:
        """Hold it to having found what a bug does; something else does not show that it was."""
        assert any(re.search(words, violation) for violation in self.violations), self.violations


def _kind_of(violation: str) -> str:
    return re.sub(r"'[^']*'|[\w.-]*\d[\w.-]*", "", violation)

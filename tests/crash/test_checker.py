"""What the checker makes of the files of workers."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.crash.checker import faults_of_sums
from tests.crash.journal import Journal, lines_in
from tests.crash.machines import Total
from tests.crash.told import MOST, Told
from tests.crash.workloads import ACCOUNTS

from holdfast import Record
from holdfast.stores import utc_now
from holdfast.testing import Operation


def looked(journal: Path, totals: list[int]) -> None:
    """Write down a look at all accounts, and what it was told."""
    reads = [
        Operation(client="w", machine="account", id=id, kind="read", began=0, together="look")
        for id in ACCOUNTS
    ]
    written_down = Journal(journal)
    now = utc_now()
    answer = {
        id: Record("account", id, 1, Total(total), now, now)
        for id, total in zip(ACCOUNTS, totals, strict=True)
    }
    written_down.told(written_down.asked(reads, "account.get_many"), answer)


def sums(journal: Path) -> list[str]:
    return list(faults_of_sums([line.operation for line in lines_in(journal)], []))


def test_a_sum_that_moved_is_told(tmp_path: Path) -> None:
    """Of what one look saw."""
    looked(tmp_path / "right", [3, -5, 0, 2])
    looked(tmp_path / "wrong", [3, -5, 0, 1])
    assert sums(tmp_path / "right") == []
    assert sums(tmp_path / "wrong") == ["look: the accounts hold -1 together, and began with 0"]


def test_a_look_that_was_cut_short_is_none(tmp_path: Path) -> None:
    """Its worker was killed in the midst of writing down what it saw."""
    looked(tmp_path / "w", [3, -5, 0, 2])
    text = (tmp_path / "w").read_bytes()
    (tmp_path / "w").write_bytes(text[:-300])
    assert [line.operation.told for line in lines_in(tmp_path / "w")].count("done") in (1, 2, 3)
    assert sums(tmp_path / "w") == []


def test_a_bug_is_found_where_what_it_does_is_told() -> None:
    """A harness that takes everything for a violation has found nothing."""
    lost = r"has no version \d+, as was told"
    Told(["something", "keyed 'k1' has no version 7, as was told (write w1)"], {}).expect_violation(
        lost
    )
    for violations in ([], ["something is wrong"]):
        with pytest.raises(AssertionError):
            Told(violations, {}).expect_violation(lost)


def test_some_of_each_kind_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """However many there are of another kind before it."""
    many = [f"counter 'm{n}': the digest of version {n} does not follow" for n in range(100)]
    Told([*many, "look w1.2: the accounts hold -3 together"], {}).show()
    shown = capsys.readouterr().out
    assert shown.count("digest") == MOST - 1
    assert "m0" in shown
    assert "the accounts hold -3" in shown

"""What the checker makes of the files of workers."""

from __future__ import annotations

from pathlib import Path

from tests.crash.checker import faults_of_sums
from tests.crash.journal import Journal, lines_in
from tests.crash.machines import Total
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

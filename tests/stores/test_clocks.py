"""The clock of a store: what it may be, and what is said of one that tells no moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from holdfast import Command, Machine, Service, State, StoreError, open_store


class On(State):
    until: datetime | None = None


class Turn(Command):
    until: datetime | None = None


lamp = Machine("lamp", state=On, command=Turn)


@lamp.on
def turn(state: On | None, command: Turn) -> On:
    return On(command.until)


URLS = pytest.mark.parametrize("name", ["memory://", "sqlite:///{}/lamps.db"])


@URLS
@pytest.mark.parametrize("told", [datetime(2026, 1, 1), "2026-01-01", 5.0, None], ids=repr)  # noqa: DTZ001
def test_a_clock_that_tells_no_moment_is_refused(tmp_path: Path, name: str, told: Any) -> None:
    """A time without a zone is not read as this machine's local time, and nothing is written."""
    times: list[Any] = [told]
    url = name.format(tmp_path)
    with open_store(url, clock=lambda: times[-1]) as store:
        lamps = Service(lamp, store)
        with pytest.raises(StoreError, match=r"clock of the store returned .* with a time zone"):
            lamps.handle("a", Turn())
        times.append(datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2))))
        record = lamps.handle("a", Turn())
    assert (record.version, record.created_at) == (1, datetime(2025, 12, 31, 22, tzinfo=UTC))


class Frozen(datetime):
    """As the libraries that freeze time, or that reckon with it, derive one."""


@URLS
def test_a_time_of_a_derived_class_is_a_time(tmp_path: Path, name: str) -> None:
    """From the clock, from an import, and in a state."""
    frozen = Frozen(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    now = datetime(2026, 1, 1, 10, tzinfo=UTC)
    with open_store(name.format(tmp_path), clock=lambda: frozen) as store:
        lamps = Service(lamp, store)
        assert lamps.handle("a", Turn()).created_at == now
        assert lamps.handle("a", Turn(), at=frozen).updated_at == now
        assert lamps.handle("b", Turn(until=frozen)).state.until == now
        assert [transition.at for transition in lamps.history("a")] == [now, now]
        assert type(lamps.get("a").created_at) is datetime


@URLS
@pytest.mark.parametrize(
    "told",
    [
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))),
        datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5))),
    ],
    ids=str,
)
def test_a_clock_beyond_what_utc_can_tell_is_refused(
    tmp_path: Path, name: str, told: datetime
) -> None:
    """And nothing is written."""
    times = [told]
    with open_store(name.format(tmp_path), clock=lambda: times[-1]) as store:
        with pytest.raises(StoreError, match="before year 1 or after 9999 in UTC"):
            Service(lamp, store).handle("a", Turn())
        times.append(datetime(2026, 1, 1, tzinfo=UTC))
        assert store.read_log(limit=1) == []


@URLS
def test_a_time_is_no_clock(tmp_path: Path, name: str) -> None:
    """A function is, which is asked each time."""
    clock: Any = datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(StoreError, match="clock= is a function"):
        open_store(name.format(tmp_path), clock=clock)


@pytest.mark.parametrize("url", [None, 5, b"memory://", Path("shop.db")], ids=repr)
def test_what_is_no_text_names_no_store(url: Any) -> None:
    """The message lists what does."""
    with pytest.raises(StoreError, match="names no store; write memory://"):
        open_store(url)

"""What a service promises its callers on any store: keys, batches, deletions, time, purges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from holdfast.errors import (
    BatchError,
    CommandRejectedError,
    InvalidTransitionError,
    NotFoundError,
    RetriesExhaustedError,
    ValidationError,
    VersionConflictError,
)
from holdfast.record import Context, Record, Request
from holdfast.stores.contract import Checkpoint, Store
from holdfast.testing.clock import START, ManualClock
from holdfast.testing.conformance.base import (
    Connect,
    SampleService,
    Suite,
    first_time,
    versions,
)
from holdfast.testing.sample import Add, Close, Closed, Create, Open, Remove


class Lives(Suite):
    """An entity is created, changes, is deleted, and may come back; its versions never fall."""

    def test_a_record_is_what_was_written(self, service: SampleService) -> None:
        """What `handle` returns is what `get` returns then, and `at` ever after."""
        records = [service.handle("e", command) for command in (Create(note="n"), Add(2), Close())]
        assert [record.version for record in records] == [1, 2, 3]
        assert records[-1].state == Closed(2)
        assert service.get("e") == records[-1]
        assert [service.at("e", version=v) for v in (1, 2, 3)] == records

    def test_a_deletion_is_a_transition(self, service: SampleService, clock: ManualClock) -> None:
        """It has a version, a command and a time, and then there is no entity."""
        service.handle("e", Add())
        clock.advance(1)
        gone = service.handle("e", Remove())
        assert (gone.version, gone.state, gone.deleted) == (2, Open(1), True)
        with pytest.raises(NotFoundError):
            service.get("e")
        with pytest.raises(NotFoundError):
            service.at("e", version=2)
        last = service.history("e")[-1]
        assert (last.kind, last.to_state, last.command) == ("deletion", None, Remove())
        assert service.at("e", time=START).state == Open(1)

    def test_what_comes_back_goes_on_from_its_version(
        self, service: SampleService, clock: ManualClock
    ) -> None:
        """Nothing reuses a version, and a life begins when it begins."""
        for command in (Add(), Remove()):
            service.handle("e", command)
        born = clock.advance(60)
        record = service.handle("e", Create(), expected_version=0)
        assert (record.version, record.created_at) == (3, born)
        assert service.at("e", version=1).created_at == START
        assert [t.version for t in service.history("e")] == [1, 2, 3]

    def test_expecting_nothing_means_that_nothing_lives(self, service: SampleService) -> None:
        """`expected_version=0` is a conflict with a live entity, and none with a deleted one."""
        service.handle("e", Add())
        with pytest.raises(VersionConflictError) as caught:
            service.handle("e", Add(), expected_version=0)
        assert (caught.value.expected, caught.value.actual) == (0, 1)
        service.handle("e", Remove())
        with pytest.raises(VersionConflictError) as caught:
            service.handle("e", Add(), expected_version=2)
        assert (caught.value.expected, caught.value.actual) == (2, 0)
        assert service.handle("e", Add(), expected_version=0).version == 3

    def test_a_refusal_writes_nothing(self, store: Store, service: SampleService) -> None:
        """Neither a command without a handler nor one whose handler refuses."""
        service.handle("e", Add())
        with pytest.raises(CommandRejectedError):
            service.handle("e", Add(-2))
        with pytest.raises(InvalidTransitionError):
            service.handle("absent", Close())
        assert versions(store, "e") == [1]
        assert len(store.read_log(limit=9)) == 1

    def test_a_transition_to_an_equal_state_is_a_transition(self, service: SampleService) -> None:
        """Something happened, though nothing changed."""
        service.handle("e", Add())
        assert service.handle("e", Add(0)).version == 2
        assert [t.command for t in service.history("e")] == [Add(1), Add(0)]


class Conflicts(Suite):
    """Who comes too late decides again on what is there, or is told."""

    def test_a_late_command_is_decided_again(
        self, store: Store, service: SampleService, connect: Connect
    ) -> None:
        """Nothing of either is lost."""
        service.handle("e", Add(1))
        late = connect(store, first_time(lambda: service.handle("e", Add(10))))
        record = late.handle("e", Add(100))
        assert (record.version, record.state) == (3, Open(111))
        assert [(spot.id, spot.conflicts) for spot in late.contention()] == [("e", 1)]

    def test_a_late_command_that_knew_its_version_is_refused(
        self, store: Store, service: SampleService, connect: Connect
    ) -> None:
        """The caller decided on what is no more."""
        service.handle("e", Add(1))
        late = connect(store, first_time(lambda: service.handle("e", Add(10))))
        with pytest.raises(VersionConflictError) as caught:
            late.handle("e", Add(100), expected_version=1)
        assert (caught.value.expected, caught.value.actual) == (1, 2)
        assert service.get("e").state == Open(11)

    def test_two_that_create_make_one(
        self, store: Store, service: SampleService, connect: Connect
    ) -> None:
        """The second finds what the first made."""
        late = connect(store, first_time(lambda: service.handle("e", Create(note="first"))))
        with pytest.raises(InvalidTransitionError):
            late.handle("e", Create(note="second"))
        assert service.get("e").state == Open(note="first")

    def test_a_deletion_in_between_is_seen(
        self, store: Store, service: SampleService, connect: Connect
    ) -> None:
        """The entity is decided on as gone, at a version that no earlier one had."""
        service.handle("e", Add(5))

        def replace() -> None:
            service.handle("e", Remove())
            service.handle("e", Add(7))

        late = connect(store, first_time(replace))
        record = late.handle("e", Add(1))
        assert (record.version, record.state) == (4, Open(8))

    def test_giving_up_is_an_error(
        self, store: Store, service: SampleService, connect: Connect
    ) -> None:
        """With nothing written, and the last conflict told."""
        service.handle("e", Add(1))

        def always(context: Context) -> None:
            service.handle("e", Add(10))

        with pytest.raises(RetriesExhaustedError) as caught:
            connect(store, always, attempts=3).handle("e", Add(100))
        assert (caught.value.attempts, caught.value.actual) == (3, 4)
        assert service.get("e").state == Open(31)

    @pytest.mark.parametrize("others", [[], ["other"]])
    def test_a_reader_moves_on_with_what_it_read_only(
        self, store: Store, service: SampleService, others: list[str], connect: Connect
    ) -> None:
        """A batch that is lost to a conflict leaves the checkpoint, however small the batch is."""
        service.handle("e", Add(1))
        late = connect(store, first_time(lambda: service.handle("e", Add(10))), attempts=1)
        batch = [("e", Add(100)), *((id, Add()) for id in others)]
        with pytest.raises(BatchError):
            late.handle_many(batch, checkpoint=Checkpoint("reader", 1))
        assert store.checkpoint("reader") is None
        assert service.get("e").state == Open(11)
        assert [versions(store, id) for id in others] == [[]] * len(others)


class ServiceBatches(Suite):
    """Many commands at once: in order, each answered at its place, none another's burden."""

    def test_answers_are_in_the_order_given(self, service: SampleService) -> None:
        """Commands for one entity are applied one after the other."""
        answers = service.handle_many(
            [("a", Add(1)), ("b", Add(2)), ("a", Add(10)), ("c", Close()), ("a", Close())]
        )
        states = [a.state if isinstance(a, Record) else type(a) for a in answers]
        assert states == [Open(1), Open(2), Open(11), InvalidTransitionError, Closed(11)]
        assert service.count_by_state() == {"Closed": 1, "Open": 1}

    def test_a_conflict_leaves_the_others_alone(
        self, store: Store, service: SampleService, connect: Connect
    ) -> None:
        """Who knew its version is refused; the rest of the batch is written."""
        service.handle("a", Add(1))
        late = connect(store, first_time(lambda: service.handle("a", Add(10))))
        requests = [
            Request("b", Add(1)),
            Request("a", Add(100), expected_version=1),
            Request("c", Add(1)),
        ]
        answers = late.handle_many(requests)
        assert [type(answer) for answer in answers] == [Record, VersionConflictError, Record]
        assert service.get("a").state == Open(11)

    def test_all_or_nothing_is_nothing(self, store: Store, service: SampleService) -> None:
        """One that is refused keeps all from being written; the errors are told by index."""
        with pytest.raises(BatchError) as caught:
            service.handle_many([("a", Add(1)), ("b", Add(-1)), ("c", Add(1))], atomic=True)
        assert caught.value.failures.keys() == {1}
        assert store.read_log(limit=1) == []

    def test_all_or_nothing_is_all(
        self, store: Store, service: SampleService, connect: Connect
    ) -> None:
        """A conflict in between is decided again, for all of them."""
        service.handle("a", Add(1))
        late = connect(store, first_time(lambda: service.handle("a", Add(10))))
        answers = late.handle_many([("a", Add(100)), ("b", Add(100))], atomic=True)
        assert [a.state for a in answers if isinstance(a, Record)] == [Open(111), Open(100)]
        assert service.get("a").version == 3

    def test_a_batch_larger_than_a_commit_is_cut(self, service: SampleService) -> None:
        """Nothing is lost at the cuts."""
        batch = [(f"e-{i % 700}", Add(i)) for i in range(2_100)]
        answers = service.handle_many(batch)
        assert [a.version for a in answers if isinstance(a, Record)] == [
            1 + i // 700 for i in range(2_100)
        ]


class Times(Suite):
    """The store owns the time, and the time of an entity never falls."""

    def test_the_clock_is_what_handlers_and_readers_see(
        self, store: Store, clock: ManualClock, connect: Connect
    ) -> None:
        """In the context, in the record and in the log."""
        seen: list[datetime] = []
        service = connect(store, lambda context: seen.append(context.now))
        record = service.handle("e", Add())
        later = clock.advance(2.5)
        record = service.handle("e", Add())
        assert seen == [START, later]
        assert (record.created_at, record.updated_at) == (START, later)
        assert [t.at for t in service.history("e")] == [START, later]
        assert [t.recorded_at for t in service.history("e")] == [START, later]

    def test_the_time_stands_while_the_clock_is_behind(
        self, store: Store, clock: ManualClock, connect: Connect
    ) -> None:
        """A clock that is set back makes no transition happen before the one before."""
        seen: list[datetime] = []
        service = connect(store, lambda context: seen.append(context.now))
        service.handle("e", Add())
        clock.advance(-86_400)
        service.handle_many([("e", Add()), ("e", Add()), ("new", Add())])
        assert sorted(seen) == [clock.now, START, START, START]
        assert [t.at for t in service.history("e")] == [START] * 3
        assert service.history("e")[-1].recorded_at == clock.now

    def test_an_import_says_when_it_happened(
        self, service: SampleService, clock: ManualClock
    ) -> None:
        """`at=` counts from then on; when it was recorded stays true."""
        then = datetime(1999, 12, 31, 23, 59, 59, 999_999, timezone(timedelta(hours=-5)))
        record = service.handle("e", Add(), at=then)
        assert record.updated_at == then
        [transition] = service.history("e")
        assert (transition.at, transition.recorded_at) == (then, START)
        assert service.at("e", time=then).version == 1
        with pytest.raises(NotFoundError):
            service.at("e", time=then - timedelta(microseconds=1))

    def test_an_import_cannot_come_before_what_there_is(self, service: SampleService) -> None:
        """Else the past would be read as it never was."""
        service.handle("e", Add())
        with pytest.raises(ValidationError):
            service.handle("e", Add(), at=START - timedelta(microseconds=1))
        assert service.handle("e", Add(), at=START).version == 2

    def test_a_time_without_a_zone_is_refused(self, service: SampleService) -> None:
        """It could be any time."""
        with pytest.raises(ValidationError):
            service.handle("e", Add(), at=datetime(2026, 1, 1))  # noqa: DTZ001 (to be refused)

    def test_a_time_that_utc_cannot_tell_is_refused(self, service: SampleService) -> None:
        """And is no other command's burden."""
        early = datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))
        answers = service.handle_many([Request("a", Add(), at=early), ("b", Add())])
        assert [type(answer) for answer in answers] == [ValidationError, Record]

    def test_a_clock_of_another_zone_is_the_same_time(
        self, store: Store, clock: ManualClock, connect: Connect
    ) -> None:
        """Times are stored in UTC, with six digits, so that they sort as text."""
        clock.now = START.astimezone(timezone(timedelta(hours=9)))
        record = connect(store).handle("e", Add())
        assert record.updated_at == START
        assert record.updated_at.tzinfo is UTC
        [row] = store.read_log(limit=1)
        assert row.at == row.recorded_at == "2026-01-02T03:04:05.000000Z"


class ServicePurges(Suite):
    """A purge deletes an entity and erases what it was."""

    def test_what_it_was_cannot_be_read(self, store: Store, service: SampleService) -> None:
        """Neither now nor at any version; that it was, and when, can."""
        service.handle("e", Create(note="secret"), metadata={"by": "secret"})
        service.handle("e", Add())
        service.purge("e", metadata={"by": "officer"})
        with pytest.raises(NotFoundError):
            service.get("e")
        with pytest.raises(NotFoundError):
            service.at("e", version=1)
        assert "secret" not in repr(service.history("e"))
        assert [t.kind for t in service.history("e")] == ["purged", "purged", "deletion"]
        assert service.history("e")[-1].metadata == {"by": "officer"}

    def test_what_comes_back_is_new(self, service: SampleService) -> None:
        """Under the same id, at a higher version, again erasable."""
        service.handle("e", Add(5))
        service.purge("e")
        record = service.handle("e", Add(1))
        assert (record.version, record.state) == (3, Open(1))
        service.purge("e")
        assert [t.version for t in service.history("e")] == [1, 2, 3, 4]

    def test_a_deleted_entity_is_erased_in_place(self, service: SampleService) -> None:
        """It is gone already; who had it forgotten is recorded each time."""
        service.handle("e", Add())
        service.handle("e", Remove())
        service.purge("e", metadata={"by": "officer"})
        assert [t.kind for t in service.history("e")] == ["purged", "purged", "deletion"]
        assert service.history("e")[-1].metadata == {"by": "officer"}
        service.purge("e")
        assert [t.kind for t in service.history("e")] == [*3 * ["purged"], "deletion"]
        with pytest.raises(NotFoundError):
            service.get("e")

    def test_what_never_was_cannot_be_purged(self, service: SampleService) -> None:
        """A mistyped id should not pass for erased."""
        with pytest.raises(NotFoundError):
            service.purge("unknown")

"""Sessions that do things at random, against a model: what is stored, mirrored, found, followed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from copy import deepcopy
from random import Random

import pytest
from msgspec import Struct
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    SessionTransaction,
    mapped_column,
    object_session,
)
from tests.ext.sqlalchemy.shop import Shop

from holdfast import Change, Flow, Transition
from holdfast.errors import GuardFailedError, InvalidTransitionError, StoreError
from holdfast.ext.sqlalchemy import Stateful, flow_of

STATES = ("off", "lit", "broken")
IDS = (1, 2)


class LampFlow(Flow["Lamp"]):
    off = Flow.state(initial=True)
    lit = Flow.state()
    broken = Flow.state()

    off.to(lit, broken)
    lit.to(off, broken)
    broken.to(off, lit)


class Base(DeclarativeBase):
    pass


class Lamp(Stateful, Base):
    __tablename__ = "lamps"
    __machine__ = LampFlow
    __machine_state__ = "state"

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(default="off")


class Note(Base):
    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class Refused(Exception):  # noqa: N818 (a test raises it)
    pass


FAILS = ("guard", "before", "after", "flush", "commit")
"""Where a transition is kept from happening: by whom, or by what a callback does."""


def surroundings(lamp: Lamp) -> tuple[Session, str | None]:
    """Return the session of a lamp, and what is to go wrong in it."""
    session = object_session(lamp)
    assert session is not None
    return session, session.info["trouble"]


@LampFlow.guard()
def guard(lamp: Lamp) -> bool:
    return surroundings(lamp)[1] != "guard"


@LampFlow.before()
def before(lamp: Lamp, change: Change) -> None:
    session, trouble = surroundings(lamp)
    session.add(Note(text=f"before {change.version}"))
    with session.begin_nested():
        session.add(Note(text="kept"))
    savepoint = session.begin_nested()
    session.add(Note(text="undone"))
    savepoint.rollback()
    if trouble == "before":
        raise Refused


@LampFlow.after()
def after(lamp: Lamp) -> None:
    session, trouble = surroundings(lamp)
    if trouble == "flush":
        session.add(Note(text=None))
    if trouble == "commit":
        session.commit()
    if trouble == "after":
        raise Refused


@LampFlow.after_commit()
def follow(lamp: Lamp, transition: Transition) -> None:
    session, trouble = surroundings(lamp)
    session.info["followed"].append((lamp.id, transition.version))
    if trouble is not None:
        session.add(Note(text=trouble))
    if trouble == "follow":
        raise Refused


class Frame(Struct):
    """What is so in a transaction or a savepoint."""

    lamps: dict[int, tuple[str, int]]
    """States and versions."""
    notes: int
    due: list[tuple[int, int]] = []
    """The transitions whose commit is to be followed."""


class Ride:
    """A session, and what is expected of it."""

    def __init__(self, shop: Shop, session: Session, random: Random) -> None:
        self.session = session
        self.random = random
        self.story: list[str] = []
        self.lamps = [session.get_one(Lamp, id) for id in IDS]
        self.flows = {lamp.id: flow_of(LampFlow, lamp, store=shop.store) for lamp in self.lamps}
        self.committed = Frame(dict.fromkeys(IDS, ("off", 0)), 0)
        self.frames = [deepcopy(self.committed)]
        self.savepoints: list[SessionTransaction] = []
        self.followed: list[tuple[int, int]] = []

    def transition(self) -> None:
        """Bring a lamp into a state, which may be refused or fail."""
        id, target = self.random.choice(IDS), self.random.choice(STATES)
        trouble = self.random.choice((None, None, None, *FAILS))
        self.story.append(f"{id} to {target}, {trouble}")
        frame = self.frames[-1]
        state, version = frame.lamps[id]
        self.session.info["trouble"] = trouble
        try:
            self.flows[id].transition_to(target)
        except (InvalidTransitionError, GuardFailedError, Refused, IntegrityError, StoreError):
            assert trouble in FAILS or target == state
        else:
            assert trouble is None
            assert target != state
            frame.lamps[id] = (target, version + 1)
            frame.notes += 2
            frame.due.append((id, version + 1))
        self.session.info["trouble"] = None

    def nest(self) -> None:
        """Begin a savepoint."""
        self.savepoints.append(self.session.begin_nested())
        self.frames.append(deepcopy(self.frames[-1]))

    def release(self) -> None:
        """Keep what was done in the last savepoint."""
        if self.savepoints:
            self.savepoints.pop().commit()
            self.frames[-2:] = self.frames[-1:]

    def undo(self) -> None:
        """Undo what was done in the last savepoint."""
        if self.savepoints:
            self.savepoints.pop().rollback()
            self.frames.pop()

    def commit(self) -> None:
        """Commit all, and have what follows fail at times."""
        trouble = self.random.choice((None, "note", "follow"))
        self.story.append(str(trouble))
        self.session.info["trouble"] = trouble
        self.session.commit()
        self.session.info["trouble"] = None
        done = self.frames[-1]
        self.followed += done.due
        kept = len(done.due) if trouble == "note" else 0
        self.committed = Frame(done.lamps, done.notes + kept)
        self.start_again()

    def rollback(self) -> None:
        """Undo all that was not committed."""
        self.session.rollback()
        self.start_again()

    def start_again(self) -> None:
        """Expect what is committed."""
        self.savepoints, self.frames = [], [deepcopy(self.committed)]

    def check(self) -> None:
        """Compare what the session sees with what is expected."""
        frame = self.frames[-1]
        for lamp in self.lamps:
            flow = self.flows[lamp.id]
            assert (flow.current_state, flow.version) == frame.lamps[lamp.id]
            assert lamp.state == frame.lamps[lamp.id][0]
        assert self.session.scalar(select(func.count(Note.id))) == frame.notes
        for state in STATES:
            expected = [id for id in IDS if frame.lamps[id][0] == state]
            for condition in (Lamp.in_state(state), Lamp.state == state):
                found = select(Lamp.id).where(condition).order_by(Lamp.id)
                assert self.session.scalars(found).all() == expected
        assert self.session.info["followed"] == self.followed


ACTS: list[Callable[[Ride], None]] = [
    *[Ride.transition] * 8,
    *[Ride.nest, Ride.release, Ride.undo] * 2,
    Ride.commit,
    Ride.rollback,
]


@pytest.mark.parametrize("seed", range(4))
def test_sessions_do_what_a_model_expects(
    shop: Shop, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever fails, is nested, kept or undone, in whichever order."""
    random = Random(seed)
    Base.metadata.create_all(shop.engine)
    with Session(shop.engine) as session:
        session.add_all([Lamp(id=id) for id in IDS])
        session.commit()
    with (
        caplog.at_level(logging.CRITICAL, "holdfast"),
        Session(
            shop.engine,
            expire_on_commit=random.random() < 0.5,
            info={"trouble": None, "followed": []},
        ) as session,
    ):
        ride = Ride(shop, session, random)
        try:
            for _ in range(60):
                act = random.choice(ACTS)
                ride.story.append(act.__name__)
                act(ride)
                ride.check()
        except BaseException as error:
            error.add_note(f"seed {seed}: {'; '.join(ride.story)}")
            raise
        session.rollback()
        ride.start_again()
    for id, (state, version) in ride.committed.lamps.items():
        assert len(shop.store.history("lamp", str(id), limit=100)) == version
        with Session(shop.engine) as session:
            assert session.get_one(Lamp, id).state == state

"""States of entities, mirrored in columns of models, whichever service of a session writes them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, SmallInteger, literal, select
from sqlalchemy.orm import Session, class_mapper

from holdfast.ext.sqlalchemy.identity import AnyMachine, Terms, terms_of
from holdfast.stores.contract import Write

_KEY = "holdfast.mirrors"


class Mirror:
    """Writes the states of a machine's entities into a column of a model."""

    def __init__(self, terms: Terms, attribute: str) -> None:
        self._terms = terms
        self._attribute = attribute

    @property
    def may_raise(self) -> bool:
        """Whether something listens to the column being set, as what `@validates` marks does.

        In the model or in one that inherits from it: any of these may be what an id stands for.
        """
        return any(
            mapper.class_manager[self._attribute].dispatch.set
            for mapper in class_mapper(self._terms.model).self_and_descendants
        )

    def remember(self, session: Session, store: object) -> None:
        """Have the session mirror all that it writes from here on, to a store of this identity."""
        known = session.info.setdefault(_KEY, {}).setdefault(store, {})
        known[self._terms.machine.name, self._terms.model] = self

    def write(self, session: Session, write: Write) -> None:
        """Mirror a write in the instance of its entity, whether the session has it or not."""
        row, terms = write.entity, self._terms
        if row.machine != terms.machine.name:
            return
        state = terms.mirrored(row.state_type)
        for instance in self._instances(session, row.id):
            try:
                setattr(instance, self._attribute, state)
            except Exception as error:
                error.add_note(
                    f"{terms.machine.name} {row.id!r:.80} was to be mirrored as {state!r} in "
                    f"{terms.model.__name__}.{self._attribute}; nothing was written"
                )
                raise

    def _instances(self, session: Session, text: str) -> list[Any]:
        """Return those with an id: the one that the session has, or those in the database."""
        terms = self._terms
        id = terms.value_of(text)
        if id is None:
            return []
        if terms.is_key and _fits(terms.id_column, id):
            found = session.get(terms.model, id)
            return [] if found is None else [found]
        # PostgreSQL takes no parameter that is larger than the column's type.
        value = literal(id, BigInteger) if isinstance(id, int) else id
        own = getattr(terms.model, terms.id_attribute) == value
        return list(session.scalars(select(terms.model).where(own)).unique())


class InstanceMirror(Mirror):
    """Writes the states of one entity into the instance that a flow is around."""

    def __init__(self, terms: Terms, attribute: str, instance: object, id: str) -> None:
        super().__init__(terms, attribute)
        self._instance = instance
        self._id = id

    def remember(self, session: Session, store: object) -> None:
        """Leave the session as it is."""

    def _instances(self, session: Session, text: str) -> list[Any]:
        return [self._instance] if text == self._id else []


def mirror_in(model: type, machine: AnyMachine) -> Mirror | None:
    """Return what mirrors a machine in a model, where the model says that it is."""
    if getattr(model, "__machine_state__", None) is None:
        return None
    terms = terms_of(model)
    if terms.state_attribute is None or terms.machine.name != machine.name:
        return None
    return Mirror(terms, terms.state_attribute)


def _fits(column: Column[Any], id: object) -> bool:
    """Whether every database keeps an id in a column of this type."""
    small, large = (isinstance(column.type, kind) for kind in (SmallInteger, BigInteger))
    bits = 15 if small else 63 if large else 31
    return not isinstance(id, int) or -(2**bits) <= id < 2**bits


def mirrors_of(session: Session, store: object, own: Mirror | None) -> list[Mirror]:
    """Return what mirrors writes to a store: all that the session was told of, and its own."""
    known: dict[Any, Mirror] = session.info.get(_KEY, {}).get(store, {})
    mirrors = list(known.values())
    return mirrors if own is None or own in mirrors else [own, *mirrors]

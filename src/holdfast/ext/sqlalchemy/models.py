"""The mixin for models whose lifecycle a machine governs: their states in queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Select, and_, exists, false, inspect, select, true

from holdfast.errors import QueryError
from holdfast.ext.sqlalchemy.identity import Governor, Terms, not_mapped, terms_of
from holdfast.ext.sqlalchemy.recent import MostRecentTransition
from holdfast.ext.sqlalchemy.tables import entities, id_as_text, is_id, text_as_id

_RECENT = "_holdfast_recent"
_lock = Lock()

StateName = str | type[Any]
"""A state, by its name or as its class."""


class Stateful:
    """Gives a model queries by state; `__machine__` says what governs it.

    `__machine_id__` names the attribute that is the entity's id, where it is not the primary key;
    `__machine_state__` the one where `flow_of` and `joined` mirror the state; `__machine_schema__`
    the schema of the store on PostgreSQL. The methods take `machine`, where another one governs the
    same model besides.
    """

    # Any, as `__tablename__` is: a model that says more precisely what it has would be an error.
    __machine__: ClassVar[Any] = None
    __machine_id__: ClassVar[Any] = None
    __machine_state__: ClassVar[Any] = None
    __machine_schema__: ClassVar[Any] = "holdfast"

    @classmethod
    def in_state(cls, *states: StateName, machine: Governor | None = None) -> ColumnElement[bool]:
        """Return the condition that an instance is in one of the states.

        With a flow, an instance that nothing is stored of is in the initial state.
        """
        terms, names = _asked(cls, states, machine)
        if not names:
            return false()
        if _initial(terms) in names:
            return _lacks_entity(cls, terms, names, inside=False)
        return _is_of_entity(cls, terms, names, inside=True)

    @classmethod
    def not_in_state(
        cls, *states: StateName, machine: Governor | None = None
    ) -> ColumnElement[bool]:
        """Return the condition that an instance is in none of the states; without any, it is."""
        terms, names = _asked(cls, states, machine)
        if not names:
            return true()
        if _initial(terms) in names:
            return _is_of_entity(cls, terms, names, inside=False)
        return _lacks_entity(cls, terms, names, inside=True)

    @classmethod
    def most_recent_transition(
        cls, *, machine: Governor | None = None, name: str | None = None
    ) -> MostRecentTransition:
        """Return the last transition of an instance, whose columns are expressions.

        It is the same one each time, so that a query may group by what it selects. `name` is what
        its columns are called by, as in `name_to_state`, where a query has several.
        """
        terms = terms_of(_model_of(cls), machine)
        with _lock:
            if _RECENT not in vars(cls):
                setattr(cls, _RECENT, {})
            known: dict[Any, MostRecentTransition] = vars(cls)[_RECENT]
            if (terms, name) not in known:
                known[terms, name] = MostRecentTransition(_ids(cls, terms), terms, name)
            return known[terms, name]


def _asked(
    cls: type, states: Sequence[StateName], machine: Governor | None
) -> tuple[Terms, list[str]]:
    """Return the terms, and the names of the states; raises QueryError for what is none."""
    terms = terms_of(_model_of(cls), machine)
    names = terms.machine.state_codec.names
    known = {*names.values()}
    found = [_name_of(each, names) for each in states]
    for name in found:
        if name not in known:
            raise QueryError(
                f"{name:.80} is no state of {terms.machine.name}; use {', '.join(sorted(known))}"
            )
    return terms, list(dict.fromkeys(found))


def _name_of(state: object, names: Mapping[type[Any], str]) -> str:
    if isinstance(state, str):
        return str(state)
    return names.get(state, repr(state)) if isinstance(state, type) else repr(state)


def _is_of_entity(
    cls: type, terms: Terms, names: Sequence[str], *, inside: bool
) -> ColumnElement[bool]:
    """Compare the ids of a model with those of all entities in, or not in, the states."""
    found = entities(terms.schema)
    wanted = _in_states(select(text_as_id(found.c.id, terms)), found, terms, names, inside=inside)
    condition: ColumnElement[bool] = _ids(cls, terms).in_(wanted.where(is_id(found.c.id, terms)))
    return condition


def _lacks_entity(
    cls: type, terms: Terms, names: Sequence[str], *, inside: bool
) -> ColumnElement[bool]:
    """Look for the entity of each instance, and find none in, or none not in, the states."""
    found = entities(terms.schema)
    wanted = _in_states(select(found.c.version), found, terms, names, inside=inside)
    ids = _ids(cls, terms)
    same = found.c.id == id_as_text(ids, terms)
    # The first condition has the query select from the model, where it does not do so by itself.
    return and_(ids.is_not(None), ~exists(wanted.where(same).correlate_except(found)))


def _in_states(
    query: Select[Any], found: Any, terms: Terms, names: Sequence[str], *, inside: bool
) -> Select[Any]:
    among = found.c.state_type.in_(names)
    live = among if inside else and_(found.c.state_type.is_not(None), ~among)
    return query.where(found.c.machine == terms.machine.name, live)


def _ids(cls: type, terms: Terms) -> Any:
    return getattr(cls, terms.id_attribute)


def _model_of(cls: type) -> type:
    """Return the model itself, of which `cls` may be an alias in a query."""
    found: Any = inspect(cls, raiseerr=False)
    if found is None:
        raise not_mapped(cls)
    model: type = found.mapper.class_
    return model


def _initial(terms: Terms) -> str | None:
    return terms.mirrored(None)

"""Asks the database for rows by the state of their flow: querysets, managers and expressions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from django.db import connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Exists, F, Func, OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce

from holdfast.errors import QueryError
from holdfast.ext.django.fields import FIT, ModelFlow, flow_of, target_of, unfit

M = TypeVar("M", bound=models.Model)


class FlowQuerySet(models.QuerySet[M]):
    """Rows by the state of their flow; `flow` names it where a model has several.

    A row without an entity counts as in the initial state.
    """

    def in_state(self, *states: str, flow: str | None = None) -> Self:
        """Return the rows that are in one of the states; raises QueryError for unknown ones."""
        return self.filter(in_state(self.model, *states, flow=flow))

    def not_in_state(self, *states: str, flow: str | None = None) -> Self:
        """Return the rows that are in none of the states; without states, all."""
        return self.filter(not_in_state(self.model, *states, flow=flow))

    def with_state(self, name: str = "current_state", *, flow: str | None = None) -> Self:
        """Return the rows, each with the name of its state."""
        return self.annotate(**{name: current_state(self.model, flow=flow)})

    def mirror_states(self, *, flow: str | None = None) -> int:
        """Write the states into the column that mirrors them, for rows older than it.

        Returns how many rows there are.
        """
        mirrored = flow_of(self.model, flow)
        if mirrored.mirror is None:
            raise QueryError(f"{self.model.__name__}.{mirrored.name} is mirrored in no column")
        column = mirrored.mirror
        self._for_write = True
        with transaction.atomic(using=self.db):
            if connections[self.db].features.has_select_for_update:
                # Who waits for rows does not see what was committed meanwhile; who has them does.
                self.update(**{column: F(column)})
            return self.update(**{column: current_state(self.model, flow=flow)})


class FlowManager(models.Manager[M]):
    """The same as a manager: `objects = FlowManager()`."""

    if TYPE_CHECKING:  # what Django copies from the queryset

        def all(self) -> FlowQuerySet[M]: ...  # noqa: D102 (Django's)
        def none(self) -> FlowQuerySet[M]: ...  # noqa: D102 (Django's)
        def using(self, alias: str | None) -> FlowQuerySet[M]: ...  # noqa: D102 (Django's)
        def filter(self, *args: Any, **options: Any) -> FlowQuerySet[M]: ...  # noqa: D102 (Django's)
        def exclude(self, *args: Any, **options: Any) -> FlowQuerySet[M]: ...  # noqa: D102 (Django's)
        def order_by(self, *names: Any) -> FlowQuerySet[M]: ...  # noqa: D102 (Django's)
        def distinct(self, *names: str) -> FlowQuerySet[M]: ...  # noqa: D102 (Django's)
        def annotate(self, *args: Any, **options: Any) -> FlowQuerySet[M]: ...  # noqa: D102 (Django's)
        def only(self, *names: str) -> FlowQuerySet[M]: ...  # noqa: D102 (Django's)
        def defer(self, *names: Any) -> FlowQuerySet[M]: ...  # noqa: D102 (Django's)
        def select_related(self, *names: Any) -> FlowQuerySet[M]: ...  # noqa: D102 (Django's)
        def prefetch_related(self, *names: Any) -> FlowQuerySet[M]: ...  # noqa: D102 (Django's)
        def select_for_update(self, *args: Any, **options: Any) -> FlowQuerySet[M]: ...  # noqa: D102 (Django's)

    def get_queryset(self) -> FlowQuerySet[M]:
        """Return all rows."""
        return FlowQuerySet(self.model, using=self._db, hints=getattr(self, "_hints", None))

    def in_state(self, *states: str, flow: str | None = None) -> FlowQuerySet[M]:
        """See `FlowQuerySet.in_state`."""
        return self.get_queryset().in_state(*states, flow=flow)

    def not_in_state(self, *states: str, flow: str | None = None) -> FlowQuerySet[M]:
        """See `FlowQuerySet.not_in_state`."""
        return self.get_queryset().not_in_state(*states, flow=flow)

    def with_state(
        self, name: str = "current_state", *, flow: str | None = None
    ) -> FlowQuerySet[M]:
        """See `FlowQuerySet.with_state`."""
        return self.get_queryset().with_state(name, flow=flow)

    def mirror_states(self, *, flow: str | None = None) -> int:
        """See `FlowQuerySet.mirror_states`."""
        return self.get_queryset().mirror_states(flow=flow)


def in_state(model: type[models.Model], *states: str, flow: str | None = None) -> Q:
    """Return the condition that a row is in one of the states, for `filter` and `exclude`."""
    asked = flow_of(model, flow)
    names = _named(asked, states)
    if str(asked.flow.initial) in names:
        return Q(~Exists(_own(asked, model).filter(_between(names))))
    return _among(asked, model, Q(state__in=names))


def not_in_state(model: type[models.Model], *states: str, flow: str | None = None) -> Q:
    """Return the condition that a row is in none of the states."""
    asked = flow_of(model, flow)
    names = _named(asked, states)
    if not names:
        return Q()
    if str(asked.flow.initial) in names:
        return _among(asked, model, _between(names))
    return Q(~Exists(_own(asked, model).filter(state__in=names)))


def current_state(model: type[models.Model], *, flow: str | None = None) -> Coalesce:
    """Return the expression for the name of a row's state, to annotate, order and filter with."""
    asked = flow_of(model, flow)
    state = Subquery(_own(asked, model).values("state")[:1])
    return Coalesce(state, Value(str(asked.flow.initial)), output_field=models.TextField())


def most_recent_transition(
    model: type[models.Model], field: str = "at", *, flow: str | None = None
) -> Subquery:
    """Return the expression for a field of a row's last transition, NULL where there was none."""
    from holdfast.ext.django.models import Transition

    asked = flow_of(model, flow)
    log = Transition.objects.filter(
        machine=asked.flow.machine.name, entity_id=_text_of(asked, model)
    )
    return Subquery(log.order_by("-version").values(field)[:1])


def _own(asked: ModelFlow[Any], model: type[models.Model]) -> models.QuerySet[Any]:
    """Return the entity of the row that the query around is about."""
    from holdfast.ext.django.models import Entity

    return Entity.objects.filter(machine=asked.flow.machine.name, entity_id=_text_of(asked, model))


def _among(asked: ModelFlow[Any], model: type[models.Model], condition: Q) -> Q:
    """Return the condition that a row's key is one of entities, which an index finds first."""
    from holdfast.ext.django.models import Entity

    entities = Entity.objects.filter(condition, machine=asked.flow.machine.name)
    field = _key_field(asked, model)
    key = _Key("entity_id", output_field=field)
    keys = entities.annotate(row_key=key).filter(row_key__isnull=False).values("row_key")
    return Q(**{f"{asked.id}__in": _Keys(keys, output_field=field)})


def _between(names: Iterable[str]) -> Q:
    """Return the condition that an entity lives in no state of these, as ranges of an index.

    It may be in one that the flow knows no more.
    """
    *lower, last = sorted(set(names))
    condition, below = Q(state__gt=last), Q()
    for name in lower:
        condition |= below & Q(state__lt=name)
        below = Q(state__gt=name)
    return condition | (below & Q(state__lt=last))


def _text_of(asked: ModelFlow[Any], model: type[models.Model]) -> Any:
    """Return the expression for the id of the row that the query around is about."""
    is_uuid = isinstance(_key_field(asked, model), models.UUIDField)
    text = _UuidText if is_uuid else _Text
    return text(OuterRef(asked.id), output_field=models.TextField())


def _key_field(asked: ModelFlow[Any], model: type[models.Model]) -> models.Field[Any, Any]:
    """Return the field that the id is taken from; raises QueryError for one that text misses."""
    field = target_of(asked.field_of(model))
    if isinstance(field, models.IntegerField):
        return models.BigIntegerField()
    if isinstance(field, models.CharField | models.TextField):
        return models.TextField(db_collation=field.db_collation)
    if isinstance(field, models.UUIDField):
        return models.UUIDField()
    raise QueryError(f"{unfit(model, asked)}: {FIT}")


def _named(asked: ModelFlow[Any], states: Iterable[str]) -> list[str]:
    """Return the names of states; raises QueryError for what is none of the flow."""
    chart = asked.flow.chart
    for state in states:
        if chart.find(state) is None:
            known = ", ".join(chart.states)
            raise QueryError(
                f"{state!r:.80} is no state of {asked.flow.__name__}; they are {known}"
            )
    return [str(state) for state in states]


class _Keys(Subquery):
    """Keys of rows. As a bare query, Django takes those of a key of two columns for two columns."""


class _Key(Func):
    """The id of an entity as the key of a row; NULL where no row can have it."""

    _SQLITE: ClassVar[dict[str, str]] = {
        "BigIntegerField": "CASE WHEN CAST(CAST({0} AS INTEGER) AS TEXT) = {0} "
        "THEN CAST({0} AS INTEGER) END",
        "UUIDField": "CASE WHEN length({0}) = 36 THEN replace({0}, '-', '') END",
    }
    _POSTGRES: ClassVar[dict[str, str]] = {
        "BigIntegerField": "CASE WHEN {0} ~ '^(0|-?[1-9][0-9]{{0,17}})$' "
        "THEN CAST({0} AS bigint) WHEN {0} ~ '^-?[1-9][0-9]{{18}}$' THEN "
        "CASE WHEN CAST({0} AS numeric) BETWEEN -9223372036854775808 AND 9223372036854775807 "
        "THEN CAST({0} AS bigint) END END",
        "UUIDField": "CASE WHEN {0} ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$' "
        "THEN CAST({0} AS uuid) END",
    }

    def as_sqlite(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Return it for SQLite, which keeps a UUID as its digits."""
        return self._as(self._SQLITE, compiler)

    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Return it for PostgreSQL, whose casts raise for what they do not take."""
        text, parameters = self._as(self._POSTGRES, compiler)
        collation = getattr(self.output_field, "db_collation", None)
        if collation:  # that of the key, so that its index serves
            text = f"{text} COLLATE {connection.ops.quote_name(collation)}"
        return text, parameters

    def _as(self, forms: dict[str, str], compiler: Any) -> Any:
        text, parameters = compiler.compile(self.source_expressions[0])
        assert not parameters, "a column has none"
        return forms.get(self.output_field.get_internal_type(), "{0}").format(text), ()


class _Text(Func):
    """A key as text, to be compared with ids."""

    template = "CAST(%(expressions)s AS text)"

    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Return it for PostgreSQL, where a key may have a collation that ids have not."""
        return self.as_sql(compiler, connection, template=f'{self.template} COLLATE "C"')


class _UuidText(_Text):
    """A UUID as Python writes it."""

    def as_sqlite(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Return it for SQLite, which keeps its digits alone."""
        text, parameters = compiler.compile(self.source_expressions[0])
        assert not parameters, "a column has none"
        pieces = [f"substr({text}, {start}, {size})" for start, size in _PIECES]
        return " || '-' || ".join(pieces), ()


_PIECES = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))

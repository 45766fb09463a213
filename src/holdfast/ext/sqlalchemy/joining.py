"""Binds services and flows to sessions."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from functools import partial
from typing import Any, TypeVar, overload

from sqlalchemy import inspect
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, object_session, scoped_session

from holdfast import AsyncService, Flow, Service
from holdfast.errors import DefinitionError, StoreError
from holdfast.ext.sqlalchemy.commits import follow
from holdfast.ext.sqlalchemy.engines import expect_awaited
from holdfast.ext.sqlalchemy.identity import mapper_of, terms_of
from holdfast.ext.sqlalchemy.mirrors import InstanceMirror, mirror_in
from holdfast.ext.sqlalchemy.stores import AwaitedSessionStore, SessionStore
from holdfast.machine.flow.definition import FlowType
from holdfast.service.plan import check_fit
from holdfast.service.runner import SyncWorld
from holdfast.stores.contract import Store

S = TypeVar("S")
C = TypeVar("C")
D = TypeVar("D")
F = TypeVar("F", bound=Flow[Any])

AnySession = Session | scoped_session[Any]
AnyAsyncSession = AsyncSession | async_scoped_session[Any]


@overload
def joined(
    service: Service[S, C, D],
    session: AnySession,
    *,
    model: type | None = None,
    bind_arguments: Mapping[str, Any] | None = None,
) -> Service[S, C, D]: ...
@overload
def joined(
    service: AsyncService[S, C, D],
    session: AnyAsyncSession,
    *,
    model: type | None = None,
    bind_arguments: Mapping[str, Any] | None = None,
) -> AsyncService[S, C, D]: ...
def joined(
    service: Service[Any, Any, Any] | AsyncService[Any, Any, Any],
    session: AnySession | AnyAsyncSession,
    *,
    model: type | None = None,
    bind_arguments: Mapping[str, Any] | None = None,
) -> Service[Any, Any, Any] | AsyncService[Any, Any, Any]:
    """Return the service inside the transactions of a session: at each call in the one it is in.

    What `Service.on` says holds here too. `model` is what the machine governs: its connection is
    taken where a session has several, or `bind_arguments` tell which, as `Session.connection` takes
    them. Where the model says so, it mirrors all states of the machine that the session writes from
    here on.

    Raises DefinitionError for a session that does not fit the service, or a model that does not.
    """
    if not isinstance(service, Service | AsyncService):
        raise DefinitionError(f"joined takes a Service or an AsyncService, not {service!r:.80}")
    binding: Mapping[str, Any] = {} if model is None else {"mapper": mapper_of(model)}
    binding = binding if bind_arguments is None else bind_arguments
    mirror = None if model is None else mirror_in(model, service.machine)
    if service.plans.binding.is_joined:
        raise DefinitionError(f"{service} is in a transaction already; join the one that is not")
    around = copy(service)
    if isinstance(session, AsyncSession | async_scoped_session):
        if not isinstance(around, AsyncService):
            raise DefinitionError(f"an AsyncSession is joined by an AsyncService, not by {service}")
        awaited = partial(_awaited_of, session)
        around.store = AwaitedSessionStore(service.store, awaited, binding, mirror=mirror)
        if mirror is not None and isinstance(session, AsyncSession):
            mirror.remember(session.sync_session, around.store.identity)
        return around.on(session, on_commit=lambda after: follow(awaited().sync_session, after))
    if not isinstance(session, Session | scoped_session):
        raise DefinitionError(f"{service} joins a session, not {session!r:.80}")
    if not isinstance(around, Service):
        raise DefinitionError(f"{session!r:.80} is joined by a Service, not by {service}")
    find = partial(_session_of, session)
    around.store = SessionStore(service.store, find, binding, mirror=mirror)
    if mirror is not None and isinstance(session, Session):
        mirror.remember(session, around.store.identity)
    around.world = SyncWorld(around.store)
    return around


def flow_of(
    flow: type[F], object: Any, *, store: Store, id: str | None = None, state: str | None = None
) -> F:
    """Return the flow of a model's instance, inside the transactions of the session it is in.

    The instance is flushed where it has no primary key yet. `id` and `state` name attributes, where
    they are not those that the model declares: the one that is the id, and the one where the state
    is mirrored.

    With an AsyncSession this and what the flow does is called in `session.run_sync`. Raises
    StoreError where the instance is in no session.
    """
    if not isinstance(flow, FlowType):
        raise DefinitionError(f"flow_of takes a flow, not {flow!r:.80}")
    terms = terms_of(type(object), flow, id=id, state=state)
    check_fit(terms.machine, store)
    binding = {"mapper": mapper_of(type(object))}

    def find() -> Session:
        session = _session_around(object, binding, store)
        if terms.text_of(object) != entity:
            raise StoreError(
                f"{object!r:.80} is {terms.text_of(object)!r:.80} now, and its flow is that of "
                f"{entity!r:.80}; nothing was written: call flow_of again"
            )
        return session

    def expect() -> None:
        if inspect(object).deleted:
            raise StoreError(
                f"{object!r:.80} is deleted in the session, and nothing is left for its flow to "
                "transition; nothing was written: transition it before, or undo the deletion"
            )

    _session_around(object, binding, store)
    entity = terms.text_of(object)
    attribute = terms.state_attribute
    mirror = None if attribute is None else InstanceMirror(terms, attribute, object, entity)
    around = SessionStore(store, find, binding, mirror=mirror, expect=expect)
    return flow(object, store=around, id=entity)


def _session_around(object: Any, binding: Mapping[str, Any], store: Store) -> Session:
    """Return the session that an instance is in, with the instance in the database."""
    session = object_session(object)
    if session is None:
        raise StoreError(
            f"{object!r:.80} is in no session (any more), so there is no transaction for its flow; "
            "nothing was written: add it to a session"
        )
    expect_awaited(session, binding, store.url)
    if inspect(object).pending:
        session.flush()
    return session


def _session_of(session: AnySession) -> Session:
    found: Session = session() if isinstance(session, scoped_session) else session
    return found


def _awaited_of(session: AnyAsyncSession) -> AsyncSession:
    found: AsyncSession = session() if isinstance(session, async_scoped_session) else session
    return found

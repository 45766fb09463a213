"""Finds what a TARGET names: a service, a machine or a store, in the user's own modules."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from holdfast.cli.exits import Exit, Failure, describe, failure_of
from holdfast.errors import HoldfastError, StoreError
from holdfast.machine.definition import Machine
from holdfast.machine.flow.definition import FlowType
from holdfast.service.async_service import AsyncService
from holdfast.service.flow import Flow
from holdfast.service.service import Service
from holdfast.stores import file_of, open_store, read_only, url_of
from holdfast.stores.contract import Store

SyncService = Service[Any, Any, Any]
AnyService = SyncService | AsyncService[Any, Any, Any]
AnyMachine = Machine[Any, Any, Any]


@contextmanager
def open_service(
    target: str, *, existing: bool = True, in_memory: bool = False
) -> Generator[AnyService]:
    """Yield the service that a target names, and close its store afterwards.

    With `existing` a store whose file does not exist is an error, so that a look from the wrong
    folder makes no empty one. Without `in_memory` so is a store that ends with this process.
    """
    service: AnyService = _find(target, Service, AsyncService)
    with service.store as store:
        _expect_usable(store, existing=existing, in_memory=in_memory)
        yield service


@contextmanager
def open_sync_service(target: str) -> Generator[SyncService]:
    """Yield the service that a target names, if it is a Service; its file need not exist."""
    service: SyncService = _find(target, Service)
    with service.store as store:
        _expect_usable(store, existing=False)
        yield service


@contextmanager
def open_target_store(target: str) -> Generator[Store]:
    """Yield the store that a URL names, to be read, or that of the service that a target names."""
    if ":" not in target:
        advice = url_of(target) if target else "sqlite:///shop.db"
        raise Failure(
            f"{target!r} is neither a TARGET, like shop:orders, nor a URL, like {advice}",
            Exit.USAGE,
        )
    is_url = "://" in target
    with _open(target) if is_url else _find(target, Service, AsyncService).store as store:
        _expect_usable(store)
        yield store


def _open(url: str) -> Store:
    try:
        return open_store(read_only(url))
    except StoreError as error:  # nothing is opened yet: it is the URL that is wrong
        raise Failure(str(error), Exit.USAGE) from error


def place_of(store: Store) -> str:
    """Return what tells a store from others: of a file the path, however it was named."""
    file = file_of(store.url)
    return store.url if file is None else str(file.resolve())


def find_machine(target: str) -> AnyMachine:
    """Return the machine that a target names, or that of the service or the flow it names."""
    found = _find(target, Service, AsyncService, Machine, FlowType, Flow)
    if isinstance(found, Flow):
        return type(found).machine
    return found if isinstance(found, Machine) else found.machine


def find_machine_and_deps(target: str) -> tuple[AnyMachine, Any]:
    """Return the machine that a target names, with the dependencies of the service it names."""
    found = _find(target, Service, AsyncService, Machine, FlowType)
    if isinstance(found, Machine):
        return found, None
    if isinstance(found, FlowType):
        return found.machine, None
    return found.machine, found.plans.binding.deps


def _find(target: str, *kinds: type) -> Any:
    module_name, _, path = target.partition(":")
    if not module_name or not path:
        raise _unusable(target, "write it as module:attribute, like shop:orders")
    if module_name.endswith(".py") or "/" in module_name:
        name = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise _unusable(target, f"it takes a module, not a file; try {name}:{path}")
    found = _import(target, module_name)
    for name in path.split("."):
        if not hasattr(found, name):
            raise _unusable(target, f"it has no {name}{_suggestions(found, kinds)}")
        found = getattr(found, name)
    wanted = " or ".join(dict.fromkeys(map(_one, kinds)))
    if not isinstance(found, kinds) and callable(found) and not isinstance(found, type):
        found = _call(target, found)
        if not isinstance(found, kinds):
            raise _unusable(target, f"it returned {_one(type(found))}, not {wanted}")
    if not isinstance(found, kinds):
        described = _one(found if isinstance(found, type) else type(found))
        flow = type(found) if isinstance(found, Flow) else found
        advice = ""
        if isinstance(flow, FlowType):
            advice = f"; name a service of the flow: Service({flow.__name__}.machine, store)"
        raise _unusable(target, f"it is {described}, not {wanted}{advice}")
    return found


def _one(kind: type) -> str:
    name = Flow.__name__ if kind is FlowType else kind.__name__
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _import(target: str, name: str) -> Any:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise _unusable(
                target, f"there is no module {error.name} in {folder}, nor an installed one"
            ) from error
        raise _failed(f"importing {name} failed", error) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _failed(f"importing {name} failed", error) from error


def _call(target: str, function: Any) -> Any:
    if inspect.iscoroutinefunction(function):
        raise _unusable(target, "it is a coroutine function, and nothing awaits a TARGET")
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError) as error:
        raise _unusable(
            target, f"a function that is a TARGET takes no arguments: {error}"
        ) from error
    try:
        return function()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _failed(f"calling {target} failed", error) from error


def _failed(what: str, error: BaseException) -> Failure:
    if isinstance(error, HoldfastError):
        return failure_of(error)
    return Failure(f"{what}: {describe(error)}", Exit.USAGE)


def _unusable(target: str, reason: str) -> Failure:
    return Failure(f"TARGET {target!r} cannot be used: {reason}", Exit.USAGE)


def _suggestions(module: Any, kinds: tuple[type, ...]) -> str:
    names = [
        name
        for name, value in getattr(module, "__dict__", {}).items()
        if isinstance(value, kinds) and value is not Flow
    ]
    return f", and it has {', '.join(names[:5])}" if names else ""


def _expect_usable(store: Store, *, existing: bool = True, in_memory: bool = False) -> None:
    if store.url in ("memory://", "sqlite:///:memory:") and not in_memory:
        raise Failure(
            f"{store.url} is empty, and ends with this process and all that is applied; use a "
            "store in a file, like sqlite:///shop.db",
            Exit.USAGE,
        )
    file = file_of(store.url)
    if existing and file is not None and not file.exists():
        raise Failure(
            f"{store.url} does not exist; check the path, or the folder it is relative to "
            f"({Path.cwd()})",
            Exit.STORE,
        )

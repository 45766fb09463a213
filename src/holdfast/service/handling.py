"""Marks where handlers and hooks run, so that no call waits for the handler that makes it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from holdfast.errors import DefinitionError, entity_name

if TYPE_CHECKING:
    from holdfast.record import Record
    from holdfast.service.call import Call
    from holdfast.service.decide import Binding
    from holdfast.service.draft import Draft


class Handling(Struct):
    """A handler that is running, or a hook, which has neither service nor entity."""

    binding: Binding | None
    draft: Draft | None
    outer: Handling | None
    """The handler that waits for this one."""
    blocks: bool
    """Whether a thread that serves callers who await is held until it ends."""
    running: bool = False
    """What it has started inherits the mark, and may send commands once it has ended. It begins
    within the block that ends it: an interrupt before that leaves a mark that says nothing.
    """


_innermost: ContextVar[Handling | None] = ContextVar("holdfast_handling", default=None)


def answer(binding: Binding, draft: Draft, call: Call, token: str) -> Record[Any]:
    """Have a draft answer a call; raises DefinitionError where a handler waits in vain for it.

    That is a handler of the same entity, or of one that is written together with it: it would come
    too late itself, at each of its attempts.
    """
    outer = _innermost.get()
    if outer is not None:
        outer = _expect_other(outer, binding, draft.id)
    own = Handling(binding, draft, outer, binding.blocks)
    before = _innermost.set(own)
    try:
        own.running = True
        return draft.answer(call, binding.deps, token)
    finally:
        own.running = False
        _innermost.reset(before)


async def answer_async(binding: Binding, draft: Draft, call: Call, token: str) -> Record[Any]:
    """Do as `answer` does where the handler is awaited, in a task of its own."""
    outer = _expect_other(_innermost.get(), binding, draft.id)
    own = Handling(binding, draft, outer, blocks=False)
    _innermost.set(own)
    try:
        own.running = True
        return await draft.answer_async(call, binding.deps, token)
    finally:
        own.running = False


def call_hook(hook: Callable[[Any], object], value: object) -> object:
    """Call a hook; return what it returns."""
    own = Handling(None, None, _running(_innermost.get()), blocks=True)
    before = _innermost.set(own)
    try:
        own.running = True
        return hook(value)
    finally:
        own.running = False
        _innermost.reset(before)


def is_inside() -> bool:
    """Whether a handler or a hook waits; raises DefinitionError where it holds a thread.

    For calls that are about to be queued up: they may not queue up behind what waits for them.
    """
    handling = outer = _running(_innermost.get())
    while outer is not None:
        if outer.blocks:
            raise DefinitionError(
                f"{_name(outer)} sent a command through AsyncService while it held the thread "
                "that applies commands; nothing was written: send it once the call has returned, "
                "or make the handler a coroutine function and await it"
            )
        outer = _running(outer.outer)
    return handling is not None


def _expect_other(outer: Handling | None, binding: Binding, id: str) -> Handling | None:
    """Return the innermost handler that waits, if none of them is the entity's own."""
    innermost = outer = _running(outer)
    if (binding.machine.name, id) in binding.busy:
        raise DefinitionError(
            f"a hook sent a command to {entity_name(binding.machine.name, id)}, which is about to "
            "be written; nothing was written: send it after that, or once the call has returned"
        )
    while outer is not None:
        if outer.binding is binding and outer.draft is not None:
            if outer.draft.id == id:
                raise DefinitionError(
                    f"{_name(outer)} sent a command to that entity itself; nothing was written: "
                    "return the state that it leads to, or send the command once the call has "
                    "returned"
                )
            if id in outer.draft.together:
                raise DefinitionError(
                    f"{_name(outer)} sent a command to {entity_name(binding.machine.name, id)}, "
                    "which is written in the same commit; nothing was written: make it a part of "
                    "that, or send the command once the call has returned"
                )
        outer = _running(outer.outer)
    return innermost


def _running(handling: Handling | None) -> Handling | None:
    while handling is not None and not handling.running:
        handling = handling.outer
    return handling


def _name(handling: Handling) -> str:
    if handling.draft is None:
        return "a hook"
    return f"a handler or guard of {entity_name(handling.draft.machine.name, handling.draft.id)}"

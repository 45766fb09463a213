"""Makes the classes of a flow's states and commands: each has one value for its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from msgspec import defstruct
from msgspec.structs import astuple

from holdfast.machine.members import TAG_FIELD

EVENT = [("event", str | None, None)]
"""What a command records beside its name: the event that triggered it, if one did."""
INITIAL = [("initial", Literal[True] | None, None)]
"""Says that the initial state is written down, which is no transition to it."""


def make_class(
    base: type,
    name: str,
    flow: type,
    again: Callable[..., Any],
    fields: Iterable[Any] = (),
) -> Any:
    """Return a class of states or commands that are stored under a name.

    `again` makes the value that a pickle holds, of the flow, the base, the name and the fields'
    values: no class is found there by its name.
    """

    def reduced(member: Any) -> tuple[Any, ...]:
        return again, (flow, base, str(name), astuple(member))

    return defstruct(
        str(name),
        fields,
        bases=(base,),
        module=flow.__module__,
        namespace={"__reduce__": reduced},
        tag=str(name),
        tag_field=TAG_FIELD,
        frozen=True,
        forbid_unknown_fields=True,
    )

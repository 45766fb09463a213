"""A command on its way to an entity: checked and encoded before any handler sees it."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, cast

from msgspec import Struct
from msgspec.structs import replace

from holdfast.errors import ValidationError
from holdfast.machine.codec import decode_metadata, encode_metadata
from holdfast.machine.definition import Machine
from holdfast.record import Request
from holdfast.service.retry import is_positive
from holdfast.stores.contract import Checkpoint

if TYPE_CHECKING:
    from holdfast.service.draft import Draft

MAX_ID_BYTES = 512
"""The longest id, in UTF-8."""
MAX_KEY_BYTES = 512
"""The longest idempotency key, in UTF-8."""


class Call(Struct, frozen=True):
    """One checked command for one entity. A purge has no command."""

    id: str
    command: Any
    command_type: str | None
    command_text: str | None
    expected_version: int | None = None
    key: str | None = None
    metadata: Mapping[str, Any] = {}
    metadata_text: str | None = None
    at: datetime | None = None
    within: contextvars.Context | None = None
    """The context variables that its handler sees, where it runs away from its caller."""
    choose: Choose | None = None
    """Completes a call without a command, once the entity is loaded."""

    @property
    def purge(self) -> bool:
        """Whether the entity's payloads are to be erased."""
        return self.command_type is None and self.choose is None


class Choose(Protocol):
    """Completes a call that has no command."""

    def __call__(self, draft: Draft, call: Call, object: Any, /) -> Call:
        """Return the call with a command for the entity as it is, given what guards are given."""
        ...

    def likely(self, draft: Draft | None, call: Call, /) -> Call:
        """Return the call with the command that was to be expected; no guard is asked."""
        ...


def check_request(
    machine: Machine[Any, Any, Any],
    request: Request[Any],
    within: contextvars.Context | None = None,
) -> Call:
    """Check and encode a request; raises ValidationError with the path to what is wrong."""
    return check_call(
        machine,
        request.id,
        request.command,
        request.expected_version,
        request.key,
        request.metadata,
        request.at,
        within,
    )


def check_call(  # noqa: PLR0917 (what `handle` takes, in its order)
    machine: Machine[Any, Any, Any],
    id: str,
    command: Any,
    expected_version: int | None = None,
    key: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    at: datetime | None = None,
    within: contextvars.Context | None = None,
) -> Call:
    """Check and encode a command for an entity; raises ValidationError as `check_request` does."""
    id = check_text("id", id, MAX_ID_BYTES)
    codec = machine.command_codec
    command_type = codec.names.get(type(command))
    if command_type is None:
        machine.expect_command(command)
    text, command = codec.encode(command)
    if expected_version is not None:
        expected_version = _checked_version(expected_version)
    if key is not None:
        key = check_text("key", key, MAX_KEY_BYTES)
    metadata_text: str | None = None
    recorded: dict[str, Any] = {}
    if metadata is not None:
        metadata_text, recorded = encode_metadata(metadata)
    if at is not None:
        at = check_time("at", at)
    return Call(
        id, command, command_type, text, expected_version, key, recorded, metadata_text, at, within
    )


def check_choice(
    id: str,
    choose: Choose,
    expected_version: int | None,
    key: str | None,
    metadata: Mapping[str, Any] | None,
) -> Call:
    """Return a call whose command is chosen once its entity is loaded; raises ValidationError."""
    call = check_commandless(id, metadata)
    if expected_version is not None:
        expected_version = _checked_version(expected_version)
    if key is not None:
        key = check_text("key", key, MAX_KEY_BYTES)
    return replace(call, expected_version=expected_version, key=key, choose=choose)


def with_command(machine: Machine[Any, Any, Any], call: Call, command: Any) -> Call:
    """Return a call with the command that was chosen for it."""
    codec = machine.command_codec
    text, command = codec.encode(command)
    return replace(
        call,
        command=command,
        command_type=codec.names[type(command)],
        command_text=text,
        metadata=decode_metadata(call.metadata_text),
        choose=None,
    )


def renewed(machine: Machine[Any, Any, Any], call: Call) -> Call:
    """Return the call as it was sent, whatever a handler has done to it."""
    if call.command_text is None:
        return call
    command = machine.command_codec.decode(call.command_text)
    return replace(call, command=command, metadata=decode_metadata(call.metadata_text))


def check_commandless(
    id: str, metadata: Mapping[str, Any] | None, within: contextvars.Context | None = None
) -> Call:
    """Return a call that no handler decides: a purge, or a state that is staged."""
    id = check_id(id)
    text, recorded = (None, {}) if metadata is None else encode_metadata(metadata)
    return Call(id, None, None, None, metadata=recorded, metadata_text=text, within=within)


def check_id(id: object) -> str:
    """Return the id; raises ValidationError for what cannot be one."""
    return check_text("id", id, MAX_ID_BYTES)


def check_text(role: str, text: object, limit: int) -> str:
    """Return the text; raises ValidationError unless it is non-empty, valid, and not too long.

    Of a subclass, like a member of an enumeration, the plain text is returned: drivers and
    formatting would each make something else of it.
    """
    if type(text) is str and text.isascii() and 0 < len(text) <= limit and "\0" not in text:
        return text
    text = plain(role, text)
    if not text:
        raise ValidationError(f"the {role} is empty")
    if "\0" in text:
        raise ValidationError(f"the {role} {text[:80]!r} has a NUL character")
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        raise ValidationError(f"the {role} {text[:80]!r} is not valid Unicode") from error
    if size > limit:
        raise ValidationError(
            f"the {role} {text[:80]!r}… takes {size:,} bytes; the limit is {limit}"
        )
    return text


def plain(role: str, text: object) -> str:
    """Return a text as a `str` itself; raises ValidationError for what is none."""
    if not isinstance(text, str):
        raise ValidationError(f"the {role} is text, not {type(text).__name__}")
    return str.__str__(text)


def check_time(role: str, time: object) -> datetime:
    """Return the time in UTC; raises ValidationError for what is not an aware datetime."""
    if not isinstance(time, datetime):
        raise ValidationError(f"{role}= is a datetime, not {type(time).__name__}")
    if time.utcoffset() is None:
        raise ValidationError(f"{role}= has no time zone: {time}; use datetime.now(UTC)")
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise ValidationError(f"{role}= is before year 1 or after 9999 in UTC: {time}") from error


def check_timeout(seconds: object) -> float:
    """Return a timeout in seconds; raises ValidationError for what cannot be one."""
    if not is_positive(seconds):
        raise ValidationError(f"timeout is a number of seconds above 0, not {seconds!r:.80}")
    return cast("float", seconds)


def check_checkpoint(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint; raises ValidationError for a name or a position that cannot be one."""
    if not isinstance(checkpoint, Checkpoint):
        raise ValidationError(
            f"checkpoint= is a Checkpoint(name, position, after), not {checkpoint!r:.80}"
        )
    name = check_text("name of the checkpoint", checkpoint.name, MAX_KEY_BYTES)
    if not is_count(checkpoint.position):
        raise ValidationError(f"a checkpoint's position is from 0, not {checkpoint.position!r}")
    after = checkpoint.after
    if after is not None and not (is_count(after) and after <= checkpoint.position):
        raise ValidationError(
            f"a checkpoint moves forward: after= is from 0 to its position "
            f"{checkpoint.position}, not {after!r}"
        )
    return checkpoint._replace(name=name)


def is_count(number: object) -> bool:
    """Whether something is a whole number from 0 that every store can hold."""
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**63


def _checked_version(version: object) -> int:
    if not is_count(version):
        raise ValidationError(f"expected_version is a number from 0, not {version!r}")
    return cast("int", version)

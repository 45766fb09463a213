"""Reads event logs in XES ticket by ticket, so that their size does not matter.

XES is IEEE 1849: a log holds traces (here tickets), a trace holds events, and both have
attributes, such as `concept:name`, `org:resource` and `time:timestamp`.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError, iterparse

NAME, RESOURCE, TIME = "concept:name", "org:resource", "time:timestamp"


_UNKNOWN_ENCODING = (ValueError, LookupError)
"""What the parser raises for a log in an encoding that it does not read."""


class LogError(Exception):
    """The log is not XES, or lacks what a ticket needs."""


class Event(NamedTuple):
    """One thing that happened to a ticket, as recorded."""

    activity: str
    resource: str
    time: str
    """ISO 8601, with its offset."""
    attributes: dict[str, str]
    """All that is recorded beside the three."""


def read_tickets(log: Path) -> Iterator[tuple[str, list[Event]]]:
    """Yield each ticket's id and events; a file named `.gz` is compressed. Raises LogError."""
    with gzip.open(log) if log.suffix == ".gz" else log.open("rb") as file:
        try:
            yield from _tickets(file)
        except (ParseError, EOFError, gzip.BadGzipFile, zlib.error, *_UNKNOWN_ENCODING) as error:
            raise LogError(f"it is no XES, or not all of it: {error}") from error


def _tickets(file: BufferedIOBase) -> Iterator[tuple[str, list[Event]]]:
    parser = iterparse(file, ("start", "end"))  # noqa: S314 (expat bounds what entities expand to)
    _, root = next(parser)
    for action, element in parser:
        if action == "end" and _kind(element) == "trace":
            yield _ticket(element)
            root.clear()


def _ticket(trace: Element) -> tuple[str, list[Event]]:
    attributes = _attributes(trace)
    if NAME not in attributes:
        raise LogError(f"a ticket has no {NAME}")
    events = [child for child in trace if _kind(child) == "event"]
    return attributes[NAME], [_event(attributes[NAME], event) for event in events]


def _event(id: str, event: Element) -> Event:
    attributes = _attributes(event)
    try:
        activity, resource, time = (attributes.pop(key) for key in (NAME, RESOURCE, TIME))
    except KeyError as error:
        raise LogError(f"{id}: an event has no {error.args[0]}") from error
    return Event(activity, resource, time, attributes)


def _attributes(element: Element) -> dict[str, str]:
    return {
        child.attrib["key"]: child.attrib["value"] for child in element if "key" in child.attrib
    }


def _kind(element: Element) -> str:
    """Return the element's name without its namespace."""
    return element.tag.rpartition("}")[2]

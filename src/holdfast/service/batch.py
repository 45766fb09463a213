"""A batch of requests: checked, grouped by entity, and its answers in the order of the requests."""

from __future__ import annotations

import contextvars
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from holdfast.errors import ValidationError
from holdfast.record import Request
from holdfast.service.call import Call, check_request
from holdfast.service.decide import Answer, Group
from holdfast.service.records import AnyMachine
from holdfast.stores.contract import MAX_BATCH


class Batch:
    """Requests on their way: those that are refused unseen are answered already.

    `groups` holds the calls of the others, by entity; `take` wants their answers in that order.
    """

    def __init__(
        self,
        machine: AnyMachine,
        requests: Sequence[Any],
        within: contextvars.Context | None = None,
    ) -> None:
        self.answers: list[Answer | None] = [None] * len(requests)
        calls: dict[str, list[Call]] = {}
        places: dict[str, list[int]] = {}
        for place, entry in enumerate(requests):
            try:
                own = None if within is None else within.copy()
                call = check_request(machine, _request(entry), own)
            except ValidationError as error:
                self.answers[place] = error
            else:
                calls.setdefault(call.id, []).append(call)
                places.setdefault(call.id, []).append(place)
        self.groups = [Group(id, own) for id, own in calls.items()]
        self._places = list(chain.from_iterable(places.values()))

    @property
    def errors(self) -> dict[int, Exception]:
        """The errors among the answers so far, by place."""
        answers = enumerate(self.answers)
        return {place: answer for place, answer in answers if isinstance(answer, Exception)}

    @property
    def taken(self) -> list[Answer | None]:
        """The answers of the groups' calls, in that order."""
        return [self.answers[place] for place in self._places]

    def take(self, answers: Iterable[Answer]) -> None:
        """Put the answers of the groups' calls where they belong."""
        for place, answer in zip(self._places, answers, strict=True):
            self.answers[place] = answer


def expect_requests(requests: object) -> Iterable[Any]:
    """Return the requests; raises ValidationError for what cannot be gone through."""
    if not isinstance(requests, Iterable):
        raise ValidationError(
            f"handle_many takes (id, command) pairs or Requests, not {requests!r:.80}"
        )
    return requests


def draw_whole(requests: Iterable[Any]) -> list[Any]:
    """Return all requests; raises ValidationError for too many to be one commit."""
    drawn = list(islice(requests, MAX_BATCH + 1))
    if len(drawn) > MAX_BATCH:
        raise ValidationError(
            f"more than {MAX_BATCH:,} commands cannot be one commit; cut them into batches"
        )
    return drawn


def batches(
    machine: AnyMachine, requests: Iterable[Any], within: contextvars.Context | None
) -> Iterator[Batch]:
    """Cut requests into batches, drawing no more than the next one needs."""
    iterator = iter(requests)
    while drawn := list(islice(iterator, MAX_BATCH)):
        yield Batch(machine, drawn, within)


def _request(entry: Any) -> Request[Any]:
    """Return the request that an entry of a batch is; raises ValidationError."""
    if isinstance(entry, Request):
        return entry
    try:
        return Request(*entry)
    except TypeError as error:
        raise ValidationError(
            f"a request is an (id, command) pair or a Request, not {entry!r:.80}"
        ) from error

"""Models of every kind that a flow may be around."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.db import models

from holdfast import Change, CommandRejectedError, Flow, Transition
from holdfast.ext.django import FlowManager, FlowQuerySet, ModelFlow, StateField


class OrderFlow(Flow["Order"]):
    pending = Flow.state(initial=True)
    checking_out = Flow.state()
    purchased = Flow.state()
    cancelled = Flow.state()

    pending.to(checking_out, cancelled)
    checking_out.to(purchased, cancelled)


@OrderFlow.guard(to=OrderFlow.purchased, reason="nothing was paid")
def is_paid(order: Order) -> bool:
    order.acts.get("guard", bool)()
    return bool(order.is_paid)


@OrderFlow.before(to=OrderFlow.purchased)
def note_before(order: Order, change: Change[Any, Any]) -> None:
    order.call("before")


@OrderFlow.after(to=OrderFlow.purchased)
def note_after(order: Order, transition: Transition[Any, Any]) -> None:
    order.call("after")


@OrderFlow.after_commit()
def note_commit(order: Order, transition: Transition[Any, Any]) -> None:
    order.call(f"after_commit {transition.to_state}")


@OrderFlow.on_failure()
def note_failure(order: Order, error: Exception) -> None:
    order.call("on_failure")


class Order(models.Model):
    is_paid = models.BooleanField(default=False)
    status = StateField()

    flow = ModelFlow(OrderFlow, mirror="status")
    objects: ClassVar[FlowManager[Order]] = FlowManager()

    def __str__(self) -> str:
        return f"order {self.pk}"

    def call(self, what: str) -> None:
        """Note what was called, here and in the database; do what a test wants done then."""
        self.calls.append(what)
        Note.objects.using(self._state.db).create(text=what)
        act = self.acts.get(what)
        if act is not None:
            act()

    @property
    def calls(self) -> list[str]:
        """What was called."""
        calls: list[str] = vars(self).setdefault("_calls", [])
        return calls

    @property
    def acts(self) -> dict[str, Any]:
        """What a test wants done at a call."""
        acts: dict[str, Any] = vars(self).setdefault("_acts", {})
        return acts


class Note(models.Model):
    """What a callback wrote in the same transaction."""

    text = models.TextField()


class PaymentFlow(Flow["Parcel"]):
    open_ = Flow.state(name="open", initial=True)
    paid = Flow.state()
    open_.to(paid)


class ParcelFlow(Flow["Parcel"]):
    packed = Flow.state(initial=True)
    sent = Flow.state()
    packed.to(sent)


@ParcelFlow.guard(to=ParcelFlow.sent)
def has_address(parcel: Parcel, change: Change[Any, Any]) -> bool:
    if not change.metadata.get("by"):
        raise CommandRejectedError("nobody says so")
    return True


@ParcelFlow.before(to=ParcelFlow.sent)
def seal(parcel: Parcel) -> None:
    parcel.save()


class ParcelQuerySet(FlowQuerySet["Parcel"]):
    def heavy(self) -> ParcelQuerySet:
        return self.filter(grams__gt=1000)


class Parcel(models.Model):
    """Two flows, kept under a number; its key is a UUID."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    number = models.CharField(max_length=20, unique=True)
    grams = models.IntegerField(default=0)

    parcel = ModelFlow(ParcelFlow, id="number")
    payment = ModelFlow(PaymentFlow)
    objects: ClassVar[Any] = ParcelQuerySet.as_manager()


class LetterFlow(Flow["Registered"]):
    written = Flow.state(initial=True)
    sent = Flow.state()
    written.to(sent)
    sent.to(written)


class Letter(models.Model):
    """Has a column, and no flow."""

    status = StateField()


class Registered(Letter):
    """Has a flow that is mirrored in the column of the rows above its own."""

    flow = ModelFlow(LetterFlow, mirror="status")
    objects: ClassVar[FlowManager[Registered]] = FlowManager()


class CouponFlow(Flow["Coupon"]):
    valid = Flow.state(initial=True)
    used = Flow.state()
    valid.to(used)


class Coupon(models.Model):
    """Has a key that the database gives where nobody else does."""

    number = models.IntegerField(primary_key=True, db_default=1)
    status = StateField()

    flow = ModelFlow(CouponFlow, mirror="status")
    objects: ClassVar[FlowManager[Coupon]] = FlowManager()

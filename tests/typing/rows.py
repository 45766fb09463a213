"""Flows of Django models, type-checked and never run: the lines marked are mistakes."""

from __future__ import annotations

from typing import Any, ClassVar, assert_type

from django.contrib import admin
from django.db import models

from holdfast import Change, Flow, Service, Transition
from holdfast.ext.django import (
    DjangoStore,
    FlowManager,
    FlowQuerySet,
    ModelFlow,
    current_state,
    in_state,
    most_recent_transition,
    store_of,
)
from holdfast.ext.django.admin import FlowAdmin, StateFilter


class OrderFlow(Flow["Order"]):
    pending = Flow.state(initial=True)
    paid = Flow.state()
    pending.to(paid)


@OrderFlow.before(to=OrderFlow.paid)
def note(order: Order, change: Change) -> None:
    order.goods()


class Order(models.Model):
    flow = ModelFlow(OrderFlow, mirror="status")
    objects: ClassVar[FlowManager[Order]] = FlowManager()

    def goods(self) -> int:
        return 1


class Parcels(FlowQuerySet["Parcel"]):
    def heavy(self) -> Parcels:
        return self.filter(grams=1).in_state("paid")


class Parcel(models.Model):
    flow = ModelFlow(OrderFlow, id="number")


ModelFlow(int)  # error
ModelFlow(OrderFlow, mirror=1)  # error
ModelFlow(OrderFlow, id=None)  # error

order = Order()
assert_type(Order.flow, ModelFlow[OrderFlow])
assert_type(order.flow, OrderFlow)
assert_type(order.flow.object, Order)
assert_type(order.flow.transition_to(OrderFlow.paid), Transition[Any, Any])
order.flow.transition_to(1)  # error
order.flow.object.weight()  # error

assert_type(Order.objects.in_state("paid", OrderFlow.pending), FlowQuerySet[Order])
assert_type(Order.objects.order_by("pk").in_state("paid").first(), Order | None)
assert_type(Order.objects.select_for_update().not_in_state("paid").get(), Order)
assert_type(Order.objects.annotate(at=most_recent_transition(Order)).with_state().get(), Order)
assert_type(Order.objects.filter(in_state(Order, "paid")).mirror_states(), int)
Order.objects.annotate(state=current_state(Order, flow="flow")).in_state(1)  # error
Order.objects.in_state("paid").get().weight()  # error
in_state(OrderFlow, "paid")  # error

assert_type(store_of("other"), DjangoStore)
Service(OrderFlow.machine, store_of(), deps=order)
store_of(1)  # error


@admin.register(Order)
class OrderAdmin(FlowAdmin):
    list_display = ("__str__", "current_state")
    list_filter = (StateFilter,)

    def state_label(self, state: str) -> int:  # error
        return 1

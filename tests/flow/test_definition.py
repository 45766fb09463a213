"""What a flow declares: states, rules, events, and the machine that it is compiled to."""

from __future__ import annotations

import copy
import json
import pickle
from functools import partial
from types import new_class
from typing import Any

import pytest

from holdfast import (
    Change,
    DefinitionError,
    Flow,
    InvalidTransitionError,
    Transition,
    open_store,
)
from holdfast.testing import assert_calls


class OrderFlow(Flow):
    pending = Flow.state(initial=True)
    checking_out = Flow.state()
    purchased = Flow.state()
    shipped = Flow.state()
    cancelled = Flow.state()

    pending.to(checking_out, cancelled)
    checking_out.to(purchased, cancelled)
    purchased.to(shipped)

    cancel = Flow.event(pending.to(cancelled), checking_out.to(cancelled))


def test_states_are_listed_in_the_order_of_their_definition() -> None:
    """Given a flow, its states are those of its body."""
    assert OrderFlow.states == ["pending", "checking_out", "purchased", "shipped", "cancelled"]


def test_the_initial_state_is_the_one_that_says_so() -> None:
    """Given a state with initial=True, it is where entities begin."""
    assert OrderFlow.initial == "pending"
    assert OrderFlow.initial is OrderFlow.pending


def test_successors_tell_what_each_state_leads_to() -> None:
    """Given the rules, states that lead nowhere are left out, as in a list of rules."""
    assert OrderFlow.successors == {
        "pending": ["checking_out", "cancelled"],
        "checking_out": ["purchased", "cancelled"],
        "purchased": ["shipped"],
    }


def test_what_is_listed_is_a_copy() -> None:
    """Given a list of successors, changing it changes no rule."""
    OrderFlow.successors["pending"].clear()
    OrderFlow.states.clear()

    assert OrderFlow.successors["pending"] == ["checking_out", "cancelled"]
    assert len(OrderFlow.states) == 5


def test_a_state_is_its_name() -> None:
    """Given a state, it is equal to its name, is its key in a dict, and goes into JSON."""
    assert OrderFlow.pending == "pending"
    assert str(OrderFlow.pending) == OrderFlow.pending.name == "pending"
    assert type(OrderFlow.pending.name) is str
    assert {"pending": 1}[OrderFlow.pending] == 1
    assert repr(OrderFlow.pending) == "OrderFlow.pending"
    assert json.dumps([OrderFlow.pending]) == '["pending"]'


def test_a_copy_of_a_state_is_its_name() -> None:
    """Given a state that is copied or pickled, what arrives is text: the flow is code."""
    assert copy.deepcopy(OrderFlow.pending) == "pending"
    arrived = pickle.loads(pickle.dumps({"state": OrderFlow.pending}))
    assert arrived == {"state": "pending"}
    assert type(arrived["state"]) is str


def test_a_transition_can_be_pickled_and_copied() -> None:
    """Given a transition for another process, what arrives is equal to it."""
    with open_store("memory://") as store:
        flow = OrderFlow(None, store=store, id="o-1", record_initial=True)
        for made in (flow.trigger("cancel", metadata={"by": "alice"}), *flow.history):
            arrived = pickle.loads(pickle.dumps(made))
            assert arrived == made
            assert (type(arrived.state), type(arrived.command)) == (
                type(made.state),
                type(made.command),
            )
            assert copy.deepcopy(made) == made


def test_a_rule_may_have_several_sources_and_targets() -> None:
    """Given one rule from two states to two, all four transitions are allowed."""

    class Wide(Flow):
        a = Flow.state(initial=True)
        b = Flow.state()
        c = Flow.state()
        d = Flow.state()
        Flow.transition(from_=[a, b], to=("c", d))

    assert Wide.successors == {"a": ["c", "d"], "b": ["c", "d"]}


def test_a_rule_without_sources_leads_from_every_other_state() -> None:
    """Given a rule that only says where to, every state leads there, but for itself."""

    class Stoppable(Flow):
        a = Flow.state(initial=True)
        b = Flow.state()
        stopped = Flow.state()
        a.to("b")
        stop = Flow.event(Flow.transition(to=stopped))

    assert Stoppable.successors == {"a": ["b", "stopped"], "b": ["stopped"]}
    assert Stoppable.events == ["stop"]


def test_rules_may_be_added_after_the_body_and_by_name() -> None:
    """Given a flow that is not in use, rules are added to it, with names too."""

    class Late(Flow):
        a = Flow.state(initial=True)
        b = Flow.state()
        c = Flow.state()

    Late.a.to("b")
    Late.transition(from_="b", to=["c", "a"])

    assert Late.successors == {"a": ["b"], "b": ["c", "a"]}


def test_a_rule_that_is_said_twice_is_one() -> None:
    """Given a rule and an event that repeats it, the transition is there once."""

    class Twice(Flow):
        a = Flow.state(initial=True)
        b = Flow.state()
        a.to(b)
        a.to(b)
        go = Flow.event(a.to(b))

    assert Twice.successors == {"a": ["b"]}


def test_a_state_may_lead_to_itself() -> None:
    """Given a rule from a state to itself, it is a transition like any other."""

    class Loop(Flow):
        a = Flow.state(initial=True)
        a.to(a)

    assert Loop.successors == {"a": ["a"]}


def test_a_state_may_be_stored_under_another_name() -> None:
    """Given an attribute that cannot have the state's name, the name is given beside it."""

    class Light(Flow):
        on_ = Flow.state(name="on")
        off = Flow.state(initial=True)
        broken = Flow.state(name="under repair (Ω)")
        off.to(on_)
        on_.to(off, broken)

    assert Light.states == ["on", "off", "under repair (Ω)"]
    assert Light.on_ == "on"
    with open_store("memory://") as store:
        light = Light(None, store=store, id="1")
        light.transition_to("on")
        light.transition_to("under repair (Ω)")
        assert light.current_state is Light.broken


@pytest.mark.parametrize(
    ("cls_name", "name"),
    [
        ("OrderFlow", "order"),
        ("LoanApplicationFlow", "loan_application"),
        ("HTTPCallFlow", "http_call"),
        ("Order2Flow", "order2"),
        ("Parcel", "parcel"),
        ("Flow", "flow"),
    ],
)
def test_a_flow_is_stored_under_the_name_of_its_class(cls_name: str, name: str) -> None:
    """Given a class name, the machine's is its words without Flow at the end."""
    flow: Any = new_class(cls_name, (Flow,), {"abstract": False}, _declare)
    assert flow.machine.name == name


def test_a_flow_may_be_stored_under_a_name_of_its_own() -> None:
    """Given a name in the class statement, the machine has that one."""

    class OrderFlow(Flow, name="shop.order"):
        a = Flow.state(initial=True)

    assert OrderFlow.machine.name == "shop.order"


def test_a_flow_may_be_made_by_a_call() -> None:
    """Given a base and declarations in a dictionary, it is as one that is written as a class."""
    made: Any = type("ParcelFlow", (Flow,), {"packed": Flow.state(initial=True)})
    inherited: Any = type("LetterFlow", (made,), {"sent": Flow.state()})
    inherited.packed.to(inherited.sent)

    assert (made.machine.name, inherited.machine.name) == ("parcel", "letter")
    assert (made.states, inherited.successors) == (["packed"], {"packed": ["sent"]})


def test_a_flow_that_is_made_by_a_call_is_held_to_the_same() -> None:
    """Given nothing that it begins with, it is refused as a class would be."""
    with pytest.raises(DefinitionError, match="ParcelFlow has no initial state"):
        type("ParcelFlow", (Flow,), {})
    with pytest.raises(DefinitionError, match="states is what every flow has"):
        type("ParcelFlow", (Flow,), {"states": Flow.state(initial=True)})


def test_the_graph_shows_names_and_the_initial_state() -> None:
    """Given a flow, its diagram has its rules, and an arrow to where entities begin."""
    assert OrderFlow.graph().mermaid().splitlines() == [
        "stateDiagram-v2",
        "    pending",
        "    checking_out",
        "    purchased",
        "    shipped",
        "    cancelled",
        "    [*] --> pending : pending",
        "    pending --> checking_out : checking_out",
        "    checking_out --> purchased : purchased",
        "    purchased --> shipped : shipped",
        "    pending --> cancelled : cancelled",
        "    checking_out --> cancelled : cancelled",
        "    shipped --> [*]",
        "    cancelled --> [*]",
    ]


def test_a_check_finds_a_state_that_nothing_leads_to() -> None:
    """Given a state without a rule to it, the machine's check names it."""

    class Lost(Flow):
        a = Flow.state(initial=True)
        b = Flow.state()
        island = Flow.state()
        a.to(b)

    assert Lost.machine.check().unreachable == ("island",)
    assert OrderFlow.machine.check().sound


def test_the_machine_is_built_once() -> None:
    """Given a flow, its machine is the same at every look, and closes the definition."""
    assert OrderFlow.machine is OrderFlow.machine
    with pytest.raises(DefinitionError, match="OrderFlow cannot be changed any more: it is in use"):
        OrderFlow.shipped.to(OrderFlow.cancelled)


def _declare(body: dict[str, Any]) -> None:
    body["begun"] = Flow.state(initial=True)


def test_decorators_without_parentheses_are_for_every_transition() -> None:
    """Given guards and callbacks without a filter, all are called where they belong."""

    class Bare(Flow[list[str]]):
        a = Flow.state(initial=True)
        b = Flow.state()
        a.to(b)

    @Bare.guard
    def guard(calls: list[str]) -> bool:
        return "refuse" not in calls

    @Bare.before
    def before(calls: list[str]) -> None:
        calls.append("before")

    @Bare.after
    def after(calls: list[str]) -> None:
        calls.append("after")

    @Bare.after_commit
    def after_commit(calls: list[str]) -> None:
        calls.append("after_commit")

    @Bare.on_failure
    def on_failure(calls: list[str]) -> None:
        calls.append("on_failure")

    @Bare.on_guard_failure
    def on_guard_failure(calls: list[str]) -> None:
        calls.append("on_guard_failure")

    with open_store("memory://") as store:
        refused = Bare(["refuse"], store=store, id="1")
        assert not refused.try_transition_to("b")
        assert refused.object == ["refuse", "on_guard_failure", "on_failure"]
        made = Bare([], store=store, id="2")
        made.transition_to("b")
        assert made.object == ["before", "after", "after_commit"]


class Caller:
    """Notes what is called in its name, as a method and as itself."""

    def method(self, calls: list[str], change: Change) -> bool:
        """Be a bound method."""
        calls.append(f"method to {change.to_state}")
        return True

    def __call__(self, calls: list[str], transition: Transition) -> None:
        """Be an object that is called."""
        calls.append(f"object at {transition.version}")


def filled(word: str, calls: list[str]) -> None:
    """Be a function some of which is filled in."""
    calls.append(word)


def test_whatever_is_called_may_be_a_callback() -> None:
    """Given a method, a partial and an object, they are called, and assertions name them."""

    class Shop(Flow[list[str]]):
        a = Flow.state(initial=True)
        b = Flow.state()
        a.to(b)

    caller = Caller()
    part = partial(filled, "partial")
    Shop.guard()(caller.method)
    Shop.before()(part)
    Shop.after()(caller)
    with open_store("memory://") as store:
        shop = Shop([], store=store, id="1")
        with assert_calls(Shop, caller.method, part, caller):
            shop.transition_to("b")
        assert shop.object == ["method to b", "partial", "object at 1"]


async def awaited(word: str, calls: list[str]) -> None:
    """Be what nobody awaits."""


class Awaited:
    """Is what nobody awaits."""

    async def __call__(self, calls: list[str]) -> None:
        """Be awaited."""


@pytest.mark.parametrize("function", [partial(awaited, "w"), Awaited(), Awaited().__call__])
def test_what_has_to_be_awaited_is_no_callback(function: Any) -> None:
    """Given a coroutine function, however it is wrapped, it is refused."""

    class Shop(Flow):
        a = Flow.state(initial=True)

    with pytest.raises(
        DefinitionError, match=r"test_definition.py:\d+\): a hook is a plain function"
    ):
        Shop.before()(function)


def test_the_refusal_of_another_machine_passes_through_any_callback() -> None:
    """Given a method that lets another flow's refusal slip, it is not taken for the flow's own."""

    class Shop(Flow[Any]):
        a = Flow.state(initial=True)
        b = Flow.state()
        a.to(b)

    class Raiser:
        def method(self, object: Any) -> None:
            raise InvalidTransitionError("shop", "a", "b", [], "1")

        __call__ = method

    for callback in (Raiser().method, Raiser(), partial(Raiser.method, Raiser())):

        class Own(Shop, name="shop"):
            pass

        Own.before()(callback)
        with open_store("memory://") as store, pytest.raises(InvalidTransitionError):
            Own(None, store=store, id="1").try_transition_to("b")

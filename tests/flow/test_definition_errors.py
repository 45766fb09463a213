"""What is wrong in a flow is said where it is defined, with the file and the line."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

from holdfast import DefinitionError, Flow, open_store

HERE = re.compile(r"#.* (here|\(here\))$", re.MULTILINE)
"""Marks the line that the error has to name."""


class Order(Flow, abstract=True):
    """A template, so that each case may add to a flow of its own."""

    pending = Flow.state(initial=True)
    paid = Flow.state()
    shipped = Flow.state()
    refunded = Flow.state()
    pending.to(paid)
    paid.to(shipped)
    shipped.to(refunded)
    move = Flow.event(pending.to(paid), paid.to(shipped))


class Other(Flow):
    elsewhere = Flow.state(initial=True)


def hook(order: object) -> None:
    """Stand for any callback."""


def unknown_state_by_name() -> None:
    class Wrong(Order):
        pass

    Wrong.pending.to("piad")  # here


def unknown_state_of_another_flow() -> None:
    class Wrong(Order):
        pass

    Wrong.pending.to(Other.elsewhere)  # here


def unknown_state_in_a_guard() -> None:
    class Wrong(Order):
        pass

    Wrong.guard(to="piad")  # here


def unknown_state_that_is_no_name() -> None:
    class Wrong(Order):
        pass

    Wrong.transition(from_=Wrong.pending, to=[3])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType] (here)


def two_initial_states() -> None:
    class Wrong(Flow):
        a = Flow.state(initial=True)
        b = Flow.state(initial=True)  # here


def an_initial_state_beside_an_inherited_one() -> None:
    class Wrong(Order):
        a = Flow.state(initial=True)  # here


def a_rule_without_a_target() -> None:
    class Wrong(Order):
        pass

    Wrong.pending.to()  # here


def a_transition_without_a_target() -> None:
    class Wrong(Order):
        pass

    Wrong.transition(from_=Wrong.pending)  # here


def a_transition_to_no_state() -> None:
    class Wrong(Order):
        pass

    Wrong.transition(to=[])  # here


def a_misspelt_option_of_a_rule() -> None:
    class Wrong(Order):
        pass

    Wrong.transition(form=Wrong.pending, to=Wrong.paid)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] (here)


def a_misspelt_option_of_to() -> None:
    class Wrong(Order):
        pass

    Wrong.pending.to(Wrong.paid, guard=hook)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] (here)


def a_misspelt_option_of_a_state() -> None:
    class Wrong(Flow):
        a = Flow.state(intial=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] (here)


def a_misspelt_option_of_a_callback() -> None:
    class Wrong(Order):
        pass

    Wrong.before(too=Wrong.paid)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType] (here)


def a_reason_of_what_is_no_guard() -> None:
    class Wrong(Order):
        pass

    Wrong.after(reason="none")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType] (here)


def a_state_that_is_given_its_name_by_place() -> None:
    class Wrong(Flow):
        a = Flow.state("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] (here)


def filters_by_place() -> None:
    class Wrong(Order):
        pass

    Wrong.before("pending", "paid")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue] (here)


def a_filter_beside_a_function() -> None:
    class Wrong(Order):
        pass

    Wrong.before(hook, "paid")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue] (here)


def a_transition_by_place() -> None:
    class Wrong(Order):
        pass

    Wrong.transition("pending", "paid")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] (here)


def a_filter_that_is_no_state() -> None:
    class Wrong(Order):
        pass

    Wrong.before(to=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType] (here)


def a_callback_in_the_body() -> None:
    class Wrong(Flow):
        a = Flow.state(initial=True)
        b = Flow.state()
        a.to(b)

        @Flow.before(to=b)  # here
        def never(self) -> None: ...


def a_reason_that_is_no_text() -> None:
    class Wrong(Order):
        pass

    @Wrong.guard(reason=hook)  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportArgumentType] (here)
    def never(order: object) -> bool:
        return True


def a_state_of_what_is_no_flow() -> None:
    class Mixin:
        a = Flow.state(initial=True)  # here

    class Wrong(Mixin, Order):
        pass


def a_rule_of_what_is_no_flow() -> None:
    class Mixin:
        a = Flow.state(initial=True)  # here
        a.to("b")


def a_filter_by_place() -> None:
    class Wrong(Order):
        pass

    Wrong.guard("paid")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType] (here)


def an_event_of_a_state() -> None:
    class Wrong(Order):
        pay = Flow.event(Order.paid)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] (here)


def a_state_that_was_removed_with_its_guards() -> None:
    class Shorter(Order):
        pass

    Shorter.remove_state("paid")

    class Wrong(Shorter):
        paid = Flow.state()  # here


def a_callback_from_a_final_state() -> None:
    class Wrong(Order):
        pass

    @Wrong.before(from_=Wrong.refunded)  # here
    def never(order: object) -> None: ...


def a_callback_to_the_initial_state() -> None:
    class Wrong(Order):
        pass

    @Wrong.after(to=Wrong.pending)  # here
    def never(order: object) -> None: ...


def a_callback_for_no_transition() -> None:
    class Wrong(Order):
        pass

    @Wrong.guard(from_=Wrong.pending, to=[Wrong.paid, Wrong.shipped])  # here
    def never(order: object) -> bool:
        return True


def a_callback_of_no_state() -> None:
    class Wrong(Order):
        pass

    Wrong.guard(to=[])  # here


def a_callback_that_is_no_function() -> None:
    class Wrong(Order):
        pass

    Wrong.before()("hook")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType] (here)


def a_callback_that_is_a_coroutine() -> None:
    class Wrong(Order):
        pass

    @Wrong.before()  # here
    async def never(order: object) -> None: ...


def a_callback_that_wants_what_there_is_not() -> None:
    class Wrong(Order):
        pass

    @Wrong.before()  # here
    def never(order: object, transition: object) -> None: ...


def duplicate_states() -> None:
    class Wrong(Flow):
        a = Flow.state(initial=True)
        a = Flow.state()  # noqa: PIE794 (here)


def a_state_that_is_inherited_already() -> None:
    class Wrong(Order):
        paid = Flow.state()  # here


def one_state_under_two_names() -> None:
    class Wrong(Flow):
        a = b = Flow.state(initial=True)  # here


def two_states_stored_under_one_name() -> None:
    class Wrong(Flow):
        a = Flow.state(initial=True)
        b = Flow.state(name="a")  # here


def a_state_without_a_name() -> None:
    class Wrong(Flow):
        a = Flow.state(initial=True, name="")  # here


def a_state_with_a_name_that_cannot_be_shown() -> None:
    class Wrong(Flow):
        a = Flow.state(initial=True, name="a\0b")  # here


def a_machine_without_a_name() -> None:
    class Wrong(Order, name=""):
        pass


def a_template_without_a_name() -> None:
    class Wrong(Order, name="", abstract=True):
        pass


def a_machine_with_a_name_that_cannot_be_stored() -> None:
    class Wrong(Order, name="my order"):
        pass


def a_method_over_a_state() -> None:
    class Wrong(Order):
        def paid(self) -> None: ...  # type: ignore[override]  # (here)


def a_state_named_as_a_part_of_flows() -> None:
    class Wrong(Flow):
        history = Flow.state(initial=True)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride] (here)


def no_initial_state() -> None:
    class Wrong(Flow):
        a = Flow.state()


def a_state_after_a_rule_from_any() -> None:
    class Wrong(Flow):
        a = Flow.state(initial=True)
        stopped = Flow.state()
        Flow.transition(to=stopped)
        late = Flow.state()  # here


def an_event_without_a_transition() -> None:
    class Wrong(Flow):
        a = Flow.state(initial=True)
        go = Flow.event()  # here


def an_event_of_another_flow() -> None:
    class Wrong(Order):
        go = Flow.event(Other.elsewhere.to(Other.elsewhere))  # here


def a_rule_of_a_base_that_is_inherited() -> None:
    class Wrong(Order):
        pass

    Order.refunded.to(Order.paid)  # here


def a_callback_of_a_base_that_is_inherited() -> None:
    class Wrong(Order):
        pass

    @Order.guard()  # here
    def late(order: object) -> bool:
        return True


def removing_the_initial_state() -> None:
    class Wrong(Order):
        pass

    Wrong.remove_state(Wrong.pending)  # here


def removing_a_transition_that_there_is_not() -> None:
    class Wrong(Order):
        pass

    Wrong.remove_transitions(Wrong.pending, Wrong.shipped)  # here


def removing_no_transition_in_particular() -> None:
    class Wrong(Order):
        pass

    Wrong.remove_transitions()  # here


CASES: dict[Callable[[], None], str] = {
    unknown_state_by_name: "piad is no state of Wrong; they are pending, paid, shipped, refunded",
    unknown_state_of_another_flow: "elsewhere of Other is no state of Wrong",
    unknown_state_in_a_guard: "piad is no state of Wrong",
    unknown_state_that_is_no_name: "3 is no state of Wrong",
    two_initial_states: "Wrong has an initial state already, a, declared at",
    an_initial_state_beside_an_inherited_one: "Wrong has an initial state already, pending",
    a_rule_without_a_target: "Wrong.pending.to() names no state to lead to",
    a_transition_without_a_target: "the rule names no state to lead to (to=)",
    a_transition_to_no_state: "the rule names no state to lead to (to=)",
    a_misspelt_option_of_a_rule: "transition takes from_, to; 'form' is none of them",
    a_misspelt_option_of_to: "to takes no options; 'guard' is none of them",
    a_misspelt_option_of_a_state: "state takes initial, name; 'intial' is none of them",
    a_misspelt_option_of_a_callback: "before takes from_, to; 'too' is none of them",
    a_reason_of_what_is_no_guard: "after takes from_, to; 'reason' is none of them",
    a_callback_from_a_final_state: "refunded is final: nothing leads out of it",
    a_callback_to_the_initial_state: "nothing leads to pending, the initial state",
    a_callback_for_no_transition: "nothing leads from pending to shipped",
    a_callback_of_no_state: "this guard names no state, and would never be called",
    a_callback_that_is_no_function: "a before is a function, not 'hook'",
    a_callback_that_is_a_coroutine: "coroutine",
    a_callback_that_wants_what_there_is_not: "transition",
    duplicate_states: "Wrong has a already, declared at",
    a_state_that_is_inherited_already: "Wrong has paid already, declared at",
    one_state_under_two_names: "two attributes of Wrong would be one state",
    two_states_stored_under_one_name: "Wrong has a already, declared at",
    a_state_without_a_name: "'' cannot be a name; take from 1 to 200 printable characters",
    a_state_with_a_name_that_cannot_be_shown: "'a\\x00b' cannot be a name",
    a_machine_without_a_name: "'' cannot name a machine",
    a_template_without_a_name: "'' cannot name a machine",
    a_machine_with_a_name_that_cannot_be_stored: "'my order' cannot name a machine",
    a_method_over_a_state: "Wrong has paid already, declared at",
    a_state_named_as_a_part_of_flows: "history is what every flow has",
    no_initial_state: "Wrong has no initial state: declare one with Flow.state(initial=True)",
    a_state_after_a_rule_from_any: "leads from any state, and would miss late",
    an_event_without_a_transition: "the event go names no transition of Wrong",
    an_event_of_another_flow: "elsewhere of Other is no state of Wrong",
    a_state_that_is_given_its_name_by_place: "a state has the name of its attribute",
    a_filter_that_is_no_state: "3 is no state of Wrong; pass one by its name",
    a_filter_by_place: "a guard is a function, not 'paid'; states are given as from_= and to=",
    filters_by_place: "a before is a function, not 'pending'; states are given as from_= and to=",
    a_filter_beside_a_function: "a before takes states by names, from_=… and to=…, not 'paid'",
    a_transition_by_place: "a transition takes states by names, from_=… and to=…, not 'pending'",
    a_callback_in_the_body: "add the before to the flow after its body: @OrderFlow.before(…)",
    a_reason_that_is_no_text: "reason= is what a guard tells where it refuses, not <function hook",
    a_state_of_what_is_no_flow: "Mixin declares a, and is no flow; write class Mixin(Flow",
    a_rule_of_what_is_no_flow: "a state that is declared here has no rules: declare it in the body",
    an_event_of_a_state: "the event pay is given Order.paid, which is no transition",
    a_state_that_was_removed_with_its_guards: "paid was removed at",
    a_rule_of_a_base_that_is_inherited: "Order cannot be changed any more",
    a_callback_of_a_base_that_is_inherited: "Order cannot be changed any more",
    removing_the_initial_state: "pending is the initial state of Wrong",
    removing_a_transition_that_there_is_not: "no such transition of Wrong to remove",
    removing_no_transition_in_particular: "no such transition of Wrong to remove",
}


@pytest.mark.parametrize("wrong", CASES, ids=lambda case: case.__name__)
def test_a_wrong_definition_is_refused_at_its_line(wrong: Callable[[], None]) -> None:
    """Given a mistake in a definition, the error says what it is and where."""
    with pytest.raises(DefinitionError) as raised:
        wrong()

    message = str(raised.value)
    assert CASES[wrong] in message
    lines, first = inspect.getsourcelines(wrong)
    marked = [first + place for place, line in enumerate(lines) if HERE.search(line)]
    for line in marked:
        assert f"{__file__}:{line}" in message


def test_nearly_every_mistake_is_told_with_its_line() -> None:
    """Given the cases, only those that belong to no line have none."""
    unmarked = [case.__name__ for case in CASES if not HERE.search(inspect.getsource(case))]
    assert unmarked == [
        "a_machine_without_a_name",
        "a_template_without_a_name",
        "a_machine_with_a_name_that_cannot_be_stored",
        "no_initial_state",
    ]


def test_the_flow_that_all_inherit_from_has_no_states() -> None:
    """Given Flow itself, what is asked of it is refused with what to do."""
    asked: list[Callable[[], Any]] = [lambda: Flow.states, lambda: Flow.machine, Flow.guard]
    for ask in asked:
        with pytest.raises(DefinitionError, match="Flow itself has no states; inherit from it"):
            ask()


def test_a_template_has_no_machine() -> None:
    """Given an abstract flow, it cannot be used but by those that inherit from it."""
    with pytest.raises(DefinitionError, match="Order is abstract"):
        _ = Order.machine


def test_a_misspelt_option_of_the_class_is_refused() -> None:
    """Given an option that flows do not have, the class statement fails."""
    with pytest.raises(DefinitionError, match="a flow takes name, abstract; 'nmae' is none"):

        class Wrong(Flow, nmae="wrong"):  # pyright: ignore[reportArgumentType]
            a = Flow.state(initial=True)


def test_what_no_rule_allows_may_fail() -> None:
    """Given callbacks on failures, they are for attempts from a final state and without a rule."""

    class Shop(Flow):
        open = Flow.state(initial=True)
        closed = Flow.state()
        open.to(closed)

    told: list[object] = []

    @Shop.on_failure(from_="closed")
    @Shop.on_failure(to="open")
    @Shop.on_failure(from_="closed", to="open")
    def note(shop: object, error: Exception) -> None:
        told.append(error)

    with open_store("memory://") as store:
        shop = Shop(None, store=store, id="s-1")
        shop.transition_to("closed")
        assert not shop.try_transition_to("open")
    assert len(told) == 3

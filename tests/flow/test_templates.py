"""Flows that inherit: they add, they take out, and what guards goes on guarding what is left."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import DefinitionError, Flow, GuardFailedError, open_store


def template() -> Any:
    """Return a circle of three states with a guard to two of them."""

    class Template(Flow, abstract=True):
        a = Flow.state(initial=True)
        b = Flow.state()
        c = Flow.state()
        a.to(b, c)
        b.to(c)
        c.to(a)
        back = Flow.event(c.to(a))
        go = Flow.event(a.to(b), b.to(c))

    return Template


def refuse(flow: type[Flow], **filters: Any) -> None:
    """Add a guard that lets nothing through."""

    @flow.guard(**filters)
    def closed(thing: object) -> bool:
        return False


def refused(flow: Any, *path: str) -> bool:
    """Bring an entity along a path, and tell whether a guard refuses its last step."""
    with open_store("memory://") as store:
        entity = flow(None, store=store, id="1")
        for state in path[:-1]:
            entity.transition_to(state)
        try:
            entity.transition_to(path[-1])
        except GuardFailedError:
            return True
        return False


def test_a_flow_takes_over_all_that_a_template_declares() -> None:
    """Given a template, the flow has its states, rules and events as its own."""
    base = template()

    class Circular(base):  # type: ignore[misc, valid-type]
        pass

    assert Circular.successors == {"a": ["b", "c"], "b": ["c"], "c": ["a"]}
    assert Circular.initial == "a"
    assert Circular.events == ["back", "go"]
    assert repr(Circular.a) == "Circular.a"
    assert repr(base.a) == "Template.a"


def test_a_transition_that_is_removed_leaves_the_states() -> None:
    """Given a circle, without its last transition it is a line, and the circle is as before."""
    base = template()

    class Linear(base):  # type: ignore[misc, valid-type]
        pass

    Linear.remove_transitions(Linear.c, Linear.a)

    assert Linear.successors == {"a": ["b", "c"], "b": ["c"]}
    assert Linear.states == ["a", "b", "c"]
    assert base.successors == {"a": ["b", "c"], "b": ["c"], "c": ["a"]}


def test_transitions_are_removed_from_a_state_to_any_and_to_it() -> None:
    """Given one end of the transitions, all that have it are removed."""
    base = template()

    class NoneOut(base):  # type: ignore[misc, valid-type]
        pass

    class NoneIn(base):  # type: ignore[misc, valid-type]
        pass

    NoneOut.remove_transitions(from_="a")
    NoneIn.remove_transitions(to=["b", "a"])

    assert NoneOut.successors == {"b": ["c"], "c": ["a"]}
    assert NoneIn.successors == {"a": ["c"], "b": ["c"]}


def test_a_state_that_is_removed_takes_its_transitions_along() -> None:
    """Given a state less, nothing leads there, and the attribute is gone; the base is as before."""
    base = template()

    class Shorter(base):  # type: ignore[misc, valid-type]
        pass

    Shorter.remove_state("c")

    assert Shorter.states == ["a", "b"]
    assert Shorter.successors == {"a": ["b"]}
    assert not hasattr(Shorter, "c")
    assert base.c == "c"


def test_an_event_keeps_the_transitions_that_are_left() -> None:
    """Given a state less, an event goes only where it names nothing any more."""

    class Shorter(template()):  # type: ignore[misc]
        pass

    Shorter.remove_state("c")

    assert Shorter.events == ["go"]
    assert not hasattr(Shorter, "back")
    with open_store("memory://") as store:
        assert Shorter(None, store=store, id="1").trigger("go").to_state == "b"


def test_a_guard_of_several_targets_guards_what_is_left() -> None:
    """Given a guard to two states, without the one it still guards the other."""
    base = template()
    refuse(base, to=["b", "c"])

    class Shorter(base):  # type: ignore[misc, valid-type]
        pass

    Shorter.remove_state("c")

    assert refused(Shorter, "b")


def test_a_guard_of_a_removed_state_guards_nothing_else() -> None:
    """Given a guard to one state, without it the guard is gone, and is not one to any state."""
    base = template()
    refuse(base, to="c")
    refuse(base, from_="c")

    class Shorter(base):  # type: ignore[misc, valid-type]
        pass

    Shorter.remove_state("c")

    assert not refused(Shorter, "b")


def test_a_failure_callback_goes_with_its_state_and_stays_without_its_transition() -> None:
    """Given what is called on failures to c, then it is where c is, whether a rule leads there."""
    base = template()
    failed: list[str] = []
    base.on_failure(to="c")(lambda thing: failed.append("to c"))

    class Shorter(base):  # type: ignore[misc, valid-type]
        pass

    class Apart(base):  # type: ignore[misc, valid-type]
        pass

    Shorter.remove_state("c")
    Apart.remove_transitions(to="c")

    with open_store("memory://") as store:
        assert not Shorter(None, store=store, id="1").try_transition_to("a")
        assert not failed
        assert not Apart(None, store=store, id="1").try_transition_to("c")
        assert failed == ["to c"]


def test_a_guard_stays_for_a_transition_that_comes_back() -> None:
    """Given a transition that is removed and added again, its guard guards it again."""
    base = template()
    refuse(base, from_="c", to="a")

    class Again(base):  # type: ignore[misc, valid-type]
        pass

    Again.remove_transitions("c", "a")
    Again.c.to("a")

    assert refused(Again, "c", "a")


def test_an_unfiltered_guard_guards_what_is_added() -> None:
    """Given a guard of everything, a state that a flow adds is guarded too."""
    base = template()
    refuse(base)

    class Longer(base):  # type: ignore[misc, valid-type]
        d = Flow.state()
        base.a.to(d)

    assert Longer.successors["a"] == ["b", "c", "d"]
    assert base.successors["a"] == ["b", "c"]
    assert refused(Longer, "d")


def test_what_a_flow_adds_is_not_its_bases() -> None:
    """Given a guard on the flow that inherits, others that inherit are free of it."""
    base = template()

    class Guarded(base):  # type: ignore[misc, valid-type]
        pass

    class Free(base):  # type: ignore[misc, valid-type]
        pass

    refuse(Guarded)

    assert refused(Guarded, "b")
    assert not refused(Free, "b")


def test_two_templates_are_mixed() -> None:
    """Given two templates, a flow has the states and the guards of both."""

    class Cancellable(Flow, abstract=True):
        cancelled = Flow.state()

    base = template()
    refuse(base, to="b")

    class Order(base, Cancellable):  # type: ignore[misc, valid-type]
        Flow.transition(from_=[base.a, base.b], to=Cancellable.cancelled)

    assert Order.states == ["a", "b", "c", "cancelled"]
    assert Order.successors["a"] == ["b", "c", "cancelled"]
    assert refused(Order, "b")


def test_a_template_that_comes_by_two_ways_comes_once() -> None:
    """Given two flows of one template, what inherits from both has its guards whole, once."""
    base = template()
    refuse(base, to=["b", "c"])

    class Left(base):  # type: ignore[misc, valid-type]
        pass

    class Right(base):  # type: ignore[misc, valid-type]
        pass

    Left.remove_state("c")

    class Both(Left, Right):
        pass

    assert sorted(Both.states) == ["a", "b", "c"]
    assert refused(Both, "b")
    assert refused(Both, "c")
    assert len(Both.chart.callbacks) == 1


def test_what_is_left_in_either_of_two_flows_is_there_whole() -> None:
    """Given two flows of one template, guards keep their sources, and events their transitions."""
    base = template()
    refuse(base, from_=["b", "c"])

    class Left(base):  # type: ignore[misc, valid-type]
        pass

    class Right(base):  # type: ignore[misc, valid-type]
        pass

    Left.remove_state("c")
    Right.remove_transitions("a", "b")

    class Both(Left, Right):
        pass

    class Turned(Right, Left):
        pass

    for flow in (Both, Turned):
        assert refused(flow, "b", "c")
        assert refused(flow, "c", "a")
        assert sorted(flow.chart.pairs_of["go"]) == [("a", "b"), ("b", "c")]


def test_two_templates_that_name_different_states_alike_do_not_mix() -> None:
    """Given two declarations of one name, the flow says which."""

    class Other(Flow, abstract=True):
        b = Flow.state()

    with pytest.raises(DefinitionError, match="Both inherits two that are named b"):

        class Both(template(), Other):  # type: ignore[misc]
            pass


def test_two_templates_that_begin_elsewhere_do_not_mix() -> None:
    """Given two initial states, the flow says which."""

    class Other(Flow, abstract=True):
        begun = Flow.state(initial=True)

    with pytest.raises(DefinitionError, match="Both inherits two initial states, a and begun"):

        class Both(template(), Other):  # type: ignore[misc]
            pass


def test_a_state_of_the_base_is_a_state_of_the_flow() -> None:
    """Given an attribute of the template, the flow takes it for its own state of that name."""
    base = template()

    class Circular(base):  # type: ignore[misc, valid-type]
        pass

    with open_store("memory://") as store:
        entity = Circular(None, store=store, id="1")
        assert entity.transition_to(base.b).to_state == "b"
        assert entity.current_state == base.b

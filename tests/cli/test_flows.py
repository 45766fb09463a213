"""The command line on a flow: its diagram, its check, its history, and a transition sent to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Cli

FLOW = """
from holdfast import Flow, Service, open_store

class ParcelFlow(Flow):
    packed = Flow.state(initial=True)
    sent = Flow.state()
    lost = Flow.state()
    packed.to(sent)
    sent.to(lost)
    post = Flow.event(packed.to(sent))

@ParcelFlow.guard(to=ParcelFlow.lost, reason="it is tracked")
def untracked(parcel) -> bool:
    return parcel != "tracked"

store = open_store("sqlite:///post.db")
parcels = Service(ParcelFlow.machine, store, deps="plain")
parcel = ParcelFlow("plain", store=store, id="p-1")
alone = Service(ParcelFlow.machine, store)
tracked = Service(ParcelFlow.machine, store, deps="tracked")
"""


@pytest.fixture(autouse=True)
def post(shop: Path) -> None:
    """A module `post` with a flow, beside `shop`."""
    (shop / "post.py").write_text(FLOW, "utf-8")


@pytest.mark.parametrize(
    "target", ["post:ParcelFlow", "post:ParcelFlow.machine", "post:parcels", "post:parcel"]
)
def test_a_flow_is_drawn(cli: Cli, target: str) -> None:
    """Its states lead on from the initial one."""
    done = cli("graph", target)
    assert (done.code, done.out.splitlines()[4:]) == (
        0,
        [
            "    [*] --> packed : packed",
            "    packed --> sent : sent",
            "    sent --> lost : lost",
            "    lost --> [*]",
        ],
    )


def test_a_flow_is_checked(cli: Cli) -> None:
    """As a machine is."""
    assert cli("check", "post:ParcelFlow").code == 0


def test_a_transition_is_sent_and_shown_with_who_and_why(cli: Cli) -> None:
    """The command is the state; null is left out where a person reads."""
    assert cli("send", "post:parcels", "p-1", "sent", "--by", "ann").code == 0
    assert cli("send", "post:parcels", "p-1", "lost", "--metadata", "reason=rain").code == 0
    done = cli("history", "post:parcels", "p-1", "--table")
    rows = [line.split() for line in done.out.splitlines()[2:]]
    text = " ".join(word for row in rows for word in row)
    assert "null" not in text
    assert "by ann" in done.out
    assert "reason: rain" in done.out
    [first, _] = cli("history", "post:parcels", "p-1").lines
    assert (first["from_state"], first["to_state"], first["metadata"]) == (
        None, "sent", {"by": "ann"}
    )  # fmt: skip


def test_a_guard_refuses_what_is_sent(cli: Cli) -> None:
    """With its reason, and an exit code of its own."""
    cli("send", "post:tracked", "p-1", "sent")
    done = cli("send", "post:tracked", "p-1", "lost")
    assert done.code == 1
    assert "guard untracked refused parcel 'p-1': it is tracked" in done.err


def test_nothing_is_sent_where_guards_would_be_given_no_object(cli: Cli) -> None:
    """The error says where to send it; what is read is answered."""
    cli("send", "post:parcels", "p-1", "sent")
    done = cli("send", "post:alone", "p-1", "lost")
    assert done.code == 5
    assert "guards and callbacks of parcel take the object of its flow" in done.err
    assert [line["to_state"] for line in cli("history", "post:alone", "p-1").lines] == ["sent"]


def test_a_flow_alone_has_no_store(cli: Cli) -> None:
    """To look at entities takes a service, and the error says so."""
    done = cli("history", "post:ParcelFlow", "p-1")
    assert done.code == 2
    assert "it is a ParcelFlow, not a Service or an AsyncService; name a service" in done.err
    assert "Service(ParcelFlow.machine, store)" in done.err


def test_a_name_that_there_is_not_suggests_the_flow(cli: Cli) -> None:
    """And not the class that it inherits from."""
    done = cli("graph", "post:Parcel")
    assert done.code == 2
    assert "it has no Parcel, and it has ParcelFlow, parcels, parcel, alone, tracked" in done.err


def test_what_a_flow_had_once_is_shown(cli: Cli, shop: Path) -> None:
    """Its history, the entity as it is, and that nothing can be sent to it."""
    cli("send", "post:parcels", "p-1", "sent")
    (shop / "now.py").write_text(
        FLOW.replace("sent = Flow.state()", "posted = Flow.state()")
        .replace("(sent)", "(posted)")
        .replace("sent.to", "posted.to"),
        "utf-8",
    )
    assert [line["to_state"] for line in cli("history", "now:parcels", "p-1").lines] == ["sent"]
    [shown] = cli("show", "now:parcels", "p-1").lines
    assert (shown["state_type"], shown["allowed"]) == ("sent", [])
    assert [line["id"] for line in cli("list", "now:parcels").lines] == ["p-1"]
    refused = cli("send", "now:parcels", "p-1", "lost")
    assert refused.code == 1
    assert "ParcelFlow declares no state sent" in refused.err
    assert cli("check", "now:ParcelFlow").code == 0
    assert cli("verify", "now:parcels").code == 0


def test_a_flow_lives_through_faults(cli: Cli) -> None:
    """Its machine is driven as any other, the initial state standing for no entity too."""
    done = cli("simulate", "post:parcels", "--seeds", "20")
    assert done.code == 0, done.out + done.err

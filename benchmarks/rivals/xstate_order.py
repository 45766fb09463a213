"""The order in `xstate-statemachine`: a chart restored from its snapshot, sent an event, saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import to_builtins
from xstate_statemachine import MachineLogic, create_machine
from xstate_statemachine.persistence import (
    PessimisticLock,
    SQLiteLog,
    SQLiteStore,
    TransitionLogPlugin,
    persisted,
)

from benchmarks.order import LINES, PACK, PAY, PLACE, RETURN, SHIP

BY = "alice@example.com"


def _keep(*names: str) -> Any:
    def keep(interpreter: Any, context: Any, event: Any, action: Any) -> None:
        for name in names:
            context[name] = event.payload[name]

    return keep


def _place(interpreter: Any, context: Any, event: Any, action: Any) -> None:
    lines = event.payload["lines"]
    context["customer"] = event.payload["customer"]
    context["lines"] = lines
    context["total"] = sum(line["quantity"] * line["price"] for line in lines)


CHART = {
    "id": "order",
    "initial": "new",
    "context": {},
    "states": {
        "new": {"on": {"PLACE": {"target": "pending", "actions": ["place"]}}},
        "pending": {
            "on": {
                "PAY": {"target": "paid", "actions": ["keep_receipt"]},
                "CANCEL": {"target": "cancelled", "actions": ["keep_reason"]},
            }
        },
        "paid": {
            "on": {
                "PACK": {"target": "packed", "actions": ["keep_parcel"]},
                "CANCEL": {"target": "cancelled", "actions": ["keep_reason"]},
            }
        },
        "packed": {
            "on": {
                "SHIP": {"target": "shipped", "actions": ["keep_tracking"]},
                "CANCEL": {"target": "cancelled", "actions": ["keep_reason"]},
            }
        },
        "shipped": {"on": {"TAKE_BACK": {"target": "pending", "actions": ["keep_reason"]}}},
        "cancelled": {"type": "final"},
    },
}
LOGIC = MachineLogic(
    actions={
        "place": _place,
        "keep_receipt": _keep("receipt"),
        "keep_parcel": _keep("parcel"),
        "keep_tracking": _keep("tracking"),
        "keep_reason": _keep("reason"),
    }
)
MOVES: dict[str, tuple[str, dict[str, Any]]] = {
    "order.pending": ("PAY", {"receipt": PAY.receipt}),
    "order.paid": ("PACK", {"parcel": PACK.parcel}),
    "order.packed": ("SHIP", {"tracking": SHIP.tracking}),
    "order.shipped": ("TAKE_BACK", {"reason": RETURN.reason}),
}


class Orders:
    """Snapshot and log are saved in one transaction, as Holdfast does, by the lock they share."""

    def __init__(self, path: str, ids: Sequence[str]) -> None:
        self.store = SQLiteStore(path)
        self.chart = create_machine(CHART, logic=LOGIC)
        self.log = TransitionLogPlugin(SQLiteLog(self.store))
        self.lock = PessimisticLock()
        lines = to_builtins(LINES)
        for id in ids:
            with self._order(id) as order:
                order.send("PLACE", customer=PLACE.customer, lines=lines)

    def handle(self, id: str) -> None:
        """Load, decide, save one transition."""
        with self._order(id) as order:
            [state] = order.current_state_ids
            event, payload = MOVES[state]
            order.send(event, **payload, by=BY)

    def close(self) -> None:
        self.store.close()

    def _order(self, id: str) -> Any:
        return persisted(self.store, id, self.chart, lock=self.lock, plugins=[self.log])

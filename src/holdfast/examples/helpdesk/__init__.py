"""A help desk's tickets: a machine for them, and a converter from the logs of a real one."""

from __future__ import annotations

import os

from holdfast import Service, open_store
from holdfast.examples.helpdesk.machine import ticket
from holdfast.examples.helpdesk.model import TicketCommand, TicketState

__all__ = ["service", "ticket"]


def service() -> Service[TicketState, TicketCommand, None]:
    """Return the service on the store that HELPDESK_STORE names, `tickets.db` here without it."""
    return Service(ticket, open_store(os.environ.get("HELPDESK_STORE", "sqlite:///tickets.db")))

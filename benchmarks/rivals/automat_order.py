"""The order in `automat`: a machine built from a protocol of inputs, its data kept in a core."""

from __future__ import annotations

from typing import Any, Protocol

from automat import TypeMachineBuilder

from benchmarks import order
from benchmarks.order import Cancel, Pack, Pair, Pay, Place, Return, Ship
from benchmarks.rivals import TRIGGERS, Calls


class Inputs(Protocol):
    def place(self, command: Place) -> None: ...
    def pay(self, command: Pay) -> None: ...
    def pack(self, command: Pack) -> None: ...
    def ship(self, command: Ship) -> None: ...
    def take_back(self, command: Return) -> None: ...
    def cancel(self, command: Cancel) -> None: ...


class Core:
    data: Any = None


builder = TypeMachineBuilder(Inputs, Core)
new = builder.state("new")
pending = builder.state("pending")
paid = builder.state("paid")
packed = builder.state("packed")
shipped = builder.state("shipped")
cancelled = builder.state("cancelled")


@new.upon(Inputs.place).to(pending)
def place(inputs: Inputs, core: Core, command: Place) -> None:
    core.data = order.place(None, command)


@pending.upon(Inputs.pay).to(paid)
def pay(inputs: Inputs, core: Core, command: Pay) -> None:
    core.data = order.pay(core.data, command)


@paid.upon(Inputs.pack).to(packed)
def pack(inputs: Inputs, core: Core, command: Pack) -> None:
    core.data = order.pack(core.data, command)


@packed.upon(Inputs.ship).to(shipped)
def ship(inputs: Inputs, core: Core, command: Ship) -> None:
    core.data = order.ship(core.data, command)


@shipped.upon(Inputs.take_back).to(pending)
def take_back(inputs: Inputs, core: Core, command: Return) -> None:
    core.data = order.take_back(core.data, command)


@pending.upon(Inputs.cancel).to(cancelled)
@paid.upon(Inputs.cancel).to(cancelled)
@packed.upon(Inputs.cancel).to(cancelled)
def cancel(inputs: Inputs, core: Core, command: Cancel) -> None:
    core.data = order.cancel(core.data, command)


build = builder.build()


def prepare(pair: Pair, count: int) -> Calls:
    """See `benchmarks.rivals.Prepare`."""
    orders = [build(Core()) for _ in range(count)]
    for machine in orders:
        for command in pair.path:
            getattr(machine, TRIGGERS[type(command)])(command)
    trigger = TRIGGERS[type(pair.command)]
    return [(getattr(machine, trigger), (pair.command,)) for machine in orders]

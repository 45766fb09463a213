"""The machines that workers drive: a counter, a register, a list, accounts, and keys used twice."""

from __future__ import annotations

from typing import Any

from holdfast import Command, Machine, State


class Total(State):
    total: int


class Add(Command):
    by: int


class Held(State):
    value: str


class Put(Command):
    value: str


class Names(State):
    names: tuple[str, ...]


class Append(Command):
    name: str


def add(state: Total | None, command: Add) -> Total:
    return Total((0 if state is None else state.total) + command.by)


def put(state: Held | None, command: Put) -> Held:
    return Held(command.value)


def append(state: Names | None, command: Append) -> Names:
    return Names((*(() if state is None else state.names), command.name))


counter = Machine("counter", state=Total, command=Add)
counter.on(add)
keyed = Machine("keyed", state=Total, command=Add)
keyed.on(add)
account = Machine("account", state=Total, command=Add)
account.on(add)
register = Machine("register", state=Held, command=Put)
register.on(put)
names = Machine("names", state=Names, command=Append)
names.on(append)

MACHINES: dict[str, Machine[Any, Any, Any]] = {
    machine.name: machine for machine in (counter, keyed, account, register, names)
}

"""AsyncService inside a web application: opened and closed by its lifespan, called by requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeAlias

import httpx
import pytest
from fastapi import FastAPI, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from tests.async_service.support import Run, WatchedStore, calls_under_way, until

from holdfast import (
    AsyncService,
    Command,
    CommandRejectedError,
    HoldfastError,
    InvalidTransitionError,
    KeyReusedError,
    Machine,
    NotFoundError,
    OutcomeUnknownError,
    RejectedError,
    Retry,
    State,
    StoreError,
    ValidationError,
    VersionConflictError,
    open_store,
)
from holdfast.stores.contract import CommitUncertainError


class Open(State):
    balance: int = 0


class Closed(State):
    balance: int


class Deposit(Command):
    amount: int


class Close(Command):
    pass


AccountState: TypeAlias = Open | Closed
AccountCommand: TypeAlias = Deposit | Close
Account: TypeAlias = Machine[AccountState, AccountCommand]


def account_of(kind: str) -> Account:
    """Return a machine of accounts, whose handlers are plain or awaited."""
    account = Machine("account", state=AccountState, command=AccountCommand)

    if kind == "plain":

        @account.on
        def deposit(state: Open | None, command: Deposit) -> Open:
            return deposited(state, command)

    else:

        @account.on
        async def deposit_later(state: Open | None, command: Deposit) -> Open:
            await asyncio.sleep(0)
            return deposited(state, command)

    @account.on
    def close(state: Open, command: Close) -> Closed:
        return Closed(balance=state.balance)

    return account


def deposited(state: Open | None, command: Deposit) -> Open:
    """Return the account with what is paid in."""
    if command.amount <= 0:
        raise CommandRejectedError("there is nothing to deposit")
    return Open(balance=(state.balance if state else 0) + command.amount)


class Sent(BaseModel):
    """The body of a request, which holds a command."""

    command: AccountCommand
    expected_version: int | None = None


class Shown(BaseModel):
    """The body of a response, which holds a state."""

    id: str
    version: int
    state: AccountState


class Case(BaseModel):
    """The body of a request, which holds a state and a command."""

    state: AccountState | None
    command: AccountCommand


STATUSES: Mapping[type[HoldfastError], int] = {
    NotFoundError: 404,
    InvalidTransitionError: 409,
    KeyReusedError: 409,
    VersionConflictError: 409,
    ValidationError: 422,
    RejectedError: 422,
    StoreError: 503,
    HoldfastError: 500,
}
"""What each branch of the errors is to a client; a class stands before those it derives from."""


def status_of(error: Exception) -> int:
    """Return the status that tells a client of an error."""
    return next(status for kind, status in STATUSES.items() if isinstance(error, kind))


def app_on(store: WatchedStore, kind: str, retry: Retry | None = None) -> FastAPI:
    """Return an application that opens the store as it starts, and closes it as it ends."""
    account = account_of(kind)
    accounts = AsyncService(account, store, retry=retry or Retry())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with store:
            yield

    app = FastAPI(lifespan=lifespan)
    app.state.accounts = accounts

    @app.post("/accounts/{id}")
    async def send(id: str, sent: Sent, key: Annotated[str | None, Header()] = None) -> Shown:
        record = await accounts.handle(
            id, sent.command, expected_version=sent.expected_version, key=key
        )
        return Shown(id=record.id, version=record.version, state=record.state)

    @app.get("/accounts/{id}")
    async def show(id: str) -> Shown:
        record = await accounts.get(id)
        return Shown(id=record.id, version=record.version, state=record.state)

    @app.post("/cases")
    async def step(case: Case) -> AccountState | None:
        return await account.astep(case.state, case.command)

    @app.exception_handler(HoldfastError)
    async def tell(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": str(error)}, status_of(error))

    return app


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncGenerator[httpx.AsyncClient]:
    """Start an application, and stop it when the block ends."""
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client


def deposit(amount: int, **options: Any) -> dict[str, Any]:
    """Return the body of a request for a deposit."""
    return {"command": {"$type": "Deposit", "amount": amount}, **options}


KINDS = pytest.mark.parametrize("kind", ["plain", "awaited"])


@KINDS
def test_commands_and_states_are_parts_of_bodies(run: Run, store: WatchedStore, kind: str) -> None:
    """Of requests and of responses, as they are stored; and the schema tells of them."""

    async def scene() -> None:
        async with serving(app_on(store, kind)) as client:
            made = await client.post("/accounts/a", json=deposit(5))
            shown = {"id": "a", "version": 1, "state": {"$type": "Open", "balance": 5}}
            assert (made.status_code, made.json()) == (200, shown)
            assert (await client.get("/accounts/a")).json() == shown
            case = {"state": {"$type": "Open", "balance": 5}, "command": {"$type": "Close"}}
            stepped = await client.post("/cases", json=case)
            assert stepped.json() == {"$type": "Closed", "balance": 5}
            schema = (await client.get("/openapi.json")).json()["components"]["schemas"]
            states = schema["Shown"]["properties"]["state"]["anyOf"]
            assert [state["title"] for state in states] == ["Open", "Closed"]

    run(scene())


@pytest.mark.parametrize(
    "wrong", [{"$type": "Deposit", "amount": "much"}, {"$type": "Steal"}, {"amount": 1}, {}, None]
)
def test_a_body_that_is_no_command_is_refused(run: Run, store: WatchedStore, wrong: Any) -> None:
    """Before the service is asked."""

    async def scene() -> None:
        async with serving(app_on(store, "plain")) as client:
            answer = await client.post("/accounts/a", json={"command": wrong})
            assert answer.status_code == 422
            assert store.loads == []

    run(scene())


@KINDS
def test_each_branch_of_the_errors_has_its_status(run: Run, store: WatchedStore, kind: str) -> None:
    """The message says what happened, and to what."""

    async def scene() -> None:
        async with serving(app_on(store, kind)) as client:

            async def told(id: str, body: dict[str, Any], **headers: str) -> tuple[int, str]:
                answer = await client.post(f"/accounts/{id}", json=body, headers=headers)
                return answer.status_code, answer.json().get("detail", "")

            absent = await client.get("/accounts/a")
            assert (absent.status_code, absent.json()["detail"]) == (
                404,
                "account 'a' does not exist",
            )
            assert (await told("a", deposit(1), key="k"))[0] == 200
            assert (await told("a", deposit(1), key="k"))[0] == 200
            assert (await client.get("/accounts/a")).json()["version"] == 1
            assert (await told("a", deposit(2), key="k"))[0] == 409
            status, detail = await told("a", deposit(1, expected_version=7))
            assert (status, "7" in detail) == (409, True)
            assert await told("a", deposit(-1)) == (422, "there is nothing to deposit")
            assert (await told("x" * 600, deposit(1)))[0] == 422
            assert (await told("a", {"command": {"$type": "Close"}}))[0] == 200
            status, detail = await told("a", deposit(1))
            assert status == 409
            assert detail.startswith("Deposit cannot be applied to account 'a', in state Closed")

    run(scene())


@pytest.mark.parametrize("error", [StoreError("it is full"), CommitUncertainError("it is gone")])
def test_a_store_that_fails_is_no_fault_of_the_client(
    run: Run, store: WatchedStore, error: StoreError
) -> None:
    """Whether nothing was written, or nobody knows; the application serves on."""

    def fail(writes: object) -> None:
        raise error

    async def scene() -> None:
        app = app_on(store, "plain", retry=Retry(attempts=1))
        async with serving(app) as client:
            store.before_commit = fail
            answer = await client.post("/accounts/a", json=deposit(1))
            assert answer.status_code == status_of(OutcomeUnknownError("")) == 503
            store.before_commit = lambda writes: None
            assert (await client.post("/accounts/a", json=deposit(1))).status_code == 200

    run(scene())


@KINDS
def test_concurrent_requests_share_commits(run: Run, store: WatchedStore, kind: str) -> None:
    """Those for one account are written as one chain, and each has its own answer."""

    async def scene() -> None:
        app = app_on(store, kind)
        async with serving(app) as client:
            store.hold()
            first = asyncio.create_task(client.post("/accounts/a", json=deposit(1)))
            await until(lambda: store.commits)
            others = [
                asyncio.create_task(client.post("/accounts/a", json=deposit(1))) for _ in range(50)
            ]
            await until(lambda: calls_under_way(app.state.accounts) == 51)
            store.release()
            answers = [answer.json() for answer in await asyncio.gather(first, *others)]
            assert sorted(answer["version"] for answer in answers) == list(range(1, 52))
            assert all(answer["state"]["balance"] == answer["version"] for answer in answers)
            assert store.commits == [{"a": 1}, {"a": 50}]

    run(scene())


@KINDS
def test_a_client_that_disconnects_harms_nobody(run: Run, store: WatchedStore, kind: str) -> None:
    """What it sent is applied, as the server does not cancel the request; others are answered."""

    async def scene() -> None:
        app = app_on(store, kind)
        async with serving(app) as client:
            store.hold()
            gone = asyncio.create_task(send_and_go(app, "/accounts/a", deposit(1)))
            await until(lambda: store.commits)
            other = asyncio.create_task(client.post("/accounts/a", json=deposit(10)))
            await until(lambda: calls_under_way(app.state.accounts) == 2)
            store.release()
            await gone
            assert (await other).json()["state"]["balance"] == 11

    run(scene())


@KINDS
@pytest.mark.parametrize("who", ["whose commit is under way", "who waits for that"])
def test_a_request_that_is_cancelled_harms_nobody(
    run: Run, store: WatchedStore, kind: str, who: str
) -> None:
    """As middleware does that bounds the time of requests: it is applied as a whole or not."""

    async def scene() -> None:
        app = app_on(store, kind)
        async with serving(app) as client:
            store.hold()
            first = asyncio.create_task(client.post("/accounts/a", json=deposit(1)))
            await until(lambda: store.commits)
            second = asyncio.create_task(client.post("/accounts/a", json=deposit(100)))
            other = asyncio.create_task(client.post("/accounts/a", json=deposit(10)))
            await until(lambda: calls_under_way(app.state.accounts) == 3)
            cancelled = first if who == "whose commit is under way" else second
            cancelled.cancel()
            await asyncio.sleep(0)
            store.release()
            await asyncio.wait([first, second, other])
            assert [task.cancelled() for task in (first, second)].count(True) == 1
            told = [task.result() for task in (first, second, other) if not task.cancelled()]
            assert [answer.status_code for answer in told] == [200, 200]
            balance = (await client.get("/accounts/a")).json()["state"]["balance"]
            assert balance == (111 if cancelled is first else 11)

    run(scene())


@KINDS
def test_a_shutdown_in_mid_flight_finishes_what_was_accepted(
    run: Run, store: WatchedStore, kind: str
) -> None:
    """Each request that was under way has its answer, and what it tells is stored."""

    async def scene() -> None:
        app = app_on(store, kind)
        async with serving(app) as client:
            store.hold()
            paths = [f"/accounts/{n % 3}" for n in range(30)]
            requests = [asyncio.create_task(client.post(path, json=deposit(1))) for path in paths]
            await until(lambda: calls_under_way(app.state.accounts) == 30)
            asyncio.get_running_loop().call_later(0.05, store.release)
        answers = await asyncio.gather(*requests)
        assert {answer.status_code for answer in answers} == {200}
        with open_store(store.url) as again:
            assert len(again.read_log(limit=99)) == 30
        with pytest.raises(StoreError, match="is closed"):
            store.load([])

    run(scene())


async def send_and_go(app: FastAPI, path: str, body: dict[str, Any]) -> None:
    """Send a request as a server does whose client goes away before it is answered."""
    request = httpx.Request("POST", f"http://test{path}", json=body)
    messages = [
        {"type": "http.request", "body": request.content, "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return messages.pop(0) if len(messages) > 1 else messages[0]

    async def send(message: object) -> None:
        """Nobody is there any more."""

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "server": ("test", 80),
        "client": ("gone", 1),
        "root_path": "",
    }
    await app(scope, receive, send)

"""What the sessions of a store are set to, and what they leave to the account and the URL."""

from __future__ import annotations

import psycopg
import pytest
from tests.stores.postgres.conftest import Open

from holdfast.stores.postgres.store import PostgresStore

OWN = {
    "default_transaction_isolation": "read committed",
    "synchronous_commit": "on",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",
    "enable_seqscan": "off",
    "jit": "off",
    "client_encoding": "UTF8",
    "application_name": "holdfast",
}


@pytest.mark.parametrize(
    ("parameters", "changed"),
    [
        ("", {}),
        ("application_name=shop", {"application_name": "shop"}),
        ("client_encoding=latin1", {}),
        ("options=-csynchronous_commit%3Doff", {}),
        ("options=-csynchronous_commit%3Dremote_apply", {"synchronous_commit": "remote_apply"}),
        ("options=-cdefault_transaction_isolation%3Dserializable", {}),
        ("options=-clock_timeout%3D200ms", {"lock_timeout": "200ms"}),
        (
            "options=-cidle_in_transaction_session_timeout%3D1s",
            {"idle_in_transaction_session_timeout": "1s"},
        ),
        ("options=-cstatement_timeout%3D9s", {"statement_timeout": "9s"}),
    ],
)
def test_a_session_is_durable_and_bounded(
    open: Open, parameters: str, changed: dict[str, str]
) -> None:
    """Less than that is not taken from the URL; other bounds, and whatever is no concern, are."""
    store = open(parameters)
    assert isinstance(store, PostgresStore)
    expected = {**OWN, **changed}

    def settings(connection: psycopg.Connection) -> dict[str, str]:
        rows = connection.execute("SELECT name, current_setting(name) FROM pg_settings")
        return {name: value for name, value in rows if name in expected}

    alone = store._connections.alone  # pyright: ignore[reportPrivateUsage]
    assert alone(settings) == expected

"""What the driver raises, as the errors that a store raises: what happened, and what to do."""

from __future__ import annotations

import psycopg

from holdfast.errors import StoreError
from holdfast.stores.contract import CommitUncertainError, WriteRefusedError
from holdfast.stores.outcomes import TransientError

_LOST = ("08", "57P01", "57P02", "57P03", "57P04", "57P05", "25P03", "25P04")
_IN_THE_WAY = ("40001", "40P01", "55P03")

# By SQLSTATE, or by the class of it.
_ADVICE = {
    "08P01": "connect to the server itself, or through a pooler in session mode",
    "25006": "it is read-only, a standby perhaps: connect to the primary, as "
    "&target_session_attrs=read-write does",
    "28": "check the user, the password and the server's pg_hba.conf",
    "3D000": "check the name of the database",
    "3F000": "the schema is not there: run `holdfast migrate`",
    "40001": "another transaction was in the way: try again, in a new transaction",
    "40P01": "another transaction was in the way: try again",
    "42501": "this user may not do that: grant it holdfast_application, or holdfast_viewer to read",
    "42703": "the schema is not the one of this code: run `holdfast migrate`, or upgrade holdfast",
    "42P01": "the schema is not the one of this code: run `holdfast migrate`, or upgrade holdfast",
    "53100": "the disk is full: free some space",
    "53200": "the server is out of memory: try again, or with smaller batches",
    "53300": "the server takes no more connections: lower holdfast_pool_size, or raise its "
    "max_connections",
    "53400": "a limit of the server was reached: raise it, or free some space",
    "55P03": "another transaction has locked it for longer than lock_timeout: try again",
    "57014": "it was cancelled, or took longer than statement_timeout: try again, or raise that",
    "57P03": "the server is starting or stopping: try again",
}
_CONNECTING = {
    "too many": _ADVICE["53300"],
    "password": _ADVICE["28"],
    "pg_hba": _ADVICE["28"],
    'role "': _ADVICE["28"],
    'database "': _ADVICE["3D000"],
    "starting up": _ADVICE["57P03"],
    "shutting down": _ADVICE["57P03"],
    "recovery": _ADVICE["57P03"],
}
"""By words of what is told where a connection fails, which comes without a code."""


def connect_error(url: str, error: psycopg.Error) -> StoreError:
    """Return what to raise where no connection could be opened."""
    told = str(error)
    advice = next(
        (advice for words, advice in _CONNECTING.items() if words in told),
        "check that the server runs and takes connections from here",
    )
    return StoreError(f"cannot connect to {url}: {_line(told)}; nothing was written, {advice}")


def statement_error(
    url: str, error: psycopg.Error, *, doing: str, lost: bool, is_commit: bool
) -> StoreError:
    """Return what to raise where a statement failed.

    `lost` tells that the connection is, `is_commit` that what the statement did may stand.
    """
    code = error.sqlstate or ""
    lost = lost or code.startswith(_LOST)
    if lost and is_commit:
        return CommitUncertainError(
            f"{url} was lost while committing: {_told(error)}; whether it was stored is not known"
        )
    refused = doing == "write" and isinstance(error, psycopg.IntegrityError | psycopg.DataError)
    kind = WriteRefusedError if refused else StoreError
    kind = TransientError if lost or code in _IN_THE_WAY else kind
    advice = _ADVICE.get(code) or _ADVICE.get(code[:2])
    if lost:
        advice = "the connection was lost: try again"
    ending = f", {advice}" if advice else ""
    return kind(f"cannot {doing} {url}: {_told(error)}; nothing was written{ending}")


def _told(error: psycopg.Error) -> str:
    """Return what the server says, without the row or the payload that it may add."""
    told = error.diag.message_primary or _line(str(error))
    if error.sqlstate == "23505" and error.diag.message_detail:
        return f"{told}: {error.diag.message_detail.rstrip('.')}"
    return told


def _line(text: str) -> str:
    return " ".join(text.split())

"""The verb `verify`, and the file in which it keeps what it saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from holdfast.cli.exits import Exit, Failure
from holdfast.cli.files import write_atomically
from holdfast.cli.options import NewFile
from holdfast.cli.output import (
    EPILOG,
    MAX_SHOWN,
    after,
    format_option,
    in_json,
    write,
    write_facts,
    write_lines,
    write_table,
)
from holdfast.cli.progress import show_progress
from holdfast.cli.target import open_target_store
from holdfast.stores.verify import Anchor, Finding, Report
from holdfast.stores.verify import verify as verify_store


@click.command(epilog=EPILOG)
@click.argument("target", metavar="TARGET|URL")
@click.option(
    "--anchor",
    "path",
    type=NewFile(),
    metavar="FILE",
    help="Hold the log against what FILE saw, and write there what was seen this time.",
)
@format_option
def verify(*, target: str, path: Path | None, as_json: bool | None) -> None:
    """Look for what was changed behind a store's back.

    Takes a TARGET, or the URL of a store, like sqlite:///shop.db, which is then only read: no right
    to write is needed. All machines in the store are looked at. It may be in use meanwhile.

    Every digest of the log is recomputed, and every entity compared with what its log leads to.
    That finds any edit that does not recompute the chain of digests. An edit that does, or a log
    cut off at its end, is found up to where --anchor saw it: keep FILE where those who can write
    the store cannot. What was purged cannot be recomputed. After a sound verification FILE is
    written anew; on the first time it need not exist.

    Exit codes: 0 sound, 1 findings (FILE stays as it was), 2 not begun, 4 the store failed, 6 the
    output could not be written.
    """
    anchor = None if path is None else _read_anchor(path)
    with open_target_store(target) as store, show_progress("Verifying", "transitions") as tell:
        tell(0)
        report = verify_store(store, anchor=anchor, progress=tell)
    if path is not None and report.sound:
        _write_anchor(path, report.anchor)
    with after(f"{report.url} is {'sound' if report.sound else 'NOT SOUND'}"):
        if in_json(as_json):
            write_lines([_summary(report)])
        else:
            _show(report, path)
    if not report.sound:
        click.get_current_context().exit(Exit.FOUND)


def _read_anchor(path: Path) -> Anchor | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Anchor)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failure(f"cannot read the anchor {path}: {error.strerror}", Exit.USAGE) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Failure(
            f"{path} holds no anchor ({error}); name another file, or move it away to begin anew",
            Exit.USAGE,
        ) from error


def _write_anchor(path: Path, anchor: Anchor) -> None:
    try:
        write_atomically(path, msgspec.json.format(msgspec.json.encode(anchor), indent=2) + b"\n")
    except OSError as error:
        raise Failure(
            f"the store is sound, but the anchor cannot be written to {path}: {error.strerror}",
            Exit.FAILED,
        ) from error


def _summary(report: Report) -> dict[str, Any]:
    return {"sound": report.sound, **msgspec.structs.asdict(report)}


def _show(report: Report, path: Path | None) -> None:
    facts = {
        report.url: "sound" if report.sound else "NOT SOUND",
        "transitions": f"{report.transitions:,}",
        "entities": f"{report.entities:,}",
        "purged": f"{report.purged:,} transitions, whose digests cannot be recomputed",
        "findings": f"{report.found:,}",
    }
    if not report.purged:
        del facts["purged"]
    if path is not None:
        facts["anchor"] = _anchor_fact(report, path)
    write_facts(facts)
    if report.findings:
        write()
        write_table(
            ("entity", "version", "position", "finding"), map(_cells, report.findings[:MAX_SHOWN])
        )
    if report.found > MAX_SHOWN:
        write(f"and {report.found - MAX_SHOWN:,} more")


def _anchor_fact(report: Report, path: Path) -> str:
    if not report.sound:
        return f"{path} stays as it was"
    if report.anchored is None:
        return f"{path} was not there; it now holds position {report.anchor.position:,}"
    return f"{path} moved from position {report.anchored:,} to {report.anchor.position:,}"


def _cells(finding: Finding) -> tuple[str, ...]:
    entity = "" if finding.id is None else f"{finding.machine} {finding.id}"
    version = "" if finding.version is None else f"{finding.version:,}"
    position = "" if finding.position is None else f"{finding.position:,}"
    return entity, version, position, finding.problem

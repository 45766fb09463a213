"""The verb `run`: applies a stream of commands in batches, and goes on where it was stopped.

Each batch is one commit together with the number of its last line, the checkpoint, under the
fingerprint of the file. A line without a key gets one of the fingerprint and its number. So a
line is applied once, whenever a run is killed and however often it is started.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from holdfast.cli.calls import code_of, tell
from holdfast.cli.exits import Exit, Failure
from holdfast.cli.options import NewFile
from holdfast.cli.output import (
    EPILOG,
    after,
    format_option,
    hint,
    in_json,
    write_facts,
    write_lines,
)
from holdfast.cli.progress import show_progress
from holdfast.cli.rejects import Reject, Rejects, default_path, mark_of, open_rejects, reject
from holdfast.cli.stream import Batch, Line, Stream, open_stream, read_entry, request_of
from holdfast.cli.target import SyncService, open_sync_service, place_of
from holdfast.cli.text import valid
from holdfast.errors import BatchError, ValidationError
from holdfast.record import Record, Request
from holdfast.service.origin import is_of_handler
from holdfast.stores.contract import Checkpoint, Key


@click.command(epilog=EPILOG)
@click.argument("target")
@click.argument(
    "path", metavar="FILE", type=click.Path(exists=True, dir_okay=False, allow_dash=True)
)
@click.option(
    "--batch",
    type=click.IntRange(1, 1000),
    default=500,
    metavar="N",
    show_default=True,
    help="How many lines make one commit.",
)
@click.option(
    "--rejected",
    type=NewFile(),
    help="Where rejected lines go.  [default: a file beside FILE, of this run alone]",
)
@click.option(
    "--reject-errors",
    is_flag=True,
    help="Reject a line whose handler fails, too, instead of stopping there.",
)
@format_option
def run(
    *,
    target: str,
    path: str,
    batch: int,
    rejected: Path | None,
    reject_errors: bool,
    as_json: bool | None,
) -> None:
    """Apply a stream of commands from FILE, or from the standard input for -.

    Each line of FILE is one request in JSON:

    \b
      {"id": "o-1", "command": {"$type": "Place", "total": 4200},
       "key": "request-17", "metadata": {"by": "alice"},
       "at": "2024-02-29T12:00:00Z"}

    \b
      id        the entity
      command   the command, by its type, with its fields
      key       optional: applied once, however often a line with this key comes
      metadata  optional: recorded with the transition
      at        optional: when it happened, for imports; not before the entity's last time

    Lines are applied in order, a batch in one commit. A line that is refused is written to the
    file of rejected lines with its reason, and the run goes on. Any other error stops the run;
    nothing of that batch is applied then. With --reject-errors a line whose handler raises such
    an error is rejected as well, with the error's type and text; a store that fails stops the run.

    A run that was stopped or killed goes on where it was when it is started again: every line is
    applied once. For that, FILE is known by its content: a file that was changed is another file.
    Lines that have a key are applied once even then.

    Of the summary, "done before" are lines that an earlier run went through, "already applied"
    those whose key was used before, and "rejected" all that are in the file of rejected lines.

    Exit codes: 0 every line is applied, 1 some were rejected, 2 not begun, 4 the store failed,
    5 stopped by another error, 6 done but the output could not be written, 130 interrupted.
    """
    with open_sync_service(target) as service, open_stream(path) as stream:
        mark = mark_of(stream, service.machine.name, place_of(service.store))
        where, keep_empty = rejected or default_path(path, mark), rejected is not None
        with open_rejects(where, mark, mode=stream.mode, keep_empty=keep_empty) as rejects:
            job = Run(service, stream, rejects, reject_errors=reject_errors)
            job.apply_all(batch)
        with after(f"the run is done, {job.applied:,} lines were applied in it"):
            if in_json(as_json):
                write_lines([_summary(job)])
            else:
                write_facts(_facts(job))
    if rejects.counts:
        click.get_current_context().exit(Exit.FOUND)


class Run:
    """A run on its way through a stream. Raises Failure, which tells how far it came."""

    def __init__(
        self, service: SyncService, stream: Stream, rejects: Rejects, *, reject_errors: bool
    ) -> None:
        self.service = service
        self.stream = stream
        self.rejects = rejects
        self.reject_errors = reject_errors
        self.began = time.monotonic()
        self.reader = f"run:{service.machine.name}:{stream.fingerprint}"
        self.done = service.store.checkpoint(self.reader) or 0
        rejects.resume(self.done)
        if self.done and not rejects.counts:
            hint(
                f"Note: {self.done:,} lines were done before; if some of them were rejected, they "
                f"are not in {rejects.path}, and not counted"
            )
        self.done_before = stream.count_commands(up_to=self.done)
        self.applied = 0
        self.already_applied = 0
        self.seconds = 0.0

    def apply_all(self, size: int) -> None:
        """Apply what is left of the stream, in batches of up to `size` lines."""
        try:
            if self.done < self.stream.last:
                self._apply_rest(size)
        except Failure:
            raise
        except KeyboardInterrupt as error:
            raise Failure(f"interrupted; {self._standing()}", Exit.INTERRUPTED) from error
        except BaseException as error:
            told = tell(self.service.machine, error)
            code = code_of(self.service.machine, error)
            raise Failure(f"{told}; {self._standing()}", code) from error
        self.seconds = time.monotonic() - self.began

    @property
    def lines_per_second(self) -> int:
        """How fast the lines of this run went; a clock may not have moved meanwhile."""
        return round((self.stream.commands - self.done_before) / max(self.seconds, 0.001))

    def _apply_rest(self, size: int) -> None:
        with show_progress("Applying", "lines", total=self.stream.last) as tell:
            tell(self.done)
            for batch in self.stream.batches(after=self.done, size=size):
                self._apply(batch)
                self.done = batch.last
                tell(self.done, f", {self.rejects.counts.total():,} rejected")

    def _apply(self, batch: Batch) -> None:
        parsed = [(line, self._parse(line)) for line in batch.lines]
        broken = [request for _, request in parsed if isinstance(request, Reject)]
        sound = [(line, request) for line, request in parsed if isinstance(request, Request)]
        applied = 0

        def keep(answers: list[Record[Any] | Exception]) -> None:
            nonlocal applied
            refused = self._refused(sound, answers)
            self.rejects.write(sorted(broken + refused, key=lambda entry: entry.line))
            applied = self._count_new([a for a in answers if isinstance(a, Record)])

        try:
            answers = self.service.handle_many(
                [request for _, request in sound],
                checkpoint=Checkpoint(self.reader, batch.last, self.done),
                answer_errors=self.reject_errors,
                before_commit=keep,
            )
        except BatchError as error:
            place, cause = min(error.failures.items())
            raise self._stopped(batch, sound[place][0], cause) from cause
        self.rejects.accept()
        _let_go(answers)
        self.applied += applied
        self.already_applied += sum(isinstance(a, Record) for a in answers) - applied

    def _refused(
        self, sound: list[tuple[Line, Request[Any]]], answers: list[Record[Any] | Exception]
    ) -> list[Reject]:
        refused = []
        for (line, request), answer in zip(sound, answers, strict=True):
            if isinstance(answer, Exception):
                refused.append(reject(self.rejects.mark, line, request.id, answer))
        return refused

    def _parse(self, line: Line) -> Request[Any] | Reject:
        id = None
        try:
            entry = read_entry(line)
            id = entry.id
            return request_of(self.service.machine, entry, f"{self.stream.mark}:{line.number}")
        except ValidationError as error:
            return reject(self.rejects.mark, line, id, error)

    def _count_new(self, records: list[Record[Any]]) -> int:
        """Return how many records are above the versions stored: the rest are answers to keys."""
        name = self.service.machine.name
        ids = list({record.id: None for record in records})
        loaded = self.service.store.load([Key(name, id) for id in ids]) if ids else []
        versions = {
            id: one.entity.version if one.entity else 0 for id, one in zip(ids, loaded, strict=True)
        }
        new = 0
        for record in records:
            if record.version > versions[record.id]:
                versions[record.id] = record.version
                new += 1
        return new

    def _stopped(self, batch: Batch, line: Line, cause: Exception) -> Failure:
        machine = self.service.machine
        advice = ", or reject such lines with --reject-errors"
        return Failure(
            f"line {line.number:,}: {tell(machine, cause)}; nothing of lines {batch.first:,} "
            f"to {batch.last:,} was applied; {self._standing()}"
            f"{advice if is_of_handler(machine, cause) else ''}",
            code_of(machine, cause),
        )

    def _standing(self) -> str:
        return f"{self.done:,} of {self.stream.last:,} lines are done, run again to go on"


def _let_go(answers: list[Record[Any] | Exception]) -> None:
    """Free the batch, which an error holds through its frames, and itself; else nobody does so."""
    for answer in answers:
        if isinstance(answer, Exception):
            answer.__traceback__ = answer.__context__ = None


def _summary(job: Run) -> dict[str, Any]:
    rejected = job.rejects.counts
    return {
        "file": valid(job.stream.name),
        "machine": job.service.machine.name,
        "url": job.service.store.url,
        "lines": job.stream.commands,
        "done_before": job.done_before,
        "applied": job.applied,
        "already_applied": job.already_applied,
        "rejected": rejected.total(),
        "rejected_by_error": dict(rejected.most_common()),
        "rejected_file": valid(str(job.rejects.path)) if rejected else None,
        "seconds": round(job.seconds, 3),
        "lines_per_second": round(
            (job.stream.commands - job.done_before) / max(job.seconds, 0.001)
        ),
    }


def _facts(job: Run) -> dict[str, str]:
    summary = _summary(job)
    names = ("lines", "done before", "applied", "already applied", "rejected")
    facts = {name: f"{summary[name.replace(' ', '_')]:,}" for name in names}
    for error, count in summary["rejected_by_error"].items():
        facts[f"  {error}"] = f"{count:,}"
    if summary["rejected"]:
        facts["rejected lines"] = f"in {summary['rejected_file']}"
    facts["time"] = f"{job.seconds:.1f} s, {summary['lines_per_second']:,} lines/s"
    if job.done_before == job.stream.commands:
        facts["time"] = "nothing was left to do"
    return facts

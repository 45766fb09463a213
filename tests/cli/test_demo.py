"""`holdfast demo` shows a whole day and proves it; what is broken makes it fail."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from holdfast import open_store
from holdfast.cli.app import app
from holdfast.cli.demo import TARGET
from holdfast.examples.order.machine import order
from holdfast.examples.order.stand_in import StandIn
from holdfast.stores.verify import verify

MULTILINE = re.MULTILINE
SMALL = ("--orders", "60", "--seed", "3")


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files, so that what is left behind can be seen."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def demo(*options: str, **environment: str) -> Result:
    return CliRunner(env={"COLUMNS": "80", **environment}).invoke(app, ["demo", *SMALL, *options])


def test_the_demo_shows_each_of_its_parts(temporary_folder: Path) -> None:
    """In a pipe: the phases, the histogram, a story, the diagram, the rate, the promises."""
    done = demo()
    text = done.output
    assert done.exit_code == 0, text
    assert re.search(r"^Placing: 60 of 60 orders in \d", text, MULTILINE)
    assert re.search(r"^Recovering: (\d+) of \1 orders in .*, 0 in error$", text, MULTILINE)
    assert re.search(r"^Completed +\d+ +\S{54}", text, MULTILINE)
    assert re.search(r"^What happened to order-\d{5}$", text, MULTILINE)
    assert re.search(r"^3 .* MarkComplete +OrderError +(no connection|timed out)", text, MULTILINE)
    assert re.search(r"TryRecover +Completed +W-\w+, P-\w+", text)
    assert order.graph().mermaid() in text
    assert re.search(r"transitions by the workers +[\d,]+/s", text)
    assert re.search(r"commands? came too late +somebody else had been faster", text)
    assert re.search(r"^(Most conflicts on order-|No order met)", text, MULTILINE)
    assert re.findall(r"^(ok|BROKEN) ", text, MULTILINE) == ["ok"] * 6
    assert re.search(r"^ok  verify: \d+ digests hold *$", text, MULTILINE)
    assert text.splitlines()[-1].startswith("Next: holdfast demo --path orders.db && holdfast list")
    assert list(temporary_folder.iterdir()) == []


def test_no_line_is_wider_than_a_narrow_terminal() -> None:
    """At 80 columns nothing is cut or folded, the command to copy aside."""
    lines = demo().output.splitlines()
    assert [line for line in lines[:-1] if len(line) > 80] == []


def test_on_a_terminal_the_demo_draws_bars() -> None:
    """A terminal gets a bar for each phase, and colors."""
    done = demo(FORCE_COLOR="1", TERM="xterm-256color")
    assert done.exit_code == 0, done.output
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", done.output)
    for phase in ("Placing", "Working", "Recovering"):
        assert re.search(rf"{phase} +━+ +(\d+)/\1 ", plain)
    assert "\x1b[32mok\x1b[0m" in done.output


def test_a_charge_made_twice_fails_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted defect, a payment sent again under another token, is found and named."""
    charge = StandIn.charge

    def charge_twice(self: StandIn, *arguments: Any, token: str) -> str:
        charge(self, *arguments, token=f"another-{token}")
        return charge(self, *arguments, token=token)

    monkeypatch.setattr(StandIn, "charge", charge_twice)
    done = demo()
    assert done.exit_code == 1, done.output
    assert re.findall(r"^(ok|BROKEN) ", done.output, MULTILINE).count("BROKEN") == 1
    assert re.search(r"^BROKEN  orders charged and delivered: \d+", done.output, MULTILINE)
    assert re.search(r"^    order-\d{5}: Completed, and the books say", done.output, MULTILINE)
    assert re.search(r"^    and \d+ more$", done.output, MULTILINE)
    assert done.output.splitlines()[-1] == "1 of 6 promises were broken."


def test_an_outage_that_never_ends_fails_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders that no recovery completes are told as left in error."""
    always = property(lambda _: True, lambda *_: None)
    monkeypatch.setattr(StandIn, "payment_down", always, raising=False)
    done = demo()
    assert done.exit_code == 1, done.output
    assert re.search(r"^BROKEN  no order is left in error", done.output, MULTILINE)


def test_the_store_can_be_kept_and_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `--path orders.db` the command that the demo ends with works as it stands."""
    monkeypatch.chdir(tmp_path)
    done = demo("--path", "orders.db")
    assert done.exit_code == 0, done.output
    assert f"The store is sqlite:///{tmp_path}/orders.db" in done.output
    last = done.output.splitlines()[-1]
    assert last == "Next: holdfast list holdfast.examples.order:service"
    listed = CliRunner().invoke(app, last.split()[2:])
    assert listed.exit_code == 0, listed.output
    assert len(listed.output.splitlines()) == 60


def test_a_temporary_store_can_be_kept(temporary_folder: Path) -> None:
    """With `--keep` the file stays, and the demo says where."""
    done = demo("--keep")
    assert done.exit_code == 0, done.output
    [folder] = temporary_folder.iterdir()
    assert f"Next: cd {folder} && holdfast list" in done.output
    with open_store(f"sqlite:///{folder}/orders.db") as store:
        assert verify(store).sound


@pytest.mark.parametrize("name", ["a day's orders.db", "day\udcff.db"])
def test_another_name_leads_to_another_command(tmp_path: Path, name: str) -> None:
    """A store that the example's target does not know is verified by its URL."""
    file = tmp_path / name
    done = demo("--path", str(file))
    assert done.exit_code == 0, done.output
    last = done.output.splitlines()[-1]
    assert last.startswith("Next: holdfast verify ")
    assert file.exists()
    checked = CliRunner().invoke(app, ["verify", last.split()[-1].strip("'")])
    assert checked.exit_code == 0, checked.output


def test_a_file_that_exists_is_left_alone(tmp_path: Path) -> None:
    """The demo writes into no store that is there already."""
    file = tmp_path / "orders.db"
    file.write_text("precious")
    done = demo("--path", str(file))
    assert done.exit_code == 2
    assert "name a new file" in done.output
    assert file.read_text() == "precious"


def test_a_path_that_cannot_be_written_is_an_error_without_a_traceback(tmp_path: Path) -> None:
    """A folder that is not there: one line, and the exit code of the store."""
    done = demo("--path", str(tmp_path / "nowhere" / "orders.db"))
    assert done.exit_code == 4
    assert "Traceback" not in done.output
    assert "check that the folder exists" in done.output


def test_the_smallest_day_is_a_day() -> None:
    """With one order nothing fails and nobody meets, and the demo does not say otherwise."""
    done = CliRunner().invoke(app, ["demo", "--orders", "1"])
    text = done.output
    assert done.exit_code == 0, text
    assert "\n1 order, 8 workers at once" in text
    assert "What happened to order-00001" in text
    assert "\nNo order failed.\n" in text
    assert "conflicts  " not in text
    assert re.search(
        r"^Shown: \d transitions by 8 threads on one file, and nobody", text, MULTILINE
    )
    assert not re.search(r"(?<!of )\b1 orders|outage|conflicts", text)


def test_a_whole_day_has_an_outage() -> None:
    """And conflicts, if so it happened; the demo says what was met."""
    text = demo().output
    assert re.search(
        r"^\d+ orders? failed while the payment was down; none left\.", text, MULTILINE
    )
    [met] = re.findall(r"^Shown: .* with (.*): \n?nothing lost", text, MULTILINE)
    conflicts = "conflicts and " if "version conflicts " in text else ""
    assert met == f"{conflicts}an outage"


HOLDFAST = str(Path(sys.executable).parent / "holdfast")


def test_the_demo_can_be_interrupted(tmp_path: Path) -> None:
    """Ctrl-C stops the workers and leaves nothing behind."""
    command = [HOLDFAST, "demo", "--orders", "3000"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("Placing"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]


def test_what_comes_next_can_be_pasted_where_the_command_is_on_no_path(tmp_path: Path) -> None:
    """As after `make demo`: it is told by the path that it was called by."""
    bare = {**os.environ, "PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    (tmp_path / "bin").symlink_to(Path(HOLDFAST).parent)
    shown = subprocess.run(
        ["bin/holdfast", "demo", *SMALL],
        cwd=tmp_path, env=bare, check=True, capture_output=True, text=True,
    ).stdout.splitlines()[-1]  # fmt: skip
    assert shown == f"Next: bin/holdfast demo --path orders.db && bin/holdfast list {TARGET}"
    kept = subprocess.run(
        ["bin/holdfast", "demo", *SMALL, "--keep"],
        cwd=tmp_path, env=bare, check=True, capture_output=True, text=True,
    ).stdout.splitlines()[-1]  # fmt: skip
    for next in (shown, kept):
        called = next.removeprefix("Next: ").replace("demo --path", "demo --orders 5 --path")
        subprocess.run(called, shell=True, cwd=tmp_path, env=bare, check=True, capture_output=True)


@pytest.mark.parametrize("orders", ["1", "300"])
def test_a_demo_that_nobody_reads_any_more_ends_quietly(tmp_path: Path, orders: str) -> None:
    """As with `| head -1`: no promise was broken, whatever Rich makes of it."""
    with subprocess.Popen(
        [HOLDFAST, "demo", "--orders", orders],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "Holdfast demo: a day at a shop, from seed 1.\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]


def test_a_demo_whose_output_is_full_says_so(tmp_path: Path) -> None:
    """With the code of any other verb."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [HOLDFAST, "demo", *SMALL],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            check=False, stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.stderr == "Error: cannot write the output: No space left on device\n"
    assert done.returncode == 6


def test_the_demo_runs_as_a_process_of_its_own(tmp_path: Path) -> None:
    """As `make demo` calls it, in a pipe whose encoding has no bars; nothing is left behind."""
    command = [HOLDFAST, "demo", *SMALL]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^Completed +\d+ +#{54}", done.stdout, MULTILINE)
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]

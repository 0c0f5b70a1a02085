"""What every verb does with errors, with exit codes, and with --submit."""

import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from cluster import session
from cluster.errors import BooksError, LeaseError, NightshiftError, SettingsError
from jobs.cli import main
from jobs.job import guarded

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "jobs" / "recipes" / "demo.yaml"
Sent = list[tuple[str, str, list[str]]]


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """Give the process its handler back: a verb sets one."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """What would have been sent to a job server, whose job ends with exit code 3."""
    calls: Sent = []

    def submit(address: str, module: str, arguments: list[str]) -> int:
        calls.append((address, module, arguments))
        return 3

    monkeypatch.setattr(session, "submit", submit)
    return calls


def nightshift(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, arguments, prog_name="nightshift")


@pytest.mark.parametrize("option", [("--dry-run",), ("--address", "auto")])
def test_submit_goes_with_neither_dry_run_nor_address(sent: Sent, option: tuple[str, ...]) -> None:
    result = nightshift("run", str(DEMO), "--submit", "http://head:8265", *option)
    assert result.exit_code == 2 and result.stderr.startswith("error: --submit: goes with neither")
    assert sent == []


@pytest.mark.parametrize("verb", ["run", "index", "synthesize", "train", "evaluate", "report"])
def test_submit_sends_the_same_command_and_ends_with_the_exit_code_of_the_job(sent: Sent, verb: str) -> None:
    given = ["--set", "targets.rows_per_label=5", "--set", "run=a b"]
    result = nightshift(verb, str(DEMO), *given, "--submit", "http://head:8265")
    assert result.exit_code == 3
    assert sent == [("http://head:8265", f"jobs.{verb}", ["jobs/recipes/demo.yaml", *given])]


def test_submit_takes_only_recipes_that_travel_with_the_code(sent: Sent, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("run: r\n")
    result = nightshift("run", str(tmp_path / "recipe.yaml"), "--submit", "http://head:8265")
    assert result.exit_code == 2 and "travel with a submitted job" in result.stderr
    assert sent == []


def test_submit_is_not_led_out_of_the_code_by_dots(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = nightshift("run", "../elsewhere/recipe.yaml", "--submit", "http://head:8265")
    assert result.exit_code == 2 and sent == []


def test_a_submitted_search_is_a_command_that_search_understands(sent: Sent) -> None:
    nightshift("search", str(DEMO), "big lakes", "--top", "5", "--submit", "http://head:8265")
    [(_, module, arguments)] = sent
    assert module == "jobs.search"
    command = main.get_command(click.Context(main), "search")
    assert command is not None
    try:
        parsed = command.make_context("search", list(arguments)).params
    except click.UsageError as error:
        raise AssertionError(f"{shlex.join(arguments)}: {error}") from error
    assert (parsed["query"], parsed["top"]) == ("big lakes", 5)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("a: wrong"), 2),
        (LeaseError("owned"), 2),
        (BooksError("off"), 1),
        (NightshiftError("x"), 1),
    ],
)
def test_errors_become_one_message_and_their_exit_code(
    error: NightshiftError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        raise error

    assert guarded(work) == code
    assert capsys.readouterr().err == f"error: {error}\n"


def test_work_that_ends_well_gives_its_own_exit_code() -> None:
    assert [guarded(lambda code=code: code) for code in (0, 3)] == [0, 3]  # type: ignore[misc]


def test_an_error_of_the_program_itself_keeps_its_traceback() -> None:
    def work() -> int:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        guarded(work)


TERMINATED = """
import os, signal, sys, time
from jobs.job import guarded

def work():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)
    return 0

sys.exit(guarded(work))
"""


def test_a_termination_ends_as_an_interrupt_with_everything_kept() -> None:
    # In a process of its own: handlers of signals belong to the whole process.
    done = subprocess.run(
        [sys.executable, "-c", TERMINATED], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "the same command resumes" in done.stderr

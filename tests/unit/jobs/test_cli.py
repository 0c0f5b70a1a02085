import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from jobs.cli import VERBS, WATCHERS, main

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "help"
DEMO = ROOT / "jobs" / "recipes" / "demo.yaml"


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """Give the process its handler back: a verb sets one."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def nightshift(*arguments: str) -> Result:
    """Run the command; the runner makes every line 80 columns wide, whatever the terminal."""
    return CliRunner().invoke(main, arguments, prog_name="nightshift")


def refused(result: Result) -> str:
    """The message of a user's mistake: exit code 2, one error, no traceback."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("error: ") and "Traceback" not in result.output
    assert result.stdout == ""
    return result.stderr


def recipe(folder: Path, **changes: Any) -> Path:
    """A recipe that needs neither a model nor a corpus."""
    data: dict[str, Any] = {
        "run": "r",
        "store": str(folder / "runs"),
        "task": {"name": "t", "instruction": "Sort.", "labels": {"a": "an a", "b": "a b"}},
        "method": {"name": "fewgen"},
        "teacher": {"backend": "scripted"},
        "targets": {"rows_per_label": 2},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(data | changes))
    return path


# To renew one, write result.output to its file and read what changed.
@pytest.mark.parametrize("verb", ["nightshift", *VERBS])
def test_help_is_as_it_was_approved(verb: str) -> None:
    result = nightshift(*([] if verb == "nightshift" else [verb]), "--help")
    assert result.exit_code == 0
    assert result.output == (GOLDEN / f"{verb}.txt").read_text()


def test_every_golden_help_belongs_to_a_verb() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {"nightshift", *VERBS}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_the_same_options_and_a_recipe(verb: str) -> None:
    command = main.get_command(click.Context(main), verb)
    assert command is not None and command.name == verb
    options = {name for parameter in command.params for name in parameter.opts}
    looks = {"run", "--store", "--json"}
    works = {"recipe", "--set", "--dry-run", "--address", "--submit"}
    assert (looks if verb in WATCHERS else works) <= options


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from jobs.cli import main; main(['--help'], standalone_mode=False);"
        "heavy = {'ray', 'torch', 'transformers', 'vllm', 'faiss', 'pyarrow', 'numpy'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_can_be_started_as_a_module_too(verb: str) -> None:
    # Submitted jobs are: `python -m jobs.VERB`.
    package = ROOT / "jobs" / verb
    source = package / "__main__.py" if package.is_dir() else package.with_suffix(".py")
    assert re.search(r"^ *main\(\)$", source.read_text(), re.MULTILINE)


def test_an_unknown_verb_is_refused() -> None:
    result = nightshift("synthesise", "recipe.yaml")
    assert result.exit_code == 2 and "No such command 'synthesise'" in result.output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sudents": []}, "sudents: unknown key; did you mean students?"),
        (
            {"targets": {"row_per_label": 2}},
            "targets.row_per_label: unknown key; did you mean rows_per_label?",
        ),
        ({"teacher": {"backend": "scripted", "repet": 1}}, "repet: unknown key; did you mean repeat?"),
        ({"method": {"name": "fewgen", "shot": 1}}, "shot: unknown key; did you mean shots?"),
        ({"method": {"name": "few"}}, "'fewgen'"),
        ({"teacher": {"backend": "gpt"}}, "'scripted'"),
        ({"targets": {"rows_per_label": 0}}, "targets.rows_per_label: Input should be greater than"),
        ({"task": "none.yaml"}, "none.yaml: cannot be read"),
        ({"run": "../up"}, "run: String should match pattern"),
    ],
)
def test_a_bad_recipe_exits_2_and_names_file_and_key(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    told = refused(nightshift("run", str(recipe(tmp_path, **changes)), "--dry-run"))
    assert message in told
    assert ("none.yaml" if "task" in changes else "recipe.yaml: ") in told


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("targets.row_per_label=1", "did you mean rows_per_label?"),
        ("targets.rows_per_label=many", "targets.rows_per_label: Input should be a valid integer"),
        ("targets", "write it as key.path=value"),
    ],
)
def test_a_bad_set_exits_2(tmp_path: Path, assignment: str, message: str) -> None:
    assert message in refused(nightshift("run", str(recipe(tmp_path)), "--dry-run", "--set", assignment))


def test_a_recipe_that_is_not_there_exits_2(tmp_path: Path) -> None:
    assert "none.yaml: cannot be read" in refused(nightshift("train", str(tmp_path / "none.yaml")))


def test_a_dry_run_prints_the_resolved_recipe_and_does_nothing(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    result = nightshift("run", str(path), "--dry-run", "--set", "targets.rows_per_label=7", "--set", "run=n")
    assert result.exit_code == 0, result.output
    shown = yaml.safe_load(result.stdout)
    assert (shown["targets"]["rows_per_label"], shown["run"], shown["method"]["name"]) == (7, "n", "fewgen")
    assert "nothing was done" in result.stderr
    assert list(tmp_path.iterdir()) == [path]

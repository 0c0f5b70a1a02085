"""A method of the user's own: the documentation's example, run, shipped to replicas, and refused."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cluster.errors import SettingsError
from jobs.recipe import Recipe, load_recipe
from synth.records import Example
from tests.unit.synth.method_desk import Teacher, headlines, planned, worked

ROOT = Path(__file__).parents[3]
EXAMPLE = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "methods.md").read_text(encoding="utf-8"), re.DOTALL
)[0]


def recipe(folder: Path, source: str = EXAMPLE, **method: object) -> Recipe:
    (folder / "haiku.py").write_text(source, encoding="utf-8")
    (folder / "recipe.yaml").write_text(
        yaml.safe_dump(
            {
                "run": "own",
                "task": {"name": "t", "instruction": "i", "labels": {"sea": "the sea", "city": "a city"}},
                "method": {"name": "haiku", "file": "haiku.py", **method},
                "teacher": {"backend": "scripted", "model": "any"},
                "targets": {"rows_per_label": 2},
            }
        )
    )
    return load_recipe(folder / "recipe.yaml")


def test_the_example_is_short_and_works_items_as_ours_do(tmp_path: Path) -> None:
    assert len([line for line in EXAMPLE.splitlines() if line.strip()]) <= 25
    method = recipe(tmp_path).method.build(headlines())
    items = planned(method, 5)
    assert [item.labels[0] for item in items] == ["sport", "trade", "sport", "trade", "sport"]
    teacher = Teacher(lambda prompt: "A ball in the rain.")
    assert worked(method, items[0], teacher) == [Example({"text": "A ball in the rain."}, "sport")]
    assert "a match or an athlete" in teacher.prompts[0]


def test_its_settings_are_checked_and_its_code_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="method: mood: unknown key"):
        recipe(tmp_path, mood="calm")
    with pytest.raises(SettingsError, match="method: name: Input should be 'haiku'"):
        recipe(tmp_path, name="sonnet")
    first, again = recipe(tmp_path).method, recipe(tmp_path).method
    other = recipe(tmp_path, EXAMPLE.replace("haiku about", "short haiku about")).method
    assert first.identity() == again.identity() != other.identity()
    # Where the file lies is not.
    (tmp_path / "elsewhere").mkdir()
    assert recipe(tmp_path / "elsewhere").method.identity() == first.identity()


def test_a_recipe_with_it_is_written_down_whole(tmp_path: Path) -> None:
    dumped = recipe(tmp_path, stop=["\n"]).model_dump(mode="json")["method"]
    assert (dumped["name"], dumped["file"], dumped["stop"]) == ("haiku", str(tmp_path / "haiku.py"), ["\n"])


def test_it_travels_to_a_process_that_does_not_see_the_file(tmp_path: Path) -> None:
    sent = pickle.dumps(recipe(tmp_path).method)
    (tmp_path / "haiku.py").unlink()
    code = """
import pickle, sys
method = pickle.loads(sys.stdin.buffer.read())
print(type(method).__name__, method.name, method.identity()["source"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=sent,
        capture_output=True,
        timeout=60,
        cwd=ROOT,
        env=dict(os.environ),
    )
    source = recipe(tmp_path).method.identity()["source"]
    assert done.stdout.decode().split() == ["HaikuSettings", "haiku", source], done.stderr.decode()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_package\n", r"haiku\.py:1: ModuleNotFoundError: No module named 'no_such_package'"),
        ("x = 1\ny = (\n", r"haiku\.py:2: SyntaxError"),
        ("x = 1\n", r"defines 0 subclasses of MethodSettings; it must define one"),
    ],
)
def test_a_file_that_defines_no_method_is_refused_with_its_line(
    tmp_path: Path, source: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        recipe(tmp_path, source)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    recipe(tmp_path)
    (tmp_path / "haiku.py").unlink()
    with pytest.raises(SettingsError, match=r"method\.file: .*haiku\.py: cannot be read"):
        load_recipe(tmp_path / "recipe.yaml")

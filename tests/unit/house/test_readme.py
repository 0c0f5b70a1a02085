"""What the README shows is what the code takes."""

import re
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from cluster.settings import validate
from jobs.recipe import Recipe
from synth.filters.settings import FilterSettings
from synth.method import Feedback, Generate, Method, MethodSettings, Slot, Sources
from synth.prompting import chat, read_reply
from synth.records import Example, Item, Prompt, Rejection, Reply, Sampling, Shot, make_item
from synth.task import Task, load_task

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the README's fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def own_task(folder: Path) -> Task:
    task = yaml.safe_load(blocks("yaml")[0])
    (folder / "seeds.jsonl").write_text('{"text": "Charged twice.", "label": "billing"}\n')
    (folder / "test.jsonl").write_text('{"text": "Never came.", "label": "delivery"}\n')
    (folder / "task.yaml").write_text(yaml.safe_dump(task))
    return load_task(folder / "task.yaml", folder)


def test_the_task_and_the_recipe_for_own_labels_are_valid(tmp_path: Path) -> None:
    assert list(own_task(tmp_path).labels) == ["billing", "delivery"]
    recipe = validate(Recipe, yaml.safe_load(blocks("yaml")[1]), "README.md")
    assert recipe.method.name == "synthesizrr"
    assert recipe.teacher.backend == "vllm"


RECIPE: dict[str, Any] = {
    "run": "r",
    "task": "task.yaml",
    "method": {"name": "fewgen"},
    "teacher": {"backend": "scripted"},
    "targets": {"rows_per_label": 1},
}


def test_the_table_of_methods_has_all_of_them() -> None:
    table = re.findall(r"(?m)^\| `(\w+)` \|", README)
    assert sorted(table) == sorted(path.stem for path in (ROOT / "synth" / "methods").glob("[a-z]*.py"))


@pytest.mark.parametrize("page", ["methods.md", "metrics.md", "quality.md", "teachers.md"])
def test_what_the_pages_show_of_recipes_is_valid(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(found) >= 2
    monkeypatch.chdir(tmp_path)
    Path("haiku.py").write_text("".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)))
    for block in found:
        validate(Recipe, RECIPE | yaml.safe_load(block), page)
        # What stands behind a comment sign is a setting too.
        shown = re.sub(r"(?m)^( +)# (\w+: )", r"\1\2", block)
        validate(Recipe, RECIPE | yaml.safe_load(shown), page)


def test_the_filters_shown_as_defaults_are_the_defaults() -> None:
    page = (ROOT / "docs" / "quality.md").read_text(encoding="utf-8")
    shown = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])["filters"]
    assert shown == FilterSettings().model_dump(mode="json")


async def test_the_method_in_the_readme_works(tmp_path: Path) -> None:
    parts = (
        Task,
        Method,
        MethodSettings,
        Item,
        Example,
        Rejection,
        Shot,
        make_item,
        chat,
        read_reply,
        product,
        partial,
        Slot,
    )
    space: dict[str, Any] = {part.__name__: part for part in parts}
    space |= {"Sources": Sources, "Feedback": Feedback, "Generate": Generate, "Iterator": Iterator}
    space["Literal"] = Literal
    exec(blocks("python")[1], space)

    async def generate(prompt: Prompt, sampling: Sampling) -> Reply:
        return Reply("They charged me two times.", "stop", 9, 6)

    method: Method = space["ParaphraseSettings"]().build(own_task(tmp_path))
    items = [slot.build() for slot in method.plan({}, 0, {})]
    assert len({item.id for item in items}) == len(items) == 10
    assert await method.examples(items[0], generate) == [
        Example({"text": "They charged me two times."}, "billing")
    ]


def test_the_tree_names_every_folder() -> None:
    tree = README.split("## The house")[1]
    packages = {path.parent.relative_to(ROOT) for path in ROOT.glob("[cjrst]*/**/__init__.py")}
    shown = {folder for folder in packages if folder.parts[0] != "tests"}
    assert len(shown) >= 9
    for folder in shown | {Path("infra"), Path("tests")}:
        assert f"{folder.name}/" in tree, folder

"""The shipped tasks of SynthesizRR's paper: what they hold, and what they make of prompts, word for word."""

from pathlib import Path

import pytest
import yaml

from jobs.recipe import load_recipe
from synth.methods.fewgen import FewGen, FewGenSettings
from synth.methods.synthesizrr import SynthesizRR, SynthesizRRSettings
from synth.prompting import as_text
from synth.records import Grounding, make_item
from synth.task import Task, load_task

ROOT = Path(__file__).parents[3]
RECIPES = ROOT / "jobs" / "recipes"
TASKS = RECIPES / "tasks"
GOLDEN = ROOT / "tests" / "golden" / "prompts"
TOPICS = "sports life-style education entertainment business city environment tech elections world"
PRODUCTS = """
magazines camera_photo office_products kitchen cell_phones_service computer_video_games
grocery_and_gourmet_food tools_hardware automotive music_album health_and_personal_care electronics
outdoor_living video apparel toys_games sports_outdoors books software baby musical_and_instruments beauty
jewelry_and_watches
"""
LABELS = {
    "agnews": "World Sports Business Sci/Tech",
    "toi_headlines": TOPICS,
    "hyperpartisan": "hyperpartisan not_hyperpartisan",
    "category": PRODUCTS,
    "humor": "humorous non_humorous",
    "polarity": "negative positive",
    "imdb": "negative positive",
    "sst2": "negative positive",
}


def task(name: str) -> Task:
    return load_task(Path(f"{name}.yaml"), TASKS)


@pytest.mark.parametrize("name", LABELS)
def test_a_task_has_the_papers_labels_and_number_of_seeds_and_no_data(name: str) -> None:
    loaded = task(name)
    settings = loaded.settings
    assert loaded.labels == tuple(LABELS[name].split())
    assert settings.seeds_per_label == (100 if len(loaded.labels) == 2 else 50)
    assert (settings.seeds, settings.test, loaded.seeds) == (None, None, ())
    assert settings.fields == ("text",) and settings.length
    assert len(set(settings.labels.values())) == len(settings.labels)
    for phrase in settings.labels.values():
        # It describes the label, and ends where the prompt puts its full stop.
        assert len(phrase.split()) >= 6 and phrase[-1].isalpha()


@pytest.mark.parametrize("name", LABELS)
def test_a_task_says_what_to_give_it(name: str) -> None:
    text = (TASKS / f"{name}.yaml").read_text(encoding="utf-8")
    head = text[: text.index("name:")]
    assert f"task: {{file: tasks/{name}.yaml, seeds: train.jsonl, test: test.jsonl}}" in head
    assert "method.sampling.max_tokens " in head and "Corpus: " in head


def test_what_to_give_is_given_in_the_recipe(tmp_path: Path) -> None:
    rows = [f'{{"text": "Match {n} of the season.", "label": "Sports"}}\n' for n in range(60)]
    (tmp_path / "train.jsonl").write_text("".join(rows))
    given = {"file": str(TASKS / "agnews.yaml"), "seeds": "train.jsonl", "length": "four words"}
    loaded = load_task(given, tmp_path)
    assert (loaded.settings.name, loaded.settings.length) == ("agnews", "four words")
    assert len(loaded.seeds) == len(loaded.seeds_of("Sports")) == 50


@pytest.mark.parametrize("name", LABELS)
def test_the_prompts_of_a_task_are_the_golden_ones(name: str) -> None:
    given = task(name)
    document = (Grounding("d", "It has been raining since March.", 0.5),)
    item = make_item("key", 0, 0, given.labels[:1], documents=document)
    grounded = SynthesizRRSettings(variant="zero_shot", bootstrap={}).build(given)
    alone = FewGenSettings().build(given)
    assert isinstance(grounded, SynthesizRR) and isinstance(alone, FewGen)
    shown = f"{as_text(alone.prompt(item))}\n\n---\n\n{as_text(grounded.prompt(item))}\n"
    assert shown == (GOLDEN / f"task_{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["synthesizrr", "fewgen"])
def test_the_production_recipe_of_a_method_loads(name: str) -> None:
    path = RECIPES / "production" / f"{name}.yaml"
    recipe = load_recipe(path)
    assert recipe.method.name == name and isinstance(recipe.task, dict)
    assert Path(recipe.task["file"]).resolve() == TASKS / "agnews.yaml"
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["task"].keys() == {"file", "seeds", "test"}
    assert recipe.limits.deadline == "07:00"
    assert recipe.targets.quotas(task("agnews").labels) == dict.fromkeys(task("agnews").labels, 2000)

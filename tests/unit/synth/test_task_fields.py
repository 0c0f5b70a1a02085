"""Tasks of several fields, columns of gold files, seeds drawn per label, and task files with changes."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import DataError, SettingsError
from synth.fields import described, fields_structure, shown
from synth.task import Task, load_task, load_test

PAIR: dict[str, Any] = {
    "name": "nli",
    "instruction": "Does the claim follow?",
    "labels": {"entailment": "it follows", "neutral": "it is left open"},
    "fields": {"text": "a passage", "second_claim": "a claim about it"},
}
LABELS = tuple(PAIR["labels"])


def write(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.name


def many(folder: Path, count: int) -> str:
    rows = [
        {"text": f"{label} {n}", "second_claim": "c", "label": label}
        for label in LABELS
        for n in range(count)
    ]
    return write(folder / "gold.jsonl", rows)


def load(folder: Path, **more: Any) -> Task:
    return load_task(PAIR | more, folder)


def test_fields_may_say_what_they_hold(tmp_path: Path) -> None:
    settings = load(tmp_path).settings
    assert settings.fields == ("text", "second_claim")
    assert [settings.what(name) for name in settings.fields] == ["a passage", "a claim about it"]
    plain = load(tmp_path, fields=["text", "second_claim"], text_type="Passage").settings
    assert [plain.what(name) for name in plain.fields] == ["Passage", "second claim"]
    assert type(settings).model_validate(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"fields": {"text": "a passage", "claim": ""}}, "say of each what it holds"),
        ({"columns": {"claim": "hypothesis"}}, "claim is none of text, second_claim"),
        ({"fields": {"claim": "a claim"}}, "one field must be called text"),
    ],
)
def test_fields_that_cannot_be_are_refused(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load(tmp_path, **given)


def test_gold_files_may_have_other_columns_and_are_named_by_them(tmp_path: Path) -> None:
    row = {"premise": "It rains.", "second_claim": "It is wet.", "label": "entailment", "text": "joined"}
    columns = {"text": "premise"}
    task = load(tmp_path, columns=columns, test=write(tmp_path / "test.jsonl", [row]))
    assert load_test(task)[0].fields == {"text": "It rains.", "second_claim": "It is wet."}
    with pytest.raises(DataError, match=r"gold\.jsonl:1: 'premise' must be a text that is not empty"):
        load(tmp_path, columns=columns, seeds=many(tmp_path, 1))


def test_a_student_reads_all_fields_as_one_text(tmp_path: Path) -> None:
    fields = {"text": "It rains.", "second_claim": "It is wet."}
    assert load(tmp_path).as_one_text(fields) == "It rains.\nSecond claim: It is wet."
    assert load(tmp_path, fields=["text"]).as_one_text({"text": "It rains."}) == "It rains."


def test_so_many_seeds_of_each_label_are_drawn_once_and_for_all(tmp_path: Path) -> None:
    file = many(tmp_path, 40)
    everything, drawn = load(tmp_path, seeds=file), load(tmp_path, seeds=file, seeds_per_label=5)
    assert Counter(seed.label for seed in drawn.seeds) == dict.fromkeys(LABELS, 5)
    assert drawn == load(tmp_path, seeds=file, seeds_per_label=5)
    assert [seed for seed in everything.seeds if seed in drawn.seeds] == list(drawn.seeds)
    assert list(drawn.seeds) != [seed for label in LABELS for seed in everything.seeds_of(label)[:5]]
    assert load(tmp_path, seeds=file, seeds_per_label=90).seeds == everything.seeds


def test_a_task_may_be_a_file_with_what_differs_from_it(tmp_path: Path) -> None:
    shipped, mine = tmp_path / "shipped", tmp_path / "mine"
    shipped.mkdir()
    mine.mkdir()
    many(shipped, 3)
    many(mine, 2)
    (shipped / "task.yaml").write_text(json.dumps(PAIR | {"seeds": "gold.jsonl"}))
    assert len(load_task({"file": "../shipped/task.yaml"}, mine).seeds) == 6
    changed = load_task({"file": "../shipped/task.yaml", "seeds": "gold.jsonl", "length": "short"}, mine)
    assert (len(changed.seeds), changed.settings.length) == (4, "short")
    with pytest.raises(SettingsError, match=r"task\.yaml: .*lenth.* did you mean length\?"):
        load_task({"file": "../shipped/task.yaml", "lenth": "short"}, mine)


def test_what_no_prompt_shows_leaves_the_items_as_they_are(tmp_path: Path) -> None:
    plain = load(tmp_path, fields=["text"]).identity()
    assert "field_types" not in plain
    file = many(tmp_path, 2)
    assert load(tmp_path, seeds=file).identity() == load(tmp_path, seeds=file, seeds_per_label=2).identity()
    assert load(tmp_path).identity()["field_types"] == PAIR["fields"]


def test_prompts_show_fields_under_their_names_and_replies_hold_them_all(tmp_path: Path) -> None:
    task = load(tmp_path)
    assert described(task) == "- text: a passage\n- second_claim: a claim about it"
    assert (
        shown({"text": "It rains.", "second_claim": "It is wet."})
        == "text: It rains.\nsecond_claim: It is wet."
    )
    schema = json.loads(fields_structure(task, why={"type": "string"}).json_schema or "")
    assert schema["required"] == ["why", "text", "second_claim"]

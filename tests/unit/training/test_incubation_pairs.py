"""Pairs drawn from labelled rows: what they name, whose texts they hold, and when they end."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import DataError, SettingsError
from synth.task import Gold, Task, TaskSettings
from training.incubation.datasets import load_datasets
from training.incubation.pairs import ANYTHING_ELSE, OTHER, Drawn, cut, draw_pairs, instructions
from training.incubation.settings import IncubationSettings, PairSettings
from training.incubation.wordings import FRAMES, worded

LABELS = {
    "sport": "a match",
    "trade": "a {market}",
    "art": "a picture",
    "law": "a court",
}
INSTRUCTION = "Tell the {topic} of a headline."


def task(rows: int = 50, labels: dict[str, str] | None = None, **texts: str) -> Task:
    named = LABELS if labels is None else labels
    settings = TaskSettings(name="news", instruction=INSTRUCTION, text_type="Headline", labels=named)
    rows_of = [(label, texts.get(label, f"{label} row {n}.")) for label in named for n in range(rows)]
    return Task(
        settings, tuple(Gold(f"{n}", {"text": text}, label) for n, (label, text) in enumerate(rows_of))
    )


def drawn(
    given: Task | None = None, seed: int = 0, rewordings: tuple[str, ...] = (), **settings: Any
) -> Drawn:
    return draw_pairs(given or task(), PairSettings.model_validate(settings), seed, rewordings)


def owner(text: str) -> str:
    return text.split()[0]


def test_texts_are_rows_of_the_labels_asked_for_and_no_row_serves_twice() -> None:
    pairs = drawn(per_dataset=40).pairs
    assert len(pairs) == 40
    for pair in pairs:
        assert list(pair.texts) == list(pair.task.labels) == list(json.loads(pair.reply))
        assert json.loads(pair.reply) == dict(pair.texts)
        assert all(owner(text) == label for label, text in pair.texts.items() if label != OTHER)
    texts = [text for pair in pairs for text in pair.texts.values()]
    assert len(set(texts)) == len(texts)


def test_other_takes_a_row_of_a_label_that_is_not_named() -> None:
    pairs = [pair for pair in drawn(vary=1, other=1, per_dataset=30).pairs]
    assert all([*pair.texts][-1] == OTHER for pair in pairs)
    assert all(owner(pair.texts[OTHER]) not in pair.texts for pair in pairs)
    assert all(pair.task.labels[OTHER] == ANYTHING_ELSE for pair in pairs)
    assert {len(pair.texts) for pair in pairs} == {2, 3, 4}


def test_a_dataset_with_an_other_of_its_own_gets_no_second_one() -> None:
    labels = {"sport": "a match", "other": "anything else"}
    pairs = drawn(task(labels=labels), vary=1, other=1, per_dataset=20).pairs
    assert all(set(pair.texts) == {"sport", "other"} for pair in pairs)


def test_shares_of_varied_pairs_and_of_other_are_those_asked_for() -> None:
    assert all([*pair.texts] == [*LABELS] for pair in drawn(vary=0).pairs)
    assert not any(OTHER in pair.texts for pair in drawn(vary=1, other=0).pairs)
    many = drawn(task(2000), per_dataset=1000, vary=0.5, other=0.4).pairs
    with_other = sum(OTHER in pair.texts for pair in many)
    assert 150 < with_other < 250
    orders = Counter(tuple(pair.texts) for pair in many)
    assert 450 < orders[tuple(LABELS)] < 560
    assert len(orders) > 50


def test_no_pair_names_more_labels_than_the_most() -> None:
    labels = {f"l{n}": f"kind {n}" for n in range(20)}
    pairs = drawn(task(labels=labels), labels=3, per_dataset=30).pairs
    assert {len(pair.texts) for pair in pairs} == {2, 3}


def test_pairs_end_with_the_label_that_has_no_row_left() -> None:
    settings = TaskSettings(name="few", instruction="Which?", labels={"a": "an a", "b": "a b"})
    rows = [("a", f"a row {n}.") for n in range(9)] + [("b", "b row 0."), ("b", "b row 1.")]
    few = Task(settings, tuple(Gold(text, {"text": text}, label) for label, text in rows))
    found = drawn(few, vary=0)
    assert (len(found.pairs), found.used_up, found.rows) == (2, "b", 11)
    assert drawn(per_dataset=3).used_up is None


def test_the_same_seed_draws_the_same_and_another_seed_others() -> None:
    assert drawn(seed=1) == drawn(seed=1)
    assert drawn(seed=1) != drawn(seed=2)


def test_long_texts_are_cut_at_a_sentence_or_left_out() -> None:
    assert cut(" Short\n text ", 20) == "Short text"
    assert cut("One two. Three four. Five six seven.", 21) == "One two. Three four."
    assert cut("One two. Three four. Five six seven.", 20) == "One two. Three four."
    assert cut("One two. Three four. Five", 19) == "One two."
    assert cut('He said "stop." Then he went away.', 20) == 'He said "stop."'
    assert cut("no end of a sentence in sight here", 20) is None
    assert cut("Talks with N. Korea go on and on", 20) is None


def test_rows_that_cannot_be_used_are_counted_and_a_label_without_any_is_an_error() -> None:
    settings = TaskSettings(name="odd", instruction="Which?", labels={"a": "an a", "b": "a b"})
    rows = [
        ("a", "Both."), ("b", "both."), ("a", "A B"), ("a", "long " * 60), ("a", "Fine."), ("a", "fine."),
        ("b", "Well."),
    ]  # fmt: skip
    odd = Task(settings, tuple(Gold(str(n), {"text": text}, label) for n, (label, text) in enumerate(rows)))
    found = drawn(odd, vary=0)
    assert [dict(pair.texts) for pair in found.pairs] == [{"a": found.pairs[0].texts["a"], "b": "Well."}]
    assert found.pairs[0].texts["a"].casefold() == "fine."
    assert found.left_out == {
        "two labels": 2,
        "only a label's name": 1,
        "no sentence ends within the length": 1,
    }
    with pytest.raises(
        DataError, match=r"news: no row of 'law' can be used .*raise incubation.pairs.letters"
    ):
        drawn(task(law="court " * 60))


def test_a_task_of_several_fields_is_refused() -> None:
    fields = {
        "name": "nli",
        "instruction": "Which?",
        "fields": ["text", "claim"],
        "labels": {"a": "x", "b": "y"},
    }
    with pytest.raises(SettingsError, match="nli: has several fields"):
        drawn(Task(TaskSettings.model_validate(fields), ()))


def test_instructions_are_worded_by_the_writer_or_else_by_us_or_not_at_all() -> None:
    ours = {pair.task.instruction for pair in drawn().pairs}
    assert INSTRUCTION in ours and len(ours) > 10
    assert any("a {market}" in instruction for instruction in ours), "braces of the user's stay as they are"
    written = {pair.task.instruction for pair in drawn(rewordings=("Sort {these}!", "Topics?")).pairs}
    assert written == {INSTRUCTION, "Sort {these}!", "Topics?"}
    assert {pair.task.instruction for pair in drawn(wordings=False).pairs} == {INSTRUCTION}


def test_every_frame_is_used_and_filled() -> None:
    rng = random.Random(0)
    settings = task().settings.model_copy(update={"text_type": "Opinion"})
    found = {worded(settings, rng) for _ in range(200)}
    assert len(found) == len(FRAMES) + 1
    assert sum("an opinion" in each for each in found) == 4
    assert not any("{phrases}" in each or "{what}" in each for each in found)


def test_instructions_to_sample_start_with_the_own_one_and_are_all_different() -> None:
    given = task()
    pairs = drawn(given)
    found = list(instructions(given, pairs, 4))
    assert (found[0].instruction, [*found[0].labels]) == (INSTRUCTION, [*LABELS])
    assert 5 < len({(each.instruction, *each.labels) for each in found}) == len(found) <= len(pairs.pairs)


def test_instructions_of_more_labels_than_a_pair_may_name_are_not_sampled() -> None:
    given = task()
    found = list(instructions(given, drawn(given, labels=3), 3))
    assert found
    assert max(len(each.labels) for each in found) == 3


def folder(path: Path, name: str, rows: str = '{"text": "x", "label": "a"}\n') -> Path:
    path.mkdir()
    (path / "task.yaml").write_text(
        f"name: {name}\ninstruction: Which?\nlabels: {{a: an a, b: a b}}\nseeds: rows.jsonl\n"
    )
    (path / "rows.jsonl").write_text(rows)
    return path


def test_datasets_are_folders_task_files_or_tasks(tmp_path: Path) -> None:
    one, two = folder(tmp_path / "one", "one"), folder(tmp_path / "two", "two")
    inline = {"file": str(two / "task.yaml"), "name": "three"}
    settings = IncubationSettings.model_validate({"datasets": ["one", str(two / "task.yaml"), inline]})
    tasks = load_datasets(settings, tmp_path)
    assert [each.settings.name for each in tasks] == ["one", "two", "three"]
    assert [seed.text for seed in tasks[0].seeds] == ["x"]
    assert one.is_dir()


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        (["one", "one"], "two are called one"),
        (["empty"], "empty: holds no task.yaml"),
        ([{"name": "bare", "instruction": "Which?", "labels": {"a": "x", "b": "y"}}], "bare: has no rows"),
    ],
)
def test_datasets_that_cannot_be_used_are_named(tmp_path: Path, datasets: list[Any], message: str) -> None:
    folder(tmp_path / "one", "one")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match=message):
        load_datasets(IncubationSettings.model_validate({"datasets": datasets}), tmp_path)

"""What `nightshift mine` ranks, writes and prints; the students' predictions are played."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.errors import DataError, ModelError, SettingsError
from cluster.storage import Store
from jobs import mine, predict
from retrieval.tables import write_table
from tests.unit.jobs.run_with_students import corpus, save, view
from training import corpus_plan
from training.corpus_plan import Reading, plan_corpus, read_parts
from training.corpus_report import CorpusReport
from training.part_predictor import with_predictions
from training.student_place import StudentPlace

ROWS = [
    {"text": "good soup", "gold": {"mood": "positive", "about_food": True}},
    {"text": "bad soup", "gold": {"mood": "negative", "about_food": True}},
    {"text": "good film", "gold": {"mood": "positive", "about_food": False}},
    {"text": "bad film", "gold": {"mood": "negative", "about_food": False}},
    {"text": "soup", "gold": {"about_food": True}},
    {"text": "good soup good", "gold": ["positive", "about_food"]},
    {"text": "good soup"},
]
WORDS = {"positive": ("good", 0.9, 0.2), "about_food": ("soup", 0.99, 0.05), "news": ("film", 0.8, 0.3)}


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Students that go by one word; gives the places of those that were asked."""
    asked: list[str] = []

    def predicted(
        student: StudentPlace, reading: Reading, out: Store, progress: Callable[[int, int, int], None]
    ) -> CorpusReport:
        asked.append(student.url)
        labels = student.labels()
        word, with_it, without = WORDS[labels[0]]
        plan = plan_corpus(out, reading, student.revision())
        rows = 0
        for key, part in read_parts(out, plan, 0, reading, frozenset()):
            first = np.array([with_it if word in text else without for text in part["text"].to_pylist()])
            found = np.stack([first, 1 - first], axis=1).astype(np.float32)
            write_table(out, key, with_predictions(part, found, labels, exclusive=True))
            rows += part.num_rows
        return CorpusReport(labels, True, rows, {}, {}, rows, 0, 1.0)

    monkeypatch.setattr(predict, "predict_corpus", predicted)
    monkeypatch.setattr(predict, "check_shared", lambda store: None)
    monkeypatch.setattr(corpus_plan, "PART_ROWS", 3)
    return asked


def mined(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "mined.jsonl").read_text().splitlines()]


def prepared(folder: Path) -> Any:
    """A run with the student `mood`, another with `food`, and the folder of a third student."""
    seen = view(folder, students={"mood": ("positive", "negative")})
    save(folder / "runs" / "evening" / "students" / "food", "about_food", "other")
    save(folder / "topic", "news", "other")
    return seen


def run(view: Any, condition: str, **given: Any) -> int:
    options: dict[str, Any] = {"student": (), "top": 100, "gold": (), "out": None, "corpus": None, "text": ()}
    return mine.run(view, condition, **options | {"bad_rows": "stop"} | given)


def test_students_of_several_runs_rank_a_corpus_together(
    tmp_path: Path, played: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mine, "PRECISION_AT", (1, 3))
    seen, texts = prepared(tmp_path), corpus(tmp_path, *ROWS)
    given = {"corpus": texts, "student": ("about_food=evening", "topic=topic"), "gold": ("gold",)}
    assert run(seen, "positive and about_food", out="best", top=3, **given) == 0
    assert [place.rpartition("/")[2] for place in played] == ["mood", "food"]

    best = mined(tmp_path / "best")
    # The same text twice is one; equals go by their ids.
    assert {each["text"] for each in best[:2]} == {"good soup", "good soup good"}
    assert best[0]["id"] < best[1]["id"]
    assert [each["rank"] for each in best] == [1, 2, 3]
    np.testing.assert_allclose([each["score"] for each in best[:2]], np.log(0.9 * 0.99), rtol=1e-6)
    assert best[0]["probabilities"] == pytest.approx({"mood:positive": 0.9, "about_food:about_food": 0.99})
    # P(positive)·P(food) of soup that nobody judges: 0.2·0.99; of a good film: 0.9·0.05.
    assert (best[2]["text"], best[2]["right"]) in {("bad soup", False), ("soup", None)}

    printed = capsys.readouterr().out
    assert "mood:positive 0.900  about_food:about_food 0.990" in printed
    assert "precision@1    1.000 [0.207, 1.000]  1 of 1 judged" in printed
    assert "at random      0.400  2 of 5 judged rows are right" in printed
    summary = json.loads((tmp_path / "best" / "mined.json").read_text())
    assert (summary["rows"], summary["judged"], summary["right"]) == (7, 5, 2)


@pytest.mark.parametrize(
    ("condition", "first", "score"),
    [
        ("positive and not about_food", "good film", 0.9 * 0.95),
        ("not (mood:negative or about_food)", "good film", 0.9 * 0.95),
        ("negative and about_food and news", "bad soup", None),
        ("topic and not positive", "bad film", 0.8 * 0.8),
        ("news or about_food", None, 1 - 0.7 * 0.01),
    ],
)
def test_conditions_are_combined_as_they_say(
    tmp_path: Path, played: list[str], condition: str, first: str | None, score: float | None
) -> None:
    rows = [row for row in ROWS if row["text"] != "soup"]
    given = {"corpus": corpus(tmp_path, *rows), "out": str(tmp_path / "best"), "top": 1}
    students = ("about_food=evening/food", f"topic={tmp_path / 'topic'}")
    run(prepared(tmp_path), condition, student=students, **given)
    (best,) = mined(tmp_path / "best")
    assert first is None or best["text"] == first
    assert score is None or best["score"] == pytest.approx(np.log(score), rel=1e-5)


def test_columns_of_gold_for_each_student(tmp_path: Path, played: list[str]) -> None:
    rows = [
        {"text": "good soup", "mood": "positive", "kind": "about_food"},
        {"text": "good soup, bad film", "mood": "negative", "kind": "about_food"},
        {"text": "bad soup", "kind": "other"},
    ]
    given = {"corpus": corpus(tmp_path, *rows), "gold": ("mood=mood", "about_food=kind")}
    seen = prepared(tmp_path)
    run(seen, "positive and about_food", student=("about_food=evening",), out=str(tmp_path / "best"), **given)
    # Without its mood the last row cannot be judged, though it is not about food.
    assert {each["text"]: each["right"] for each in mined(tmp_path / "best")} == {
        "good soup": True,
        "good soup, bad film": False,
        "bad soup": None,
    }


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"student": ("about_food",)}, SettingsError, "write it as NAME=RUN"),
        ({"student": ("x=nowhere",)}, SettingsError, "--student x=nowhere: run .*nowhere holds no students"),
        ({"gold": ("other=gold",)}, SettingsError, "there is no student 'other'; there are mood"),
        ({"gold": ("kind",)}, DataError, "has a value in column 'kind'"),
        ({"condition": "positive and spam"}, SettingsError, "'spam' is no label and no student"),
        ({"student": ("x=encoder",)}, ModelError, "holds no classifier"),
    ],
)
def test_what_cannot_be_mined_is_refused_before_anything_is_predicted(
    tmp_path: Path,
    played: list[str],
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "encoder", kind="BertModel")
    options = {"condition": "positive", "corpus": corpus(tmp_path, *ROWS)} | given
    with pytest.raises(error, match=message):
        run(prepared(tmp_path), **options)
    assert played == []

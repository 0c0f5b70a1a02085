"""What `nightshift predict` finds, refuses and prints; the prediction itself is played."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from cluster.errors import DataError, ModelError, SettingsError
from cluster.storage import Store
from jobs import predict
from jobs.job import _words
from retrieval.settings import CorpusSettings
from tests.unit.jobs.run_with_students import corpus, save, view
from training.corpus_plan import Reading
from training.corpus_report import CorpusReport
from training.student_place import StudentPlace

Call = tuple[StudentPlace, Reading, Store]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """The predictions that were asked for; each finds three rows."""
    asked: list[Call] = []

    def played(
        student: StudentPlace, reading: Reading, out: Store, progress: Callable[[int, int, int], None]
    ) -> CorpusReport:
        asked.append((student, reading, out))
        progress(0, 0, 1)
        progress(3, 1, 1)
        return CorpusReport(("a", "b"), True, 3, {"a": 2, "b": 1}, {"empty": 1}, 3, 30, 1.5)

    monkeypatch.setattr(predict, "predict_corpus", played)
    monkeypatch.setattr(predict, "check_shared", lambda store: None)
    return asked


def run(view: Any, **given: Any) -> int:
    options: dict[str, Any] = {
        "student": None,
        "model": None,
        "out": None,
        "keep": (),
        "no_text": False,
        "corpus": None,
        "text": (),
        "bad_rows": "stop",
    }
    return predict.run(view, **options | given)


def test_the_first_student_reads_the_corpus_and_says_how_often_it_gave_each_label(
    tmp_path: Path, calls: list[Call], capsys: pytest.CaptureFixture[str]
) -> None:
    seen = view(tmp_path)
    assert run(seen, corpus=corpus(tmp_path, {"text": "one", "url": "u"}), keep=("url",)) == 0
    [(student, reading, out)] = calls
    assert student.url == str(tmp_path / "runs" / "r" / "students" / "second")
    assert (reading.keep_text, reading.corpus.metadata, reading.corpus.title) == (True, ("url",), None)
    assert out.url.startswith(str(tmp_path / "runs" / "predictions" / "second-"))
    assert capsys.readouterr().out.splitlines() == ["           2   66.7%  a", "           1   33.3%  b"]
    assert "second: 3 rows, 2 rows/s" in seen.progress.said
    assert "second: left out 1 empty" in seen.progress.said


def test_a_folder_of_ones_own_and_a_place_for_the_parts(
    tmp_path: Path, calls: list[Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "mine", "a", "b")
    run(
        view(tmp_path),
        model="mine",
        corpus=corpus(tmp_path, {"body": "one"}),
        text=("body",),
        out="there",
        no_text=True,
    )
    [(student, reading, out)] = calls
    assert student.url == str(tmp_path / "mine")
    assert (reading.keep_text, reading.corpus.text) == (False, ("body",))
    assert out.url == str(tmp_path / "there")


def test_a_student_of_a_task_with_several_fields_reads_them_all(tmp_path: Path, calls: list[Call]) -> None:
    seen = view(tmp_path, fields=("text", "premise"), columns={"text": "said", "premise": "before"})
    run(seen, corpus=corpus(tmp_path, {"said": "one", "before": "two"}))
    [(_, reading, _)] = calls
    assert (reading.corpus.text, reading.fields) == (("said",), {"premise": "before"})
    assert reading.corpus.metadata == ("before",)


def test_the_place_of_predictions_changes_with_the_student_and_the_corpus(
    tmp_path: Path, calls: list[Call]
) -> None:
    seen = view(tmp_path)
    for student, text in (("first", "one"), ("first", "two"), ("second", "two"), ("first", "one")):
        run(seen, student=student, corpus=corpus(tmp_path, {"text": text}))
    places = [out.url for _, _, out in calls]
    assert len(set(places)) == 3
    assert places[0] == places[3]


def test_the_recipes_corpus_is_read_as_it_says(tmp_path: Path, calls: list[Call]) -> None:
    seen = view(tmp_path)
    seen.recipe.corpus = CorpusSettings(path=corpus(tmp_path, {"body": "one"}), text=("body",))
    run(seen)
    assert calls[0][1].corpus.text == ("body",)
    with pytest.raises(SettingsError, match="--corpus: give a file or folder"):
        run(seen, text=("other",))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"student": "third"}, SettingsError, "has no student 'third'; there are first, second"),
        ({"student": "first", "model": "x"}, SettingsError, "give either --student or --model"),
        ({"model": "nowhere"}, ModelError, "nowhere: holds no student"),
        ({"corpus": "none.jsonl"}, DataError, "there is no such file or folder"),
        ({"text": ("body",)}, DataError, "has no column 'body', it has text, n; set corpus.text"),
        ({"text": ("n",)}, DataError, "'n' must be a text that is not empty"),
        ({"keep": ("gold",)}, DataError, "has a value in column 'gold'"),
        ({"corpus": ""}, SettingsError, "--corpus: is empty"),
    ],
)
def test_what_cannot_be_predicted_is_refused_before_anything_starts(
    tmp_path: Path, calls: list[Call], given: dict[str, Any], error: type[Exception], message: str
) -> None:
    options = {"corpus": corpus(tmp_path, {"text": "one", "n": 1})} | given
    with pytest.raises(error, match=message):
        run(view(tmp_path), **options)
    assert calls == []


def test_a_run_without_students_is_told(tmp_path: Path, calls: list[Call]) -> None:
    seen = view(tmp_path)
    seen.recipe.run = "other"
    with pytest.raises(SettingsError, match="holds no students; run `nightshift train` first"):
        run(seen, corpus=corpus(tmp_path, {"text": "one"}))


def test_an_empty_corpus_is_refused(tmp_path: Path, calls: list[Call]) -> None:
    with pytest.raises(DataError, match="holds no documents"):
        run(view(tmp_path), corpus=corpus(tmp_path))


def test_a_model_that_is_no_classifier_is_refused(tmp_path: Path, calls: list[Call]) -> None:
    folder = save(tmp_path / "encoder", kind="BertModel")
    with pytest.raises(ModelError, match="holds no classifier but BertModel"):
        run(view(tmp_path), model=str(folder), corpus=corpus(tmp_path, {"text": "one"}))


def test_options_given_several_times_travel_with_a_submitted_job() -> None:
    option = click.Option(["--keep"], multiple=True)
    assert _words(option, ("a", "b c")) == ["--keep", "a", "--keep", "b c"]
    assert _words(option, ()) == []

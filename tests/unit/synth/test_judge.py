"""The judge: what is asked, what follows from the answer, and what is kept of it."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from cluster.errors import SettingsError
from cluster.settings import validate
from synth.judge import Judge, JudgeSettings
from synth.prompting import as_text
from synth.records import Example, Prompt, Rejection, Reply, Sampling
from synth.task import Task, TaskSettings

LABELS = {"Film": "a film", "Album": "a music album"}
TASK = Task(TaskSettings(name="t", instruction="Tell works apart.", text_type="Abstract", labels=LABELS), ())
ROW = Example({"text": "A record of ten songs."}, "Album", verdicts={"seen": "yes"})


class Teacher:
    """Answers with given texts in turn, the last one for ever."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.asked: list[tuple[Prompt, Sampling]] = []

    async def __call__(self, prompt: Prompt, sampling: Sampling) -> Reply:
        self.asked.append((prompt, sampling))
        text = self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]
        return Reply(text, "stop", 10, 2)


def review(
    teacher: Teacher, outcomes: Sequence[Example | Rejection] = (ROW,), **settings: Any
) -> list[Example | Rejection]:
    return asyncio.run(Judge(JudgeSettings(**settings), TASK).review(outcomes, teacher))


def test_a_row_whose_label_the_judge_confirms_stays_with_what_was_said() -> None:
    teacher = Teacher("Album")
    (row,) = review(teacher)
    assert row == Example(ROW.fields, "Album", verdicts={"seen": "yes", "judge_label": "Album"})
    ((prompt, sampling),) = teacher.asked
    assert not isinstance(prompt, str) and [turn.role for turn in prompt] == ["user"]
    for words in ("Tell works apart.", "- Film: a film", "- Album: a music album", "A record of ten songs."):
        assert words in as_text(prompt)
    assert sampling.temperature == 0 and sampling.structure is not None
    assert sampling.structure.choices == ("Film", "Album")


@pytest.mark.parametrize("then", ["reject", "replace", "record"])
def test_a_row_whose_label_the_judge_disputes(then: str) -> None:
    (row,) = review(Teacher("Film"), then=then)
    if then == "reject":
        assert isinstance(row, Rejection)
        assert (row.reason, row.text, row.label) == ("judge_label", "A record of ten songs.", "Album")
    else:
        assert row.label == ("Film" if then == "replace" else "Album")
        assert row.verdicts.get("asked_label") == ("Album" if then == "replace" else None)
    assert row.verdicts["judge_label"] == "Film"


@pytest.mark.parametrize(("points", "reason"), [(5, None), (3, None), (2, "judge_score")])
def test_a_row_below_the_least_points_is_refused_and_the_reason_kept(points: int, reason: str | None) -> None:
    teacher = Teacher(f'{{"why": "It is short.", "points": {points}}}')
    (row,) = review(teacher, ask="score", criteria="Brevity counts.")
    assert (row.reason if isinstance(row, Rejection) else None) == reason
    assert row.verdicts == {"seen": "yes", "judge_points": f"{points}/5", "judge_why": "It is short."}
    assert "Brevity counts." in as_text(teacher.asked[0][0]) and "Album (a music album)" in as_text(
        teacher.asked[0][0]
    )


def test_a_judge_without_a_verdict_is_asked_again_and_then_the_row_is_refused() -> None:
    teacher = Teacher("Hard to say.", "Album")
    assert isinstance(review(teacher)[0], Example) and len(teacher.asked) == 2
    teacher = Teacher("Hard to say.")
    (row,) = review(teacher, attempts=4)
    assert isinstance(row, Rejection) and (row.reason, len(teacher.asked)) == ("judge_unreadable", 4)
    (row,) = review(Teacher("Hard to say."), then="record")
    assert isinstance(row, Example) and row.verdicts["judge"] == "gave no verdict"


def test_what_is_rejected_already_or_has_several_labels_is_not_asked_about() -> None:
    teacher = Teacher("Film")
    refused, both = Rejection("empty", "", "Film"), Example({"text": "A."}, ("Film", "Album"))
    first, second = review(teacher, [refused, both])
    assert first is refused and not teacher.asked
    assert second.verdicts == {"judge": "not asked: several labels"}


def test_a_model_without_a_chat_template_is_asked_in_plain_text() -> None:
    teacher = Teacher("Album")
    review(teacher, render="raw")
    prompt = teacher.asked[0][0]
    assert isinstance(prompt, str) and prompt.endswith("\n\nAnswer:")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ask": "score", "then": "replace"}, "replace goes with ask: relabel"),
        ({"ask": "score", "points": 3, "least": 4}, "4 is more than points, 3"),
        (
            {"teacher": {"backend": "scripted", "replicas": 2}},
            "replicas: a judge is loaded in the teacher's replicas",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        validate(JudgeSettings, given, "judge")


def test_who_judges_and_how_is_in_the_fingerprint_but_not_where_it_runs() -> None:
    ours = JudgeSettings.model_validate({"teacher": {"backend": "scripted", "model": "a"}})
    other = JudgeSettings.model_validate({"teacher": {"backend": "scripted", "model": "b"}})
    assert ours.identity() != other.identity() != JudgeSettings().identity()
    slow = JudgeSettings.model_validate({"teacher": {"backend": "scripted", "model": "a", "seconds": 1}})
    assert slow.identity() == ours.identity()

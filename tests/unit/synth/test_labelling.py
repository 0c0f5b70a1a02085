"""The teacher as a classifier: how it is asked for a label, with which examples, what its replies mean."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from cluster.errors import RunError, SettingsError
from synth.labelling import Labeller
from synth.records import Message, Prompt, Reply
from synth.task import Task
from tests.unit.synth.method_desk import LABELS, ODD, Teacher, headlines, pairs

TEXT = {"text": "Shares rise."}


def label(labeller: Labeller, reply: str | Reply, fields: dict[str, str] | None = None) -> str | None:
    return asyncio.run(labeller.label(fields or TEXT, Teacher(lambda _: reply).generate))


def prompt(labeller: Labeller, fields: dict[str, str] | None = None) -> tuple[Message, ...]:
    """Return the chat in which a label is asked for."""
    teacher = Teacher(lambda _: "sport")
    asyncio.run(labeller.label(fields or TEXT, teacher.generate))
    ((asked, _),) = teacher.asked
    assert not isinstance(asked, str)
    return asked


def test_without_shots_the_prompt_is_one_question() -> None:
    (turn,) = prompt(Labeller(headlines(), 0, 0))
    assert turn.role == "user"
    assert turn.content == (
        "Tell the topic.\n\nThe labels:\n- sport: a match or an athlete\n- trade: companies and markets\n\n"
        "text:\nShares rise.\n\n"
        "Which label does it have? Answer with the name of one label and nothing else."
    )


def test_shots_are_earlier_turns_that_ask_and_answer_the_same_way() -> None:
    labeller = Labeller(headlines(), 2, 0)
    *shown, last = prompt(labeller)
    assert [turn.role for turn in (*shown, last)] == ["user", "assistant"] * 4 + ["user"]
    (question,) = prompt(Labeller(headlines(), 0, 0))
    assert last == question
    for asked, answered, shot in zip(shown[::2], shown[1::2], labeller.shots, strict=True):
        assert asked.content == question.content.replace("Shares rise.", shot.text)
        assert answered.content == shot.label


def test_so_many_shots_of_each_label_are_drawn_and_mixed() -> None:
    shots = Labeller(headlines(20), 8, 0).shots
    assert Counter(shot.label for shot in shots) == dict.fromkeys(LABELS, 8)
    assert len({shot.id for shot in shots}) == 16
    order = [shot.label for shot in shots]
    assert order != sorted(order) and order != sorted(order, reverse=True)
    # Neither label is always the last one that is shown.
    assert {Labeller(headlines(20), 8, seed).shots[-1].label for seed in range(20)} == set(LABELS)


def test_the_same_draw_gives_the_same_shots_and_another_gives_others() -> None:
    drawn = [[shot.id for shot in Labeller(headlines(20), 4, seed).shots] for seed in (3, 3, 4)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_one_labeller_shows_the_same_shots_before_every_text() -> None:
    labeller = Labeller(headlines(20), 3, 0)
    assert prompt(labeller)[:-1] == prompt(labeller, {"text": "Another."})[:-1]


def test_fewer_seeds_than_shots_are_all_shown() -> None:
    task = headlines(3)
    lacking = replace(task, seeds=tuple(seed for seed in task.seeds if seed.label == "sport"))
    assert sorted(shot.id for shot in Labeller(lacking, 9, 0).shots) == ["sport0", "sport1", "sport2"]
    assert Labeller(headlines(0), 4, 0).shots == []


def test_both_fields_of_a_task_are_shown_under_their_names() -> None:
    task = pairs()
    turns = prompt(Labeller(task, 1, 0), {"text": "It rains.", "hypothesis": "It is wet."})
    assert "\n\ntext:\nIt rains.\n\nhypothesis:\nIt is wet.\n\nWhich label" in turns[-1].content
    assert all(
        "text:\nGold text" in turn.content and "hypothesis:\nGold" in turn.content for turn in turns[:-1:2]
    )
    assert {turn.content for turn in turns[1::2]} == set(task.labels)


def test_the_reply_is_held_to_the_labels_and_drawn_greedily() -> None:
    teacher = Teacher(lambda _: "trade")
    asyncio.run(Labeller(headlines(), 0, 0).label(TEXT, teacher.generate))
    ((_, sampling),) = teacher.asked
    assert sampling.temperature == 0
    assert sampling.structure is not None and sampling.structure.choices == tuple(LABELS)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("trade", "trade"),
        (" Trade.\n", "trade"),
        ('"sport"', "sport"),
        ("The label is sport.", "sport"),
        ("", None),
        ("politics", None),
        ("sport or trade", None),
        ("I cannot say.", None),
        (Reply("sport", "length", 1, 1), "sport"),
        (Reply("", "length", 1, 1), None),
    ],
)
def test_a_reply_names_one_label_or_none(reply: str | Reply, expected: str | None) -> None:
    assert label(Labeller(headlines(), 0, 0), reply) == expected


def test_an_unreadable_reply_is_not_asked_for_again() -> None:
    teacher = Teacher(lambda _: "no idea")
    assert asyncio.run(Labeller(headlines(), 1, 0).label(TEXT, teacher.generate)) is None
    assert len(teacher.asked) == 1


def test_each_text_is_answered_for_itself() -> None:
    def answer(asked: str) -> str:
        return "trade" if "text:\nShares" in asked else "sport"

    labeller, teacher = Labeller(headlines(), 0, 0), Teacher(answer)

    async def both() -> list[str | None]:
        texts = ({"text": "Shares rise."}, {"text": "A goal."})
        return await asyncio.gather(*(labeller.label(fields, teacher.generate) for fields in texts))

    assert asyncio.run(both()) == ["trade", "sport"]


def test_what_goes_wrong_with_the_teacher_is_let_through() -> None:
    async def generate(asked: Prompt, sampling: object) -> Reply:
        raise RunError("the teacher is gone")

    with pytest.raises(RunError, match="the teacher is gone"):
        asyncio.run(Labeller(headlines(), 0, 0).label(TEXT, generate))


def test_odd_labels_and_texts_stand_in_the_prompt_as_they_are() -> None:
    task = headlines(2, ODD)
    fields = {"text": "{{ 7 * 7 }} {% raw %} <b>&amp;"}
    labeller = Labeller(task, 1, 0)
    turns = prompt(labeller, fields)
    assert "text:\n{{ 7 * 7 }} {% raw %} <b>&amp;\n" in turns[-1].content
    for name, phrase in ODD.items():
        assert f"- {name}: {phrase}\n" in turns[-1].content
        assert label(labeller, name, fields) == name


@pytest.mark.parametrize("name", [" sport", "sport "])
def test_a_label_that_no_reply_can_be_is_the_users_mistake(name: str) -> None:
    with pytest.raises(SettingsError, match="reply choices"):
        Labeller(headlines(0, {name: "x", "trade": "y"}), 0, 0)


def test_the_verbalizers_of_a_task_are_what_the_prompt_says() -> None:
    task: Task = headlines(0, {"1": "bad", "2": "good"})
    assert "- 1: bad\n- 2: good\n" in prompt(Labeller(task, 0, 0))[0].content
    assert label(Labeller(task, 0, 0), "2") == "2"

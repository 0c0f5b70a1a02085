"""Incubator's rows to tune on: the very prompts of synthesis, and replies that its method accepts."""

import asyncio
import json
import random
from typing import Any

import pytest

from cluster.errors import RunError, SettingsError
from jobs.dictionaries import Answers, answers, as_jsonl, free_form, questions
from jobs.inventing import Invented, inventions, rewordings
from synth.methods.incubator import FREE_INSTRUCTION, IncubatorSettings
from synth.methods.zerogen import ZeroGenSettings
from synth.prompting import render
from synth.records import Example, Message, Prompt, Reply, Sampling
from synth.task import Task, TaskSettings
from training.incubation.pairs import Pair
from training.incubation.settings import WriterSettings

LABELS = {"good": "praise", "bad": "a complaint", "Other": "anything else"}
TEXTS = {"good": 'He said "fine".', "bad": "Broken {x}\\n.", "Other": "ça va"}
TASK = TaskSettings(name="reviews", instruction="Sort reviews.", text_type="Review", labels=LABELS)
PAIR = Pair(TASK, TEXTS)


def free(**given: Any) -> IncubatorSettings:
    return IncubatorSettings.model_validate({"form": "free", **given})


class Writer:
    """Answers each request with the next of some texts, again and again."""

    def __init__(self, *replies: str) -> None:
        self.replies = replies
        self.asked: list[tuple[str, Sampling]] = []

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Reply:
        assert not isinstance(prompt, str)
        self.asked.append((prompt[-1].content, sampling))
        return Reply(self.replies[(len(self.asked) - 1) % len(self.replies)], "stop", 1, 1)


def test_a_lesson_is_the_prompt_of_synthesis_and_a_reply_that_is_accepted_whole() -> None:
    (question,) = questions(TASK, free())
    turns = question.lesson(TEXTS)["messages"]
    method = free().build(Task(TASK, ()))
    item = next(method.plan({}, 0, {})).build()
    asked: list[Prompt] = []

    async def generate(prompt: Prompt, sampling: Sampling) -> Reply:
        asked.append(prompt)
        return Reply(turns[-1]["content"], "stop", 1, 1)

    outcomes = asyncio.run(method.examples(item, generate))
    assert asked == [(Message("user", turns[0]["content"]),)]
    assert [turn["role"] for turn in turns] == ["user", "assistant"]
    names = ["good", "bad", "Other"]
    assert turns[0]["content"] == render(
        FREE_INSTRUCTION, instruction="Sort reviews.", names=names, others=[]
    )
    assert {str(each.label): each.fields["text"] for each in outcomes if isinstance(each, Example)} == TEXTS
    assert "\n" not in turns[-1]["content"]


def test_raw_prompts_make_rows_of_prompt_and_reply() -> None:
    (question,) = questions(TASK, free(render="raw"))
    row = question.lesson(TEXTS)
    assert row.keys() == {"prompt", "reply"}
    assert json.loads(row["reply"]) == TEXTS
    assert [json.loads(line) for line in as_jsonl([row, row]).splitlines()] == [row, row]


def test_labels_shared_out_over_calls_make_a_lesson_each() -> None:
    labels = {f"l{n}": f"kind {n}" for n in range(5)}
    task = TASK.model_copy(update={"labels": labels})
    asked = questions(task, free(labels_per_call=2))
    assert [each.labels for each in asked] == [("l0",), ("l1", "l2"), ("l3", "l4")]
    lesson = asked[1].lesson({label: f"text of {label}" for label in labels})
    assert json.loads(lesson["messages"][-1]["content"]) == {"l1": "text of l1", "l2": "text of l2"}
    assert "'l0', 'l3', 'l4'" in lesson["messages"][0]["content"]


def test_only_the_bare_instruction_is_tuned_for() -> None:
    assert free_form(free()).form == "free"
    for other in (IncubatorSettings(), ZeroGenSettings()):
        with pytest.raises(SettingsError, match=r"method\.form=free"):
            free_form(other)


def test_answers_are_whole_dictionaries_and_others_have_a_reason() -> None:
    replies = [
        json.dumps(TEXTS),
        json.dumps({"good": "Nice.", "bad": "Awful."}),
        json.dumps({**TEXTS, "more": "x"}),
        json.dumps({**TEXTS, "bad": TEXTS["good"]}),
        "I cannot.",
        "",
    ]
    count = iter(range(100))

    async def generate(prompt: Prompt, sampling: Sampling) -> Reply:
        if (number := next(count)) == len(replies):
            raise RunError("given up")
        return Reply(replies[number], "stop", 1, 1)

    (question,) = questions(TASK, free())
    found = asyncio.run(answers(question, 7, generate))
    assert found.dictionaries == (TEXTS,)
    assert found.refused == {
        "missing_label": 1,
        "other_keys": 1,
        "duplicate_value": 1,
        "unparsed": 1,
        "empty": 1,
        "failed": 1,
    }
    assert found.asked == 7
    assert Answers((), {}).asked == 0


def settings(**given: Any) -> WriterSettings:
    return WriterSettings.model_validate({"teacher": {"backend": "scripted", "model": "x"}, **given})


def test_rewordings_are_read_from_a_list_and_the_own_words_left_out() -> None:
    writer = Writer(
        "Here you go:\n1. Which reviews praise?\n2. Sort reviews.\n3. " + "long " * 200 + "\n4. Praise?"
    )
    found = asyncio.run(rewordings([TASK], settings(rewrite=5), writer.generate))
    assert found == {"reviews": ["Which reviews praise?", "Praise?"]}
    prompt, sampling = writer.asked[0]
    assert all(each in prompt for each in ("Sort reviews.", "- praise", "- anything else"))
    assert (sampling.temperature, sampling.max_tokens) == (1.0, 800)
    assert asyncio.run(rewordings([TASK], settings(rewrite=0), writer.generate)) == {"reviews": []}


def invented(instruction: str = "Tell fish from birds.", **texts: str) -> str:
    examples = [
        {"class": label, "text": text}
        for label, text in (texts or {"fish": "It swam.", "bird": "It flew."}).items()
    ]
    return json.dumps({"instruction": instruction, "text_type": "Note", "examples": examples})


def invent(*replies: str, invent: int | None = None) -> tuple[Invented, Writer]:
    writer = Writer(*replies)
    wanted = settings(invent=invent or len(replies), shown=1)
    return asyncio.run(inventions([PAIR], wanted, 0, writer.generate)), writer


def test_an_invented_task_is_a_pair_like_the_real_ones() -> None:
    found, writer = invent(f"Sure!\n```json\n{invented()}\n```")
    (pair,) = found.pairs
    assert pair.task.instruction == "Tell fish from birds."
    assert pair.texts == {"fish": "It swam.", "bird": "It flew."}
    assert [*pair.task.labels] == [*pair.texts]
    assert questions(pair.task, free())[0].lesson(pair.texts)
    prompt, sampling = writer.asked[0]
    assert json.dumps("Sort reviews.") in prompt and json.dumps(TEXTS["bad"]) in prompt
    assert sampling.structure is not None


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (invented("Sort reviews."), "known"),
        (invented(fish="It swam.", Fish="It flew."), "labels"),
        (invented(fish="It swam.", bird="it swam."), "texts"),
        (invented(fish="It swam.", bird="fish"), "texts"),
        (invented(fish="It swam.", bird=" . "), "empty"),
        ("no idea", "unparsed"),
        (invented(fish="It swam."), "misfit"),
    ],
)
def test_what_is_no_new_task_is_refused_with_a_reason(reply: str, reason: str) -> None:
    found, _ = invent(reply, invent=1)
    assert (found.pairs, found.refused) == ((), {reason: 1})


def test_the_same_task_invented_twice_counts_once() -> None:
    found, _ = invent(invented(), invented(), invented("Another task of it."))
    assert [pair.task.name for pair in found.pairs] == ["invented-1", "invented-2"]
    assert found.refused == {"known": 1}


def test_requests_show_other_pairs_and_the_same_ones_again_in_a_resumed_run() -> None:
    real = [Pair(TASK.model_copy(update={"instruction": f"Sort reviews {n}."}), TEXTS) for n in range(20)]
    wanted = settings(invent=5, shown=2)
    asked = []
    for _ in range(2):
        writer = Writer(invented())
        asyncio.run(inventions(random.Random(0).sample(real, 20), wanted, 7, writer.generate))
        asked.append([prompt for prompt, _ in writer.asked])
    assert asked[0] == asked[1]
    assert len(set(asked[0])) == 5

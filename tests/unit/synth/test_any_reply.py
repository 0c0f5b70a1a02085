"""Every method, whatever its labels are called and whatever the teacher writes: no reply makes one raise."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from cluster.errors import NightshiftError
from jobs.recipe import AnyMethod
from synth.filters.settings import FilterSettings
from synth.filters.sieve import Sieve
from synth.method import Method, MethodSettings, Sources
from synth.prompting import as_text
from synth.records import Author, Example, Item, Prompt, Rejection, Reply, Sampling, Structure
from synth.rows import as_batch, ledger_schema, settled_rows
from synth.task import Gold, Task, TaskSettings
from tests.unit.synth.method_desk import Teacher, planned, prepared, worked

ODD = (
    'say "hi"',
    "{brace} {{ jinja }} {% x %}",
    "a#b: c",
    "naïve – ü",
    "日本語",
    "two\nlines",
    "50%",
    "' or '",
    "\\",
)
MANY = tuple(f"class {number}" for number in range(80))
GIVEN = dict.fromkeys(("zerogen", "progen", "sungen"), "condition_field") | {"s3": "context_field"}
"""Methods that take one of two fields from the seeds, and the setting that names it."""
WRITES_PAIRS = ("icl", "targen", *GIVEN)
"""Methods that can write examples of two fields."""
SAMPLES = (
    "I am sorry, but as a language model I cannot write that.",
    "Sure! Here is your text:\n\nShares fell on Monday after a weak report from the largest bank.",
    '{"text": "Half an object',
    "1. one\n2. two\n3. three\n\n1) uno\n2) due\n\n- a\n- b\n\n* x\n\n1. again\n2. and again",
    "Der Verein gewann am Samstag das Spiel.\n\n这是一个句子。",
    '"A quoted line with more than ten words in it, to be long enough here." And then more.',
    '{"explanation": NaN, "text": "x", "label": "no such label"}',
    "[" * 400,
    '{"a": {"b": ' * 60,
    '{"text": "\\ud800"}',
    "\x00\x1b[31m",
    "",
    "PROMPT",
    "FITS",
    "FITS HALF",
)


def task_of(labels: Sequence[str], pairs: bool = False) -> Task:
    fields = {"text": "a passage", "claim": "a claim about it"} if pairs else {"text": "a message"}
    named = {label: f"what is {label}" for label in labels}
    told = TaskSettings.model_validate(
        {"name": "t", "instruction": "Which?", "labels": named, "fields": fields}
    )
    seeds = [
        Gold(f"{place}-{n}", {name: f"Gold {name} number {n} of {label}." for name in fields}, label)
        for place, label in enumerate(labels)
        for n in range(6)
    ]
    return Task(told, tuple(seeds))


@dataclass(frozen=True)
class Document:
    id: str
    text: str
    title: str = ""


@dataclass(frozen=True)
class Hit:
    document: Document
    rank: int
    score: float


async def retrieve(queries: Sequence[str], top: int) -> list[list[Hit]]:
    return [
        [
            Hit(Document(f"d{q}-{rank}", f"Document {q} {rank} is{' long' * 30}."), rank, 0.6)
            for rank in range(1, 6)
        ]
        for q, _ in enumerate(queries)
    ]


def fitting(structure: Structure, number: int) -> str:
    """Return a reply of the form that was asked for."""
    if structure.json_schema is None:
        return structure.choices[number % len(structure.choices)]
    return json.dumps(_filled(json.loads(structure.json_schema), number), ensure_ascii=False)


def _filled(schema: Any, number: int) -> Any:
    if "enum" in schema:
        return schema["enum"][number % len(schema["enum"])]
    match schema.get("type"):
        case "object":
            return {
                name: _filled(each, number + place)
                for place, (name, each) in enumerate(schema["properties"].items())
            }
        case "array":
            return [_filled(schema["items"], number + n) for n in range(max(2, schema.get("minItems", 0)))]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return bool(number % 2)
    if schema.get("maxLength", 100) < 100:
        return f"thing {number}"
    return f"A fine day number {number} in the old town by the sea, said the mayor."


class Helpful(Teacher):
    """Answers in the form asked for, and otherwise with a list that is also a text."""

    def __init__(self) -> None:
        super().__init__(lambda prompt: "")
        self.numbers = count()

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Reply:
        await super().generate(prompt, sampling)
        number = next(self.numbers)
        if sampling.structure is not None:
            return Reply(fitting(sampling.structure, number), "stop", 1, 1)
        lines = (f"{n}. Thing {number} {n} of the town that people like to talk about" for n in range(1, 6))
        return Reply("\n".join(lines), "stop", 1, 1)


class Unruly(Teacher):
    """Answers with what it is given, in turn."""

    def __init__(self, replies: Sequence[tuple[str, str]]) -> None:
        super().__init__(lambda prompt: "")
        self.replies, self.numbers = replies, count()

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Reply:
        await super().generate(prompt, sampling)
        number = next(self.numbers)
        text, reason = self.replies[number % len(self.replies)]
        fits = fitting(sampling.structure, number) if sampling.structure else "A plain text."
        for mark, stands_for in (
            ("FITS HALF", fits[: len(fits) // 2]),
            ("FITS", fits),
            ("PROMPT", as_text(prompt)),
        ):
            text = text.replace(mark, stands_for)
        return Reply(text, reason, 1, 1)


CASES: list[dict[str, Any]] = [
    {"name": "attrprompt"},
    {"name": "fewgen", "shots": 2},
    *(
        {"name": "icl", "variant": v}
        for v in ("zero_shot", "zero_shot_topic", "one_shot", "few_shot_3", "few_shot_5")
    ),
    {"name": "incubator"},
    {"name": "incubator", "form": "free"},
    {"name": "rephrase", "terms": ["number"]},
    {"name": "simprompt"},
    *({"name": "synthesizrr", "variant": v} for v in ("retricl", "non_retricl", "zero_shot")),
    {"name": "synthesizrr", "bootstrap": 9},
    {"name": "targen"},
    {"name": "zerogen"},
    {"name": "progen"},
    {"name": "sungen"},
    {"name": "s3", "look_at": "seeds"},
]
METHODS: TypeAdapter[MethodSettings] = TypeAdapter(AnyMethod)


def build(case: dict[str, Any], task: Task, folder: Path) -> Method:
    given = dict(case)
    if case["name"] == "rephrase":
        rows = [{**seed.fields, "label": seed.label} for seed in task.seeds]
        given["rows"] = folder / "rows.jsonl"
        given["rows"].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return METHODS.validate_python(given).build(task)


def check(task: Task, item: Item, outcomes: list[Example | Rejection]) -> None:
    """What came out of an item can be judged by the filters and settles it in the ledger."""
    assert outcomes
    for each in outcomes:
        assert each.label in task.labels
        if isinstance(each, Example):
            assert tuple(each.fields) == task.settings.fields or set(each.fields) == set(task.settings.fields)
        else:
            assert each.reason
    sifted = Sieve(FilterSettings(), task, ()).sift(item, outcomes)
    rows = settled_rows(item, sifted, [], Author("m", "t", "r"), "text")
    _, settled, refused = as_batch([(item.id, rows)], ledger_schema(task.settings.fields))
    assert (settled, refused) == ((item.id,), [])


def named(case: dict[str, Any]) -> str:
    return "-".join(str(value) for key, value in case.items() if key != "terms")


def sources_of(method: Method) -> Sources:
    return prepared(method, Helpful(), retrieve)


def test_every_method_is_here() -> None:
    known = {each.model_fields["name"].default for each in _leaves(MethodSettings)}
    assert {case["name"] for case in CASES} == {name for name in known if name in _shipped()}


def _leaves(base: type[MethodSettings]) -> list[type[MethodSettings]]:
    return [leaf for each in base.__subclasses__() for leaf in (_leaves(each) or [each])]


def _shipped() -> set[str]:
    return {
        str(each.model_fields["name"].default)
        for each in _leaves(MethodSettings)
        if each.__module__.startswith("synth.methods.") and each.asks_teacher
    }


@pytest.mark.parametrize("labels", [ODD, MANY], ids=["odd", "many"])
@pytest.mark.parametrize("case", CASES, ids=named)
def test_labels_of_any_name_and_number_are_written_for(
    case: dict[str, Any], labels: tuple[str, ...], tmp_path: Path
) -> None:
    task = task_of(labels)
    method = build(case, task, tmp_path)
    sources = sources_of(method)
    accepted, teacher = set(), Helpful()
    for item in planned(method, len(labels) + 10, sources):
        outcomes = worked(method, item, teacher)
        check(task, item, outcomes)
        accepted |= {each.label for each in outcomes if isinstance(each, Example)}
    # In the free form a teacher was tuned to answer with a dictionary; this one was not.
    assert len(accepted) > 1 or case.get("form") == "free"


reasons = st.sampled_from(["stop", "length"])
samples = st.sampled_from(SAMPLES)
cut = st.builds(lambda text, a, b: text[a:] + text[:b], samples, st.integers(0, 60), st.integers(0, 60))
joined = st.builds("{}{}{}".format, samples, st.text(max_size=8), samples)
replies = st.lists(
    st.tuples(st.one_of(samples, cut, joined, st.text(max_size=80)), reasons), min_size=1, max_size=5
)


def bear_any_reply(method: Method, task: Task) -> None:
    """Work items with replies of every kind; what comes out settles them."""
    items = planned(method, 12, sources_of(method))

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(replies=replies, number=st.integers(0, len(items) - 1))
    def bears(replies: list[tuple[str, str]], number: int) -> None:
        check(task, items[number], worked(method, items[number], Unruly(replies)))

    bears()


@pytest.mark.parametrize("case", CASES, ids=named)
def test_no_reply_makes_a_method_raise(case: dict[str, Any], tmp_path: Path) -> None:
    task = task_of(ODD)
    bear_any_reply(build(case, task, tmp_path), task)


@pytest.mark.parametrize("case", [c for c in CASES if c["name"] in WRITES_PAIRS], ids=named)
def test_no_reply_makes_a_method_raise_that_writes_pairs(case: dict[str, Any], tmp_path: Path) -> None:
    task = task_of(ODD[:3], pairs=True)
    more = {GIVEN[case["name"]]: "text"} if case["name"] in GIVEN else {}
    bear_any_reply(build(case | more, task, tmp_path), task)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_no_reply_makes_preparing_end_in_anything_but_a_message(case: dict[str, Any], tmp_path: Path) -> None:
    method = build(case, task_of(ODD[:3]), tmp_path)

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(replies=replies)
    def bears(replies: list[tuple[str, str]]) -> None:
        try:
            sources = prepared(method, Unruly(replies), retrieve)
        except NightshiftError as error:
            assert str(error)
        else:
            assert planned(method, 3, sources)

    bears()

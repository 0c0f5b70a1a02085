"""ZeroGen: sample conditions, then texts that an open quotation mark after label and condition asks for.

2202.07922, with the steps and constants of its published code; self-debiasing where the backend can do it.
"""

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Literal, NamedTuple

import pyarrow as pa
from pydantic import Field, model_validator

from cluster.errors import RunError
from cluster.settings import digest
from retrieval.reading.sentences import SENTENCE_END
from synth.fields import written_field
from synth.method import (
    Feedback,
    Generate,
    Method,
    MethodSettings,
    SamplingSettings,
    Slot,
    Sources,
    Tools,
)
from synth.prompting import chat, render, task_values
from synth.records import Against, Example, Item, Prompt, Rejection, Reply, Sampling, make_item
from synth.task import Task

REQUEST = """\
{% if condition %}{{ condition_type[:1] | upper }}{{ condition_type[1:] }}: "{{ condition }}"
{% endif %}{{ kind[:1] | upper }}{{ kind[1:] }}\
{% if pair %} ({{ verbalizer }}){% else %} about {{ verbalizer }}\
{% if length or style %} ({{ [length, style] | select | join("; ") }}){% endif %}{% endif %}"""

CONDITION = "{{ condition_type[:1] | upper }}{{ condition_type[1:] }}"

ANSWER_ALONE = "Write the text that belongs after the last colon, and nothing else.\n\n"

AT_ONCE = 20_000
"""Conditions asked for at the same time: more than the seats of any fleet, less than fill the memory."""


class ZeroGenSampling(SamplingSettings):
    """How ZeroGen samples."""

    temperature: float = Field(1.0, ge=0, le=5)
    """1 in the published code, with top_p 0.9."""
    max_tokens: int = Field(40, ge=1)
    """Reply tokens; the published code forces 40 and cuts the text later."""


class AsZeroGen(MethodSettings):
    """Settings of the methods whose texts ZeroGen writes."""

    for_more = "raise method.conditions or method.samples, add seeds where conditions are taken from them"

    condition: str | None = Field(None, min_length=1)
    """What a condition is, such as `movie title`; the teacher makes some up first. Without it, and without
    condition_field, texts are asked for by their label alone."""
    condition_field: str | None = None
    """Field that is taken from the seeds, whatever their label, for tasks of two fields: the premise (NLI) or
    the passage (QNLI). The teacher writes the other one."""
    conditions: int = Field(1000, ge=1)
    """Conditions asked for; the script says 800,000. Each serves `samples` items of every label."""
    condition_tokens: int = Field(10, ge=1)
    """Tokens of a condition at most (published code)."""
    samples: int = Field(32, ge=1)
    """Texts of each label for a condition (published code)."""
    min_words: int = Field(10, ge=1)
    """Fewest words of a text (published code)."""
    question: bool = False
    """Texts are questions: one ends with its first question mark or is rejected (published code, QNLI)."""
    self_debiasing: bool = False
    """Keep off from what the prompts of the other labels would write as well; on for NLI in the paper."""
    decay: float = Field(200, gt=0, allow_inf_nan=False)
    """Lambda of self-debiasing: how fast what fits other labels better becomes unlikely (published code)."""
    floor: float = Field(0.01, gt=0, le=1)
    """Epsilon of self-debiasing: the least factor of a probability (published code)."""
    sampling: ZeroGenSampling = ZeroGenSampling()
    """How the teacher samples texts; conditions are drawn with temperature 1 and top_p 0.9."""
    request: str = REQUEST
    """Jinja template; may name kind, verbalizer, condition, condition_type, pair, length, style."""

    @model_validator(mode="after")
    def _fits(self) -> "AsZeroGen":
        if self.condition is not None and self.condition_field is not None:
            raise ValueError("condition: give this or condition_field, not both")
        if self.self_debiasing and self.render == "chat":
            raise ValueError("self_debiasing: works on raw prompts; set render to raw, or turn it off")
        return self

    def wants_seeds(self) -> bool:
        return self.condition_field is not None

    def needs(self) -> frozenset[str]:
        return frozenset({"self-debiasing"}) if self.self_debiasing else frozenset()


class ZeroGenSettings(AsZeroGen):
    """ZeroGen. `published_code` asks for as many conditions as its script does."""

    presets = {"published_code": {"conditions": 800_000}}

    name: Literal["zerogen"] = "zerogen"

    def build(self, task: Task) -> Method:
        return ZeroGen(self, task)


class Ground(NamedTuple):
    """What a text is written for; a seed id where it comes from a seed."""

    condition: str | None
    seed_id: str | None


class ZeroGen(Method):
    """Plans `samples` items per condition and label, labels in turn; without conditions it has no end."""

    def __init__(self, settings: AsZeroGen, task: Task) -> None:
        super().__init__(settings, task)
        self.settings = settings
        self._field = written_field(task, settings.condition_field, "condition_field")
        given = settings.condition_field
        self._condition_type = task.settings.what(given) if given else settings.condition or ""
        quote = ('"',) if settings.render == "raw" else ()
        self._sampling = replace(self.sampling, stop=(*quote, *settings.stop))
        self._condition_sampling = Sampling(1.0, 0.9, settings.condition_tokens, quote)
        for label in task.labels:
            # A template that fails has to fail here, not in every item of the night.
            self.prompt(label, "condition" if self._condition_type else None)

    async def prepare(self, tools: Tools) -> Sources:
        settings = self.settings
        if settings.condition_field is not None:
            seeds = [Ground(seed.fields[settings.condition_field], seed.id) for seed in self.task.seeds]
            return _tables(seeds, len(seeds))
        if settings.condition is None:
            return {}
        replies = await self._drawn(tools.generate)
        read = [text for reply in replies if (text := _condition(reply, settings.render)) is not None]
        if not read:
            raise RunError(
                f"method.condition: stage conditions: none of {len(replies)} replies holds a "
                f"{settings.condition}; the teacher wrote {replies[0].text[:200]!r}; say in a word or two "
                "what a condition is, raise method.condition_tokens, or take a larger teacher"
            )
        return _tables([Ground(text, None) for text in read], len(replies))

    async def _drawn(self, generate: Generate) -> list[Reply]:
        """Return a reply for each condition asked for, in order of asking."""
        prompt = self._open(render(CONDITION, condition_type=self._condition_type))
        replies: dict[int, Reply] = {}
        numbers = iter(range(self.settings.conditions))

        async def work() -> None:
            for number in numbers:
                replies[number] = await generate(prompt, self._condition_sampling)

        await asyncio.gather(*(work() for _ in range(min(AT_ONCE, self.settings.conditions))))
        return [replies[number] for number in sorted(replies)]

    def plan(self, sources: Sources, round: int, feedback: Feedback) -> Iterator[Slot]:
        grounds, position = _grounds(sources), count()
        labels = [(label,) for label in self.task.labels]
        for draw in count() if self.capacity(sources) is None else range(self.settings.samples):
            if len(grounds) > 1:
                # Rows of a label go through all conditions before one comes again.
                random.Random(digest([self.plan_key, round, draw])).shuffle(grounds)
            for ground in grounds:
                for label in labels:
                    place = next(position)
                    yield Slot(place, label, partial(self._item, round, place, label, draw, ground))

    def _item(self, round: int, position: int, labels: tuple[str, ...], draw: int, ground: Ground) -> Item:
        given = {} if ground.condition is None else {"condition": ground.condition}
        return make_item(
            self.plan_key, round, position, labels, draw=draw, seed_id=ground.seed_id, attributes=given
        )

    def capacity(self, sources: Sources) -> Mapping[str, int] | None:
        if "conditions" not in sources:
            return None
        return dict.fromkeys(self.task.labels, sources["conditions"].num_rows * self.settings.samples)

    async def examples(self, item: Item, generate: Generate) -> list[Example | Rejection]:
        label, condition = item.labels[0], item.attributes.get("condition")
        sampling = replace(self._sampling, against=self._against(label, condition))
        reply = await generate(self.prompt(label, condition), sampling)
        text, reason = self._read(reply)
        if reason is None and _same(text, condition or ""):
            reason = "repeats_condition"
        if reason is not None:
            return [Rejection(reason, text, label)]
        fields = {self._field: text}
        if self.settings.condition_field is not None:
            fields[self.settings.condition_field] = condition or ""
        return [Example({name: fields[name] for name in self.task.settings.fields}, label)]

    def prompt(self, label: str, condition: str | None) -> Prompt:
        """Return the prompt of a label and a condition; a raw one ends with an open quotation mark."""
        values = dict(task_values(self.task.settings, self.task.verbalizer(label)))
        values |= {"kind": self.task.settings.what(self._field), "pair": len(self.task.settings.fields) > 1}
        values |= {"condition": condition, "condition_type": self._condition_type}
        return self._open(render(self.settings.request, **values))

    def _open(self, request: str) -> Prompt:
        return f'{request}: "' if self.settings.render == "raw" else chat([], f"{ANSWER_ALONE}{request}:")

    def _against(self, label: str, condition: str | None) -> Against | None:
        if not self.settings.self_debiasing:
            return None
        prompts = [self.prompt(other, condition) for other in self.task.labels if other != label]
        raw = tuple(prompt for prompt in prompts if isinstance(prompt, str))
        return Against(raw, self.settings.decay, self.settings.floor)

    def _read(self, reply: Reply) -> tuple[str, str | None]:
        """Return the text in a reply, and the reason that speaks against it.

        A text ends at the first quotation mark, else at the first line end, else where the reply ended by
        itself. One that the length limit cut off goes back to its last sentence end: the published code
        always forces the full length and cuts in this way.
        """
        text, whole = _closed(reply, self.settings.render)
        if self.settings.question:
            head, mark, _ = text.partition("?")
            text, reason = head + mark, None if mark else "no_question"
        else:
            ends = [] if whole else [match.end() for match in SENTENCE_END.finditer(text)]
            reason = None if whole or ends else "cut_off"
            text = text[: ends[-1]] if ends else text
        if reason is None and len(text.split()) < self.settings.min_words:
            reason = "few_words" if text else "empty"
        return text, reason


def _closed(reply: Reply, rendered: str) -> tuple[str, bool]:
    """Return a reply's text up to where it was closed, and whether it was."""
    text, whole = reply.text.strip(), reply.finish_reason != "length"
    if rendered == "chat":
        inner = text[1:].rstrip('"”')
        # Quotation marks around the whole, the closing one perhaps cut off.
        quoted = text[:1] in ('"', "“") and not {'"', "“", "”"} & set(inner)
        return (inner if quoted else text).strip(), whole
    for mark in ('"', "\n"):
        head, found, _ = text.partition(mark)
        if found:
            return head.strip(), True
    return text, whole


def _condition(reply: Reply, rendered: str) -> str | None:
    """Return the condition in a reply, one line; None when it is not closed or holds no word."""
    text, whole = _closed(reply, rendered)
    line, ended, _ = text.partition("\n")
    told = " ".join(line.split()).encode("utf-8", "ignore").decode()
    return told if (whole or ended) and any(map(str.isalnum, told)) else None


def _same(text: str, other: str) -> bool:
    return text.casefold().split() == other.casefold().split()


def _tables(read: Sequence[Ground], asked: int) -> Sources:
    """Return what was prepared, each condition once, and what it came from."""
    once: dict[str, Ground] = {}
    for ground in read:
        once.setdefault(ground.condition or "", ground)
    texts = pa.schema([("condition", pa.string()), ("seed_id", pa.string())])
    stages = [("conditions", asked, len(read)), ("distinct conditions", len(read), len(once))]
    rows = [{"stage": stage, "asked": given, "got": got} for stage, given, got in stages]
    return {
        "conditions": pa.Table.from_pylist([ground._asdict() for ground in once.values()], schema=texts),
        "stages": pa.Table.from_pylist(rows),
    }


def _grounds(sources: Sources) -> list[Ground]:
    if "conditions" not in sources:
        return [Ground(None, None)]
    columns = (sources["conditions"][name].to_pylist() for name in Ground._fields)
    return [Ground(*row) for row in zip(*columns, strict=True)]

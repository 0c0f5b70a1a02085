"""The five in-context variants of a study (2407.12813): describe a label, and ask for an example of it.

zero_shot gives the description alone; zero_shot_topic adds a topic, drawn for each prompt from a list that
the teacher writes once; one_shot, few_shot_3 and few_shot_5 show gold examples of the label, drawn anew for
each prompt, and ask for a similar one. FewGen shows its gold texts as answers to the very request, for the
teacher to continue; here they are part of one instruction to write a similar example, and an example may have
several fields. Only then is the task's own instruction shown: small teachers discuss it instead of writing.
"""

import asyncio
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, islice
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from cluster.errors import RunError, SettingsError
from cluster.settings import digest
from synth.fields import described, fields_structure, shown
from synth.listing import numbered
from synth.method import Feedback, Generate, Method, MethodSettings, Slot, Sources, Tools
from synth.prompting import chat, read_reply, render, stops, task_values
from synth.records import Example, Item, Prompt, Rejection, Shot, make_item
from synth.structured import RETRY_TEMPERATURE, Unparsed, ask
from synth.task import Task

SHOTS = {"zero_shot": 0, "zero_shot_topic": 0, "one_shot": 1, "few_shot_3": 3, "few_shot_5": 5}

REQUEST = """\
{% if parts %}We need an example for a text classification task: {{ instruction }}
It has these parts:
{{ parts }}

{% endif %}{% if shots %}{{ "This" if shots | length == 1 else "Each of these" }} is a real {{ noun }} \
that fits this description: {{ verbalizer }}.
{% for shot in shots %}
{{ shot }}
{% endfor %}
Write one more {{ noun }} that fits it, similar in kind and style, but about something else.\
{% else %}Write one {{ noun }} that fits this description: {{ verbalizer }}.\
{% endif %}{% if topic %} Its topic: {{ topic }}.{% endif %}\
{% if length %} Length: {{ length }}.{% endif %}{% if style %} Style: {{ style }}.{% endif %}"""

TOPICS = """\
List {{ topics }} different topics that {{ text_type | lower | article }} can be about\
{% if verbalizer %} if it fits this description: {{ verbalizer }}.{% else %}. \
They serve a classification task: {{ instruction }}
Choose topics that go with every answer to it.{% endif %}
Write a numbered list with one topic of a few words on each line, and nothing else."""

LISTINGS = 3
"""Times a list of topics is asked for, at most, while less than half of it is there."""
TOPIC_TOKENS = 16
"""Reply tokens for each topic of a list, number and line break included."""
TOPIC_LETTERS = 120
"""A longer line of a list is no topic."""


class ICLSettings(MethodSettings):
    """The in-context variants. The study names neither its prompts nor its sampling."""

    name: Literal["icl"] = "icl"
    variant: Literal["zero_shot", "zero_shot_topic", "one_shot", "few_shot_3", "few_shot_5"] = (
        "zero_shot_topic"
    )
    """What a prompt shows beside the description; topics gave the most diverse rows (2407.12813). The last
    three need seeds, of which the study had 100 for each task."""
    topics: int = Field(50, ge=2, le=500)
    """Topics in a list (zero_shot_topic); ours."""
    topics_for: Literal["task", "label"] = "task"
    """One list for the whole task, as in the study, or one for each label: better where labels are topics
    themselves, as a topic of the one would make a text of the other."""
    render: Literal["raw", "chat"] = "chat"
    """`chat`: the model's chat template, as the study's teacher has one; `raw`: a plain continuation."""
    request: str = REQUEST
    """Jinja template of the request; may name instruction, noun (what is to be written), verbalizer, label,
    parts, shots, topic, text_type, length, style."""
    topic_request: str = TOPICS
    """Jinja template of the request for topics; may name topics, instruction, verbalizer, text_type."""

    def wants_seeds(self) -> bool:
        return SHOTS[self.variant] > 0

    def build(self, task: Task) -> Method:
        return ICL(self, task)


@dataclass(frozen=True, slots=True)
class Listed:
    """The topics of a list, the calls that asked for it, those that gave some, and the last reply."""

    topics: tuple[str, ...]
    asked: int
    got: int
    text: str


class ICL(Method):
    """Plans one item per draw, labels in turn, without end; one call each."""

    def __init__(self, settings: ICLSettings, task: Task) -> None:
        super().__init__(settings, task)
        self.settings, self._rng, self._count = settings, random.Random(), SHOTS[settings.variant]
        self._whole = task.settings.fields == ("text",)
        self._structure = None if self._whole else fields_structure(task)
        # A chat may head its one text with what it is; in a continuation the header begins another.
        headers = stops(task.settings.text_type) if settings.render == "raw" and self._whole else ()
        self.sampling = replace(self.sampling, stop=headers + settings.stop)
        self.shots_of = {
            label: [Shot(s.id, shown(s.fields) if self._structure else s.text) for s in task.seeds_of(label)]
            for label in task.labels
        }
        for label, shots in self.shots_of.items():
            # A template that fails has to fail here, not in every item of the night.
            self._request(label, shots[: self._count], "any")
            self.topic_prompt(label)
            if len(shots) < self._count:
                raise SettingsError(
                    f"method.variant: {settings.variant} shows {self._count} seeds of a label, label {label} "
                    f"has {len(shots)}; add seeds or take another variant"
                )

    async def prepare(self, tools: Tools) -> Sources:
        if self.settings.variant != "zero_shot_topic":
            return {}
        labels = self.task.labels if self.settings.topics_for == "label" else (None,)
        lists = await asyncio.gather(*(self._listed(tools.generate, label) for label in labels))
        rows = [(label, topic) for label, read in zip(labels, lists, strict=True) for topic in read.topics]
        if not rows:
            raise RunError(
                "prepare, topics: no list of topics could be read; the teacher wrote: "
                f"{lists[0].text[:200]!r}; take a larger teacher, or variant zero_shot"
            )
        asked, got = sum(read.asked for read in lists), sum(read.got for read in lists)
        return {
            "topics": pa.table(
                {
                    "label": pa.array([label for label, _ in rows], pa.string()),
                    "topic": pa.array([topic for _, topic in rows], pa.string()),
                }
            ),
            "stages": pa.table({"stage": ["topics"], "asked": [asked], "got": [got]}),
        }

    async def _listed(self, generate: Generate, label: str | None) -> Listed:
        wanted, prompt = self.settings.topics, self.topic_prompt(label)
        tokens = max(self.sampling.max_tokens, TOPIC_TOKENS * wanted)
        sampling = replace(self.sampling, max_tokens=tokens, stop=())
        found: dict[str, str] = {}
        asked = got = 0
        while asked < LISTINGS and 2 * len(found) < wanted:
            reply = await generate(prompt, sampling)
            read = numbered(reply.text, wanted, whole=reply.finish_reason != "length")
            topics = [topic for topic in read if len(topic) <= TOPIC_LETTERS]
            asked, got = asked + 1, got + bool(topics)
            for topic in topics:
                found.setdefault(topic.casefold(), topic)
            # A greedy teacher would write the same list again.
            sampling = replace(sampling, temperature=sampling.temperature or RETRY_TEMPERATURE)
        return Listed(tuple(islice(found.values(), wanted)), asked, got, reply.text)

    def plan(self, sources: Sources, round: int, feedback: Feedback) -> Iterator[Slot]:
        lists = _topics_of(sources)
        labels = [((label,), lists.get(label, lists.get(None, []))) for label in self.task.labels]
        position = count()
        for draw in count():
            for label, topics in labels:
                place = next(position)
                yield Slot(place, label, partial(self._item, round, place, label, draw, topics))

    def _item(
        self, round: int, position: int, labels: tuple[str, ...], draw: int, topics: Sequence[str]
    ) -> Item:
        self._rng.seed(digest([self.plan_key, round, labels[0], draw]))
        shots = tuple(self._rng.sample(self.shots_of[labels[0]], self._count))
        # A label whose own list could not be read is asked for without a topic.
        drawn = {"topic": self._rng.choice(topics)} if topics else None
        return make_item(self.plan_key, round, position, labels, draw=draw, shots=shots, attributes=drawn)

    async def examples(self, item: Item, generate: Generate) -> list[Example | Rejection]:
        prompt, label = self.prompt(item), item.labels[0]
        if self._structure is None:
            reply = await generate(prompt, self.sampling)
            return read_reply(reply, label, [self.task.settings.text_type])
        # One attempt: the next item asks for the label again, with another topic or other shots.
        answer = await ask(generate, prompt, self.sampling, self._structure, attempts=1)
        if isinstance(answer.value, Unparsed):
            return [Rejection(answer.value.reason, answer.value.text, label)]
        fields = {name: str(answer.value[name]).strip() for name in self.task.settings.fields}
        if not all(fields.values()):
            return [Rejection("empty", answer.reply.text, label)]
        return [Example(fields, label)]

    def prompt(self, item: Item) -> Prompt:
        """Return the prompt of an item."""
        request = self._request(item.labels[0], item.shots, item.attributes.get("topic"))
        header = self.task.settings.text_type
        if self._whole:
            form, cue = f"Answer with the {header.lower()} alone: no heading, no label, no comment.", header
        else:
            keys = json.dumps(dict.fromkeys(self.task.settings.fields, "..."), ensure_ascii=False)
            form, cue = f"Answer with a JSON object and nothing else: {keys}", "JSON"
        request = f"{request}\n{form}"
        return f"{request}\n\n{cue}:" if self.settings.render == "raw" else chat([], request)

    def _request(self, label: str, shots: Sequence[Shot], topic: str | None) -> str:
        header = self.task.settings.text_type
        more: dict[str, Any] = {
            "label": label,
            "noun": header.lower() if self._whole else "example",
            "parts": "" if self._whole else described(self.task),
            "shots": [f"{header}: {shot.text}" if self._whole else shot.text for shot in shots],
            "topic": topic,
        }
        values = task_values(self.task.settings, self.task.verbalizer(label))
        return render(self.settings.request, **values, **more)

    def topic_prompt(self, label: str | None) -> Prompt:
        """Return the prompt for a list of topics: of one label, or of the task as a whole."""
        values = task_values(self.task.settings, self.task.verbalizer(label) if label is not None else "")
        request = render(self.settings.topic_request, topics=self.settings.topics, **values)
        return f"{request}\n\n1." if self.settings.render == "raw" else chat([], request)


def _topics_of(sources: Sources) -> dict[str | None, list[str]]:
    """Return the topics of each label; those of the whole task are under None."""
    lists: dict[str | None, list[str]] = {}
    for row in sources["topics"].to_pylist() if "topics" in sources else ():
        lists.setdefault(row["label"], []).append(row["topic"])
    return lists

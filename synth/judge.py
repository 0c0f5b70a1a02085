"""A judge: a second look at every text that the filters let through, by the teacher or by another model.

`relabel` asks which label a text has, as TarGEN does in its last step, self-correction; `score` asks how good
it is as an example of its label, with a reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from cluster.registry import one_of
from cluster.settings import Settings
from synth.method import Generate
from synth.prompting import render, task_values
from synth.records import Example, Message, Prompt, Rejection, Sampling
from synth.structured import Unparsed, ask, choice_structure, json_structure
from synth.task import Task
from synth.teacher import TeacherSettings

if TYPE_CHECKING:
    AnyTeacher = TeacherSettings
else:
    AnyTeacher = one_of(TeacherSettings, "synth.teachers", "backend")

RELABEL = """\
{{ instruction }}

The labels:
{% for name, phrase in labels.items() %}- {{ name }}: {{ phrase }}
{% endfor %}
{% for name, text in fields.items() %}{{ name }}:
{{ text }}

{% endfor %}Which label fits best? Answer with the name of one label and nothing else."""

SCORE = """\
{{ instruction }}

Someone wrote this {{ text_type }} as an example of the label {{ label }} ({{ verbalizer }}):

{% for name, text in fields.items() %}{{ name }}:
{{ text }}

{% endfor %}How good an example is it? {{ criteria }}
Give whole points from 1 (useless) to {{ points }} (perfect), and before them, in one sentence, why.
Answer as JSON: {"why": "...", "points": 1}"""

CRITERIA = (
    "It should belong to its label and to no other one, read as if a person had written it, be complete, and "
    "hold nothing but the text itself."
)
_OF_REPLICAS = {"replicas", "in_flight", "num_cpus", "num_gpus", "item_timeout", "hang_timeout"}
"""Settings of a teacher that concern its replicas."""
WHY_LETTERS = 400
"""Longest reason that is kept."""


class JudgeSettings(Settings):
    """Who judges, what is asked, and what follows from the answer."""

    ask: Literal["relabel", "score"] = "relabel"
    """`relabel`: which label has the text? `score`: how good an example of its label is it?"""
    then: Literal["reject", "replace", "record"] = "reject"
    """What becomes of a row that the judge disagrees with: it is rejected, gets the judge's label (relabel
    only), or stays as it is. What the judge said stands beside the row in any case."""
    teacher: AnyTeacher | None = None
    """The model that judges, loaded in every replica beside the teacher; without it, the teacher itself."""
    criteria: str = CRITERIA
    """What a good example is, in words of the prompt (score)."""
    points: int = Field(5, ge=2, le=10)
    """Highest score."""
    least: int = Field(3, ge=1, le=10)
    """The judge disagrees with a row that gets fewer points."""
    attempts: int = Field(3, ge=1, le=10)
    """Replies asked for until one can be read."""
    max_tokens: int = Field(200, ge=8)
    """Tokens of a verdict."""
    render: Literal["chat", "raw"] = "chat"
    """`chat`: the model's chat template; `raw`: a plain continuation, for models without one."""

    @model_validator(mode="after")
    def _fits(self) -> "JudgeSettings":
        unread = sorted(_OF_REPLICAS & self.teacher.model_fields_set) if self.teacher else []
        if unread:
            raise ValueError(
                f"teacher: {', '.join(unread)}: a judge is loaded in the teacher's replicas; set it there"
            )
        if self.then == "replace" and self.ask != "relabel":
            raise ValueError("then: replace goes with ask: relabel; a score names no other label")
        if self.ask == "score" and self.least > self.points:
            raise ValueError(f"least: {self.least} is more than points, {self.points}: every row would fail")
        return self

    def resolve(self) -> "JudgeSettings":
        """Return the settings with the backend that will really run."""
        return self.model_copy(update={"teacher": self.teacher.resolve()}) if self.teacher else self

    def identity(self) -> dict[str, Any]:
        """What of the judge determines which rows are accepted, and with which label."""
        shown = self.model_dump(mode="json", exclude={"teacher"})
        return shown | {"teacher": self.teacher.identity() if self.teacher else None}


class Judge:
    """Asks about examples and acts on the answers."""

    def __init__(self, settings: JudgeSettings, task: Task) -> None:
        self._settings = settings
        self._task = task
        self._sampling = Sampling(temperature=0.0, top_p=1.0, max_tokens=settings.max_tokens)
        self._labels = choice_structure(task.labels)
        self._points = json_structure(_schema(settings.points))

    async def review(
        self, outcomes: Sequence[Example | Rejection], generate: Generate
    ) -> list[Example | Rejection]:
        """Return outcomes in their order, the examples among them judged."""
        return [
            await self._judged(outcome, generate) if isinstance(outcome, Example) else outcome
            for outcome in outcomes
        ]

    async def _judged(self, example: Example, generate: Generate) -> Example | Rejection:
        if isinstance(example.label, tuple):
            # Neither question is about several labels at once.
            return _with(example, judge="not asked: several labels")
        if self._settings.ask == "relabel":
            return await self._relabelled(example, example.label, generate)
        return await self._scored(example, example.label, generate)

    async def _relabelled(self, example: Example, label: str, generate: Generate) -> Example | Rejection:
        prompt = self._prompt(RELABEL, example)
        answer = await ask(generate, prompt, self._sampling, self._labels, self._settings.attempts)
        if isinstance(answer.value, Unparsed):
            return self._unread(example, label)
        told = _with(example, judge_label=answer.value)
        if answer.value == label:
            return told
        if self._settings.then == "replace":
            return replace(_with(told, asked_label=label), label=answer.value)
        return self._refused("judge_label", told, label)

    async def _scored(self, example: Example, label: str, generate: Generate) -> Example | Rejection:
        settings = self._settings
        values = {"criteria": settings.criteria, "points": settings.points, "label": label}
        prompt = self._prompt(SCORE, example, verbalizer=self._task.verbalizer(label), **values)
        answer = await ask(generate, prompt, self._sampling, self._points, settings.attempts)
        if isinstance(answer.value, Unparsed):
            return self._unread(example, label)
        points, why = int(answer.value["points"]), str(answer.value["why"])[:WHY_LETTERS]
        told = _with(example, judge_points=f"{points}/{settings.points}", judge_why=why)
        return told if points >= settings.least else self._refused("judge_score", told, label)

    def _unread(self, example: Example, label: str) -> Example | Rejection:
        return self._refused("judge_unreadable", _with(example, judge="gave no verdict"), label)

    def _refused(self, reason: str, told: Example, label: str) -> Example | Rejection:
        if self._settings.then == "record":
            return told
        return Rejection(reason, "\n".join(told.fields.values()), label, told.verdicts)

    def _prompt(self, template: str, example: Example, verbalizer: str = "", **values: Any) -> Prompt:
        given = {**task_values(self._task.settings, verbalizer), **values}
        text = render(template, labels=dict(self._task.settings.labels), fields=example.fields, **given)
        return text + "\n\nAnswer:" if self._settings.render == "raw" else (Message("user", text),)


def _with(example: Example, **verdicts: str) -> Example:
    return replace(example, verdicts={**example.verdicts, **verdicts})


def _schema(points: int) -> Mapping[str, Any]:
    return {
        "type": "object",
        "properties": {
            "why": {"type": "string", "maxLength": WHY_LETTERS},
            "points": {"type": "integer", "minimum": 1, "maximum": points},
        },
        "required": ["why", "points"],
        "additionalProperties": False,
    }

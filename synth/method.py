"""The method contract: settings, what is prepared once, a lazy plan of items, and the work on one item."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import pyarrow as pa
from pydantic import Field, model_serializer, model_validator

from cluster.errors import SettingsError
from cluster.settings import Settings, digest
from synth.own_method import from_source, source_of
from synth.records import Example, Item, Prompt, Rejection, Reply, Sampling
from synth.task import Task

Sources = Mapping[str, pa.Table]
"""What `prepare` committed under `sources/`: table name to table."""

Feedback = Mapping[str, pa.Table]
"""What a student taught about earlier rounds, by kind (`Lesson`); empty in round 0. Each kind has its table:

- `errors`: gold rows that it takes for another label: id, the task's fields, label, predicted, probability
  (of the gold label), in the order of the gold rows.
- `influence`: rows of the dataset so far, the most helpful first: row_id, text, label, influence (negative
  helps).
- `weights`: all rows of the dataset so far: row_id, weight (0 to 1).
- `agreement`: all rows of the dataset so far: row_id, predicted, probability (of the row's label).
- `cartography`: the data map: row_id, confidence, variability, correctness, kept.
- `rows`: the rows of the dataset so far that the earlier kinds leave in it, in plan order: row_id, the
  task's fields, label, document_ids.
"""

Lesson = Literal["errors", "influence", "weights", "agreement", "cartography"]
"""What can be learned from the rows so far before a round is planned."""


class Round(NamedTuple):
    """A round of a method, the first one without lessons."""

    targets: Mapping[str, int]
    """Rows of each label that there are to be after it, those of earlier rounds included."""
    lessons: tuple[Lesson, ...] = ()
    """What is learned before it is planned: `agreement`, `weights` and `cartography` leave rows out."""


Generate = Callable[[Prompt, Sampling], Awaitable[Reply]]
"""Asks the teacher for one reply; calls of many items overlap in one engine."""


class Slot(NamedTuple):
    """A place in a plan. Cheap to make: most slots of a resumed run are passed by, and never built."""

    position: int
    """Ordinal in the plan of the round, from 0."""
    labels: tuple[str, ...]
    build: Callable[[], Item]
    """Makes the item: pure, and the same each time."""


class Tokenizer(Protocol):
    """The teacher's tokenizer, as far as planning needs it."""

    def count(self, text: str) -> int:
        """Return how many tokens a text has."""

    def cut(self, text: str, tokens: int) -> str:
        """Return the longest prefix of a text with at most so many tokens."""


class Found(Protocol):
    """A retrieved document, as `retrieval.documents.Hit` has it."""

    @property
    def document(self) -> Any: ...
    @property
    def rank(self) -> int: ...
    @property
    def score(self) -> float: ...


Retrieve = Callable[[Sequence[str], int], Awaitable[Sequence[Sequence[Found]]]]
"""Fetches the top documents for each query."""

Embed = Callable[[Sequence[str], bool], Awaitable[Any]]
"""Embeds texts, as queries (True) or as documents, with the encoder that documents are retrieved by: an
array (texts, dimensions) of float32, ready for inner products."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What `prepare` may use; `retrieve` is there only for methods that need a corpus."""

    generate: Generate
    tokenizer: Tokenizer
    retrieve: Retrieve | None = None
    band: tuple[float, float] | None = None
    """Similarity band of the encoder that `retrieve` uses; None means ranks only."""
    embed: Embed | None = None
    """Only where the retriever has an encoder."""
    round: int = 0
    """The round that is prepared: each has sources of its own."""
    feedback: Feedback = field(default_factory=dict)
    """What earlier rounds taught."""


class SamplingSettings(Settings):
    """How the teacher samples."""

    temperature: float = Field(0.95, ge=0, le=5)
    """0.95 for every generation in SynthesizRR's published code."""
    top_p: float = Field(0.9, gt=0, le=1)
    """Nucleus sampling with p 0.9 (SynthesizRR, section 5)."""
    max_tokens: int = Field(200, ge=1)
    """Reply tokens; 200 for AG News and ToI in SynthesizRR's published code."""


class ShotSettings(Settings):
    """Examples shown in a prompt; a bare number is the count."""

    count: int | None = Field(None, ge=0, le=32)
    """Shots in a prompt; without it, the method's own number."""
    reuse: int = Field(1, ge=1)
    """Items of a label in a row that share one draw of shots, so that the engine's prefix cache pays. 1, as
    in the papers: shots are drawn anew for each prompt. More is faster and less diverse."""

    @model_validator(mode="before")
    @classmethod
    def _from_count(cls, data: Any) -> Any:
        return data if isinstance(data, dict | ShotSettings) else {"count": data}

    @model_serializer
    def _plain(self) -> int | dict[str, int | None] | None:
        # Without reuse it is written as it always was, so that the plans of earlier runs stay theirs.
        return self.count if self.reuse == 1 else {"count": self.count, "reuse": self.reuse}


class MethodSettings(Settings):
    """Base of every method's settings; a subclass gives `name` a Literal type and builds its method."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named sets of constants; a key given in the recipe wins over its preset."""
    added: ClassVar[frozenset[str]] = frozenset()
    """Settings that came later than the method: at their defaults they leave item ids as they were."""
    paths: ClassVar[tuple[str, ...]] = ()
    """Settings that are files or folders, as texts: relative ones start at the recipe."""
    stages: ClassVar[tuple[str, ...]] = ("generation",)
    """Steps of work on an item, in order; with several, reasons of rejections begin with theirs."""
    for_more: ClassVar[str] = "change the method's settings"
    """What a user can do when there are fewer items than rows are wanted."""
    needs_corpus: ClassVar[bool] = False
    needs_seeds: ClassVar[bool] = False
    prepares_each_round: ClassVar[bool] = False
    """Whether each round has sources of its own; otherwise all have those of the first."""
    asks_teacher: ClassVar[bool] = True
    """False for a method that writes nothing itself: its recipe says `teacher: {backend: none}`."""

    name: str
    """The method."""
    file: Path | None = None
    """Python file of a method of your own (docs/methods.md)."""
    preset: str | None = None
    """A named set of constants, for example `published_code`."""
    sampling: SamplingSettings = SamplingSettings()
    """How the teacher samples."""
    stop: tuple[str, ...] = ()
    """More stop strings, beside the headers of a raw prompt; a blank line for texts of one paragraph."""
    render: Literal["raw", "chat"] = "raw"
    """`raw`: prompts are plain continuations with header stop strings; `chat`: the model's chat template."""

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("preset") is None:
            return data
        if data["preset"] not in cls.presets:
            raise ValueError(
                f"preset: {data['preset']!r} is unknown; known: {', '.join(cls.presets) or 'none'}"
            )
        preset = dict(cls.presets[data["preset"]])
        sampling = dict(preset.pop("sampling", {})) | dict(data.get("sampling") or {})
        return preset | data | ({"sampling": sampling} if sampling else {})

    def identity(self) -> dict[str, Any]:
        """What of the method determines a row's content."""
        shown, fields = self.model_dump(mode="json", exclude={"file"}), type(self).model_fields
        unset = {name for name in self.added if getattr(self, name) == fields[name].default}
        kept = {name: value for name, value in shown.items() if name not in unset}
        source = source_of(self)
        return kept if source is None else kept | {"source": digest(source)}

    def wants_seeds(self) -> bool:
        """Say whether a task without seeds is refused with these settings."""
        return self.needs_seeds

    def rounds(self, targets: Mapping[str, int]) -> Sequence[Round]:
        """Return the rounds that make so many rows of each label; one, unless a student has a say."""
        return [Round(targets)]

    @property
    def weights_leave_out(self) -> bool:
        """Whether the rows of least weight leave the dataset, where `weights` are learned."""
        return True

    @property
    def weights_in_dataset(self) -> bool:
        """Whether the dataset gets learned weights as a column, by which students learn."""
        return False

    def looks_at(self) -> Literal["train", "seeds"]:
        """Return which gold rows the lesson `errors` is of; those of the gold test never are."""
        return "train"

    def needs(self) -> frozenset[str]:
        """Return what these settings ask of a teacher, as `TeacherSettings.abilities` names it."""
        return frozenset()

    def __reduce__(self) -> str | tuple[Any, ...]:
        source = source_of(self)
        if source is None:
            return super().__reduce__()
        # Replicas on other nodes do not see the user's file: it travels with its settings.
        return from_source, (source, str(self.file), self.model_dump())

    def build(self, task: Task) -> "Method":
        """Return the method for a task."""
        raise NotImplementedError


class Method(ABC):
    """Turns a task into examples. A subclass is one file in `synth/methods/`."""

    def __init__(self, settings: MethodSettings, task: Task) -> None:
        self.task = task
        self.plan_key = digest([task.identity(), settings.identity()])
        self.sampling = Sampling(
            temperature=settings.sampling.temperature,
            top_p=settings.sampling.top_p,
            max_tokens=settings.sampling.max_tokens,
        )

    async def prepare(self, tools: Tools) -> Sources:
        """Make what an LLM or a retriever must supply first; it is committed before any item is planned."""
        return {}

    @abstractmethod
    def plan(self, sources: Sources, round: int, feedback: Feedback) -> Iterator[Slot]:
        """Yield the slots of a round: pure, lazy, and the same items in the same order each time.

        What costs more than a microsecond belongs in a slot's `build`.
        """

    @abstractmethod
    async def examples(self, item: Item, generate: Generate) -> list[Example | Rejection]:
        """Work one item: straight-line calls of the teacher, then what they gave."""

    def capacity(self, sources: Sources) -> Mapping[str, int] | None:
        """Return how many items there can be for each label; None when there is no end to them."""
        return None


def only_text(task: Task) -> None:
    """Refuse, for a method that writes one text, a task whose examples have more fields."""
    if task.settings.fields != ("text",):
        raise SettingsError("task.fields: this method writes the field text alone; remove the others")

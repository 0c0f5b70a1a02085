"""Bootstrapping: FewGen fills up a seed set that is too small (SynthesizRR, 2405.10040, appendix D)."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic import Field, model_validator

from cluster.errors import RunError
from cluster.settings import Settings, digest
from synth.method import Generate, Sources
from synth.methods.fewgen import INSTRUCTION, FewGen
from synth.records import Example, Item, Rejection, Shot, make_item
from synth.rows import text_hash
from synth.task import Gold, Task

if TYPE_CHECKING:
    from synth.filters.sieve import Sieve

SHOWN = 200
"""Characters of a reply that an error shows."""
_TABLE = pa.schema([("id", pa.string()), ("label", pa.string()), ("text", pa.string()), ("made", pa.bool_())])
_COUNTS = pa.schema(
    [
        ("label", pa.string()),
        ("gold", pa.int64()),
        ("asked", pa.int64()),
        ("made", pa.int64()),
        ("dropped", pa.map_(pa.string(), pa.int64())),
    ]
)


class BootstrapSettings(Settings):
    """How missing seeds are made; a bare number is `seeds_per_label`, `true` leaves all as it is here."""

    seeds_per_label: int | None = Field(None, ge=1)
    """Seeds that a label is to have, its gold ones among them; by default 50, and 100 of two labels
    (appendix D)."""
    shots: int = Field(3, ge=0, le=32)
    """Gold seeds shown in a prompt; a label that has fewer shows those (appendix D: 3, or 0 without gold)."""
    temperature: float = Field(0.95, ge=0, le=5)
    """Temperature of the teacher (appendix D)."""
    top_p: float = Field(0.9, gt=0, le=1)
    """Its nucleus sampling (appendix D)."""
    tries: int = Field(5, ge=1)
    """How often what a label still lacks is asked for; replies that are no seeds are made up for so."""
    instruction: str = INSTRUCTION
    """Jinja template of the request; may name text_type, verbalizer, length, style."""

    @model_validator(mode="before")
    @classmethod
    def _from_count(cls, data: Any) -> Any:
        if data is True:
            return {}
        return data if isinstance(data, dict | BootstrapSettings) else {"seeds_per_label": data}

    def wanted(self, labels: int) -> int:
        """Return how many seeds each of so many labels is to have."""
        return self.seeds_per_label or (100 if labels == 2 else 50)


@dataclass(slots=True)
class _Filling:
    """The seeds of a label so far, and what became of the replies."""

    seeds: list[Gold]
    asked: int = 0
    made: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    last: str = ""


class Bootstrap:
    """Makes the seeds that the labels of a task lack, with the prompts of a FewGen of its own."""

    def __init__(self, settings: BootstrapSettings, writer: FewGen, plan_key: str) -> None:
        self._settings, self._writer, self._key = settings, writer, plan_key
        self._task: Task = writer.task
        self._wanted = settings.wanted(len(self._task.labels))
        self._rng = random.Random()

    async def sources(self, generate: Generate) -> Sources:
        """Return the tables `seeds` (gold and made), `bootstrap` (counts of each label) and `stages`.

        RunError names a label that has no seed in the end. Replies are judged in the order of the calls, so
        that the seeds do not depend on which reply came first.
        """
        filled = {label: _Filling(self._task.seeds_of(label)) for label in self._task.labels}
        said, sieve = {text_hash(seed.text) for seed in self._task.seeds}, _sieve(self._task)
        for _ in range(self._settings.tries):
            items = [item for label, each in filled.items() for item in self._items(label, each)]
            replies = await asyncio.gather(*(self._writer.examples(item, generate) for item in items))
            for item, outcomes in zip(items, replies, strict=True):
                self._take(filled[item.labels[0]], sieve.sift(item, outcomes), said)
        _refuse_empty(filled)
        return _tables(filled)

    def _items(self, label: str, filling: _Filling) -> Iterator[Item]:
        """Yield what is to be asked for what a label lacks."""
        gold = [Shot(seed.id, seed.text) for seed in self._task.seeds_of(label)]
        for draw in range(filling.asked, filling.asked + self._wanted - len(filling.seeds)):
            self._rng.seed(digest([self._key, "bootstrap", label, draw]))
            shots = tuple(self._rng.sample(gold, min(self._settings.shots, len(gold))))
            filling.asked += 1
            yield make_item(self._key, 0, draw, (label,), draw=draw, shots=shots)

    def _take(self, filling: _Filling, outcomes: Sequence[Example | Rejection], said: set[int]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Rejection):
                filling.dropped[outcome.reason] += 1
                filling.last = outcome.text
            elif (hashed := text_hash(outcome.fields["text"])) in said:
                # A text that two labels share would fetch documents for both.
                filling.dropped["duplicate"] += 1
                filling.last = outcome.fields["text"]
            elif len(filling.seeds) < self._wanted:
                said.add(hashed)
                filling.made += 1
                label = str(outcome.label)
                filling.seeds.append(Gold(digest([dict(outcome.fields), label])[:16], outcome.fields, label))


def seeds_in(table: pa.Table) -> tuple[Gold, ...]:
    """Return the seeds of a table `seeds`, in its order."""
    return tuple(Gold(row["id"], {"text": row["text"]}, row["label"]) for row in table.to_pylist())


def _sieve(task: Task) -> "Sieve":
    """Return the filters that a seed has to pass: those that do not hang on what kind of texts is wanted."""
    # They are for the driver alone, and only for runs that make seeds.
    from synth.filters.settings import FilterSettings
    from synth.filters.sieve import Sieve

    kept = FilterSettings(min_words=1, max_words=None, language=None, near_duplicates=None)
    return Sieve(kept, task, ())


def _refuse_empty(filled: Mapping[str, _Filling]) -> None:
    for label, filling in filled.items():
        if not filling.seeds:
            counts = ", ".join(f"{reason} {count}" for reason, count in filling.dropped.most_common())
            raise RunError(
                f"bootstrap: label {label} has no gold seed, and none of {filling.asked} replies is one "
                f"({counts}); the last was {filling.last[:SHOWN]!r}. Give seeds of it in task.seeds, look at "
                "method.render and method.sampling.max_tokens, or take a larger teacher"
            )


def _tables(filled: Mapping[str, _Filling]) -> Sources:
    seeds = [
        {"id": seed.id, "label": label, "text": seed.text, "made": place >= len(filling.seeds) - filling.made}
        for label, filling in filled.items()
        for place, seed in enumerate(filling.seeds)
    ]
    counts = [
        {
            "label": label,
            "gold": len(filling.seeds) - filling.made,
            "asked": filling.asked,
            "made": filling.made,
            "dropped": list(filling.dropped.items()),
        }
        for label, filling in filled.items()
    ]
    asked, made = sum(each.asked for each in filled.values()), sum(each.made for each in filled.values())
    return {
        "seeds": pa.Table.from_pylist(seeds, schema=_TABLE),
        "bootstrap": pa.Table.from_pylist(counts, schema=_COUNTS),
        "stages": pa.table({"stage": ["bootstrap"], "asked": [asked], "got": [made]}),
    }

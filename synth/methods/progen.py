"""ProGen: ZeroGen in rounds, with rows shown as shots that helped a student most so far (2210.12329)."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count, takewhile
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from synth.method import Feedback, Generate, Method, Round, Slot, Sources
from synth.methods.zerogen import AsZeroGen, ZeroGen, ZeroGenSampling
from synth.metrics.terms import words_of
from synth.prompting import render
from synth.records import Example, Item, Message, Prompt, Rejection, Reply, Sampling, Shot, make_item
from synth.task import Task

SAMPLE = """\
{% if condition %}{{ condition_type[:1] | upper }}{{ condition_type[1:] }}: "{{ condition }}"
{% endif %}{{ kind[:1] | upper }}{{ kind[1:] }}: "{{ text }}\""""

OVERLAP = 0.9
"""Share of a shot's distinct words from which on a text is taken for a copy of it (published code)."""


class ProGenSampling(ZeroGenSampling):
    """How ProGen samples."""

    max_tokens: int = Field(100, ge=1)
    """Reply tokens; 100 in the published code."""


class ProGenSettings(AsZeroGen):
    """ProGen. `published_code` has rounds that grow, and random shots while there are few rows."""

    presets = {
        "published_code": {
            "conditions": 200_000,
            "samples": 2,
            "every": 100,
            "growing": True,
            "least_rows": 10_000,
        }
    }

    name: Literal["progen"] = "progen"
    every: int = Field(1000, ge=1)
    """Rows of all labels together that make a round: 1,000 in the paper, for 100,000 rows in all."""
    growing: bool = False
    """Rounds end with k * 2^(k-1) times `every` rows, k = 1, 2, 3…, as in the published code: with 100, 400,
    1,200, 3,200… Otherwise each has as many rows."""
    least_rows: int = Field(0, ge=0)
    """Rows there have to be before their influence on a student is asked for; until then shots are drawn from
    all rows. The paper names no such number; published code: 10,000."""
    share: float = Field(0.5, ge=0, le=1)
    """Share of the items, from the second round on, whose prompt shows shots (section 4)."""
    shots: int = Field(8, ge=1, le=32)
    """Rows of the item's label in such a prompt (section 4)."""
    pool: int = Field(50, ge=1)
    """The most helpful rows of a label, from which shots are drawn (section 4)."""
    sampling: ProGenSampling = ProGenSampling()
    """How the teacher samples texts; conditions are drawn with temperature 1 and top_p 0.9."""
    sample: str = SAMPLE
    """Jinja template of a shot, which does not tell its label; may name kind, text, and for pairs condition
    and condition_type."""

    def rounds(self, targets: Mapping[str, int]) -> Sequence[Round]:
        """Return rounds that end with so many rows, labels in proportion to their targets.

        More rows are more rounds: those before the last stay as they were when all targets grow alike.
        """
        rows, rounds = sum(targets.values()), list[Round]()
        for end in [*takewhile(lambda end: end < rows, self._ends()), rows]:
            reached = {label: -(-n * end // rows) if rows else n for label, n in targets.items()}
            so_far = sum(rounds[-1].targets.values()) if rounds else 0
            if not rounds:
                rounds.append(Round(reached))
            elif sum(reached.values()) > so_far:
                rounds.append(Round(reached, ("influence",) if so_far >= self.least_rows else ()))
        return rounds

    def _ends(self) -> Iterator[int]:
        """Yield the rows of all labels with which rounds end."""
        for number in count(1):
            yield self.every * number * (2 ** (number - 1) if self.growing else 1)

    def build(self, task: Task) -> Method:
        return ProGen(self, task)


class ProGen(ZeroGen):
    """Plans as ZeroGen does; in later rounds a share of the items get shots."""

    def __init__(self, settings: ProGenSettings, task: Task) -> None:
        super().__init__(settings, task)
        self._progen, self._rng = settings, random.Random()
        # A template that fails has to fail here, not in every item of the night.
        self.shown((Shot("", "A text.", "A text."),))

    def plan(self, sources: Sources, round: int, feedback: Feedback) -> Iterator[Slot]:
        pools = self._pools(feedback)
        for slot in super().plan(sources, round, feedback):
            pool = pools.get(slot.labels[0])
            yield slot._replace(build=partial(self._helped, slot.build, pool)) if pool else slot

    def _pools(self, feedback: Feedback) -> dict[str, list[Shot]]:
        """Return the rows of each label that may be shown; a label without any is missing."""
        if "rows" not in feedback:
            return {}
        rows = self._rows(feedback["rows"])
        pools: dict[str, list[Shot]] = {}
        if "influence" not in feedback:
            for label, shot in rows.values():
                pools.setdefault(label, []).append(shot)
            return pools
        table = feedback["influence"]
        columns = (table[name].to_pylist() for name in ("row_id", "influence"))
        for row_id, influence in zip(*columns, strict=True):
            if influence < 0 and row_id in rows:
                label, shot = rows[row_id]
                pools.setdefault(label, []).append(shot)
        return {label: shots[: self._progen.pool] for label, shots in pools.items()}

    def _rows(self, rows: pa.Table) -> dict[str, tuple[str, Shot]]:
        """Return each row's label, and the row as a shot: of a pair, what was given is its document."""
        given = self.settings.condition_field
        ids, labels, texts = (rows[name].to_pylist() for name in ("row_id", "label", self._field))
        others: list[str | None] = [None] * rows.num_rows if given is None else rows[given].to_pylist()
        return {
            row_id: (label, Shot(row_id, text, other))
            for row_id, label, text, other in zip(ids, labels, texts, others, strict=True)
        }

    def _helped(self, build: Callable[[], Item], pool: Sequence[Shot]) -> Item:
        """Return an item, perhaps with shots; the item itself is the seed of the draw."""
        item = build()
        self._rng.seed(item.id)
        if self._rng.random() >= self._progen.share:
            return item
        shots = tuple(self._rng.sample(pool, min(self._progen.shots, len(pool))))
        grounds: dict[str, Any] = {"seed_id": item.seed_id, "attributes": item.attributes}
        return make_item(
            self.plan_key, item.round, item.position, item.labels, draw=item.draw, shots=shots, **grounds
        )

    async def examples(self, item: Item, generate: Generate) -> list[Example | Rejection]:
        if not item.shots:
            return await super().examples(item, generate)
        shown = self.shown(item.shots)

        async def ask(prompt: Prompt, sampling: Sampling) -> Reply:
            if (against := sampling.against) is not None:
                # The other labels' prompts differ in nothing but the label here as well.
                others = tuple(f"{shown}\n\n{other}" for other in against.prompts)
                sampling = replace(sampling, against=replace(against, prompts=others))
            return await generate(below(shown, prompt), sampling)

        copies = [frozenset(words_of(shot.text)) for shot in item.shots]
        outcomes = await super().examples(item, ask)
        return [self._unless_copied(outcome, copies) for outcome in outcomes]

    def _unless_copied(
        self, outcome: Example | Rejection, shots: Sequence[frozenset[str]]
    ) -> Example | Rejection:
        if isinstance(outcome, Rejection):
            return outcome
        text = outcome.fields[self._field]
        said = frozenset(words_of(text))
        if any(words and len(words & said) >= OVERLAP * len(words) for words in shots):
            return Rejection("shot_overlap", text, outcome.label)
        return outcome

    def shown(self, shots: Sequence[Shot]) -> str:
        """Return shots as a prompt shows them."""
        values = {"kind": self.task.settings.what(self._field), "condition_type": self._condition_type}
        template = self._progen.sample
        return "\n\n".join(
            render(template, text=shot.text, condition=shot.document, **values) for shot in shots
        )


def below(shown: str, prompt: Prompt) -> Prompt:
    """Return a prompt with something shown above it, in a chat in its first turn."""
    if isinstance(prompt, str):
        return f"{shown}\n\n{prompt}"
    first, *others = prompt
    return (Message(first.role, f"{shown}\n\n{first.content}"), *others)

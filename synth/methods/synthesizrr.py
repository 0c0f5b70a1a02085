"""SynthesizRR: retrieve documents for a seed, let the teacher rewrite each for its label (2405.10040).

Fetched ranks 1-50 per seed; RetrICL turns the first two into shots (document, seed text) and rewrites the
rest; Non-RetrICL shows gold texts only; zero-shot shows nothing.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import count, zip_longest
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, field_validator

from cluster.errors import SettingsError
from cluster.settings import digest
from retrieval.reading.sentences import cut_at_sentence
from synth.bootstrap import Bootstrap, BootstrapSettings, seeds_in
from synth.method import (
    Feedback,
    Generate,
    Method,
    MethodSettings,
    SamplingSettings,
    ShotSettings,
    Slot,
    Sources,
    Tokenizer,
    Tools,
    only_text,
)
from synth.methods.fewgen import FewGen, FewGenSettings
from synth.prompting import chat, read_reply, render, stops, task_values
from synth.records import Example, Grounding, Item, Prompt, Rejection, Shot, make_item
from synth.task import Gold, Task

REWRITE = """\
Rewrite the {{ document_type | lower }} above as {{ text_type | lower | article }} about {{ verbalizer }}.\
{% if length %} It is {{ length }} long.{% endif %}{% if style %} Style: {{ style }}.{% endif %}"""

PROMPT = """\
{% for shot in shots %}{% if shot.document %}{{ document_type }}: {{ shot.document }}

{{ ask }}
{% endif %}{{ text_type }}: {{ shot.text }}

{% endfor %}{{ document_type }}: {{ document }}

{{ ask }}
"""

SHUFFLE_SEED = 42
"""Seed of the per-label shuffle in the published code."""

Band = tuple[float, float]
UNBOUND: Band = (-1.0, float("inf"))
"""Band of a retriever whose scores are no similarities: its ranks alone decide."""


class SynthesizRRSettings(MethodSettings):
    """SynthesizRR. Defaults follow the paper; `published_code` holds the constants of its scripts."""

    presets = {
        "published_code": {
            "document_tokens": 400,
            "similarity": (0.4, 0.9),
            "shot_similarity": (0.5, 0.9),
            "pieces": "all",
            "header_stops": False,
        }
    }
    added = frozenset({"bootstrap"})
    for_more = (
        "add seeds for these labels, widen method.similarity, raise method.last_rank or method.draws, or "
        "enlarge the corpus"
    )
    needs_corpus = True
    needs_seeds = True

    name: Literal["synthesizrr"] = "synthesizrr"
    variant: Literal["retricl", "non_retricl", "zero_shot"] = "retricl"
    """Where shots come from: retrieved documents with seeds, seeds alone, or nowhere (section 5)."""
    shots: ShotSettings = ShotSettings()
    """Shots in a prompt; by default 3 for retricl and 32 for non_retricl (section 5), 0 for zero_shot."""
    last_rank: int = Field(50, ge=1)
    """Documents used per seed; the paper fetches 500 and uses 50 (section 5, appendix F)."""
    shot_ranks: int = Field(2, ge=0)
    """How many of the first ranks become shots instead of inputs (retricl; published code)."""
    similarity: Band | None = None
    """Band of similarity for inputs, both ends included; by default the encoder preset's. Contriever:
    0.4-0.9, below which documents are unrelated and above which they are near-copies (section 5). BM25,
    random and hybrid retrieval have no band, and that of `published_code` leaves them alone."""
    shot_similarity: Band | None = None
    """Band for shots; by default the same. Published code: 0.5-0.9. A pair outside it is dropped."""
    document_tokens: int = Field(500, ge=8)
    """Teacher tokens a document is cut to, at a sentence end (paper: 500, published code: 400)."""
    min_document_tokens: int = Field(20, ge=0)
    """Shorter documents are left out (published code)."""
    draws: int = Field(1, ge=1)
    """How often each (seed, document) pair may be rewritten, with other shots each time."""
    pieces: Literal["first", "all"] = "first"
    """Which pieces of a completion that runs on become examples; published code: all."""
    header_stops: bool = True
    """Stop at the header of another document or text; published code sets no stop strings."""
    rewrite: str = REWRITE
    """Jinja template of the request; may name document_type, text_type, verbalizer, length, style."""
    bootstrap: BootstrapSettings | None = None
    """Let FewGen make the seeds that are lacking, up to so many of each label (appendix D); by default it
    makes none, and a label without a seed is refused."""

    @field_validator("bootstrap", mode="before")
    @classmethod
    def _or_not(cls, data: Any) -> Any:
        return None if data is False else data

    def wants_seeds(self) -> bool:
        return self.bootstrap is None

    def bands(self, retriever: Band) -> tuple[Band, Band]:
        """Return the bands of inputs and of shots, for a retriever with this band."""
        inputs, shots = self.similarity, self.shot_similarity
        if retriever == UNBOUND:
            # The published code bounds cosines, but neither the scores of BM25 nor random documents.
            preset = self.presets.get(self.preset or "", {})
            inputs = None if inputs == preset.get("similarity") else inputs
            shots = None if shots == preset.get("shot_similarity") else shots
        inputs = inputs or retriever
        return inputs, shots or inputs

    @property
    def shot_count(self) -> int:
        """Shots in a prompt."""
        default = {"retricl": 3, "non_retricl": 32, "zero_shot": 0}[self.variant]
        return default if self.shots.count is None else self.shots.count

    def build(self, task: Task) -> Method:
        return SynthesizRR(self, task)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document retrieved for a seed."""

    seed: Gold
    document: Grounding


class SynthesizRR(Method):
    """Plans one item per (seed, document) pair, labels in turn."""

    def __init__(self, settings: SynthesizRRSettings, task: Task) -> None:
        super().__init__(settings, task)
        only_text(task)
        self.settings = settings
        self._rng = random.Random()
        self._headers = (task.settings.document_type, task.settings.text_type)
        headers = stops(*self._headers) if settings.header_stops else ()
        self._sampling = replace(self.sampling, stop=headers + settings.stop)
        if settings.variant == "zero_shot" and settings.shot_count:
            raise SettingsError("method.shots: zero_shot shows none; remove it or choose another variant")
        if settings.min_document_tokens > settings.document_tokens:
            raise SettingsError("method.min_document_tokens: is more than method.document_tokens; lower it")
        for label in task.labels:
            # A template that fails has to fail here, not in every item of the night.
            render(settings.rewrite, **task_values(task.settings, task.verbalizer(label)))
            if settings.bootstrap is None and not task.seeds_of(label):
                raise SettingsError(
                    f"task.seeds: label {label} has no seed; SynthesizRR retrieves by seeds. Add one, or let "
                    "the teacher make them: method.bootstrap=true"
                )
        given = settings.bootstrap
        self._bootstrap = Bootstrap(given, self._writer(given), self.plan_key) if given else None

    def _writer(self, given: BootstrapSettings) -> FewGen:
        """Return the FewGen that makes seeds: its replies are read as this method's are."""
        settings = self.settings
        return FewGen(
            FewGenSettings(
                sampling=SamplingSettings(
                    temperature=given.temperature, top_p=given.top_p, max_tokens=settings.sampling.max_tokens
                ),
                stop=settings.stop,
                render=settings.render,
                pieces=settings.pieces,
                header_stops=settings.header_stops,
                instruction=given.instruction,
            ),
            self.task,
        )

    async def prepare(self, tools: Tools) -> Sources:
        if tools.retrieve is None:
            raise SettingsError("method: synthesizrr needs a corpus; add `corpus` to the recipe")
        made = await self._bootstrap.sources(tools.generate) if self._bootstrap else {}
        seeds = self._seeds(made)
        found = await tools.retrieve([seed.text for seed in seeds], self.settings.last_rank)
        hits, texts = [], {}
        for seed, ranked in zip(seeds, found, strict=True):
            for hit in ranked:
                hits.append((seed.id, hit.rank, hit.document.id, hit.score))
                texts[hit.document.id] = hit.document
        band = tools.band or UNBOUND
        return {
            **made,
            "hits": pa.table(_columns(hits, ("seed_id", "rank", "document_id", "score"))),
            "documents": self._documents(list(texts.values()), tools.tokenizer),
            "band": pa.table({"low": [band[0]], "high": [band[1]]}),
        }

    def _seeds(self, sources: Sources) -> tuple[Gold, ...]:
        """Return the seeds, made ones too; without bootstrapping they are the task's, and in no table."""
        return seeds_in(sources["seeds"]) if self._bootstrap else self.task.seeds

    def _documents(self, documents: list[object], tokenizer: Tokenizer) -> pa.Table:
        rows = []
        for document in documents:
            cut = cut_at_sentence(document.text, tokenizer, self.settings.document_tokens)  # type: ignore[attr-defined]
            if tokenizer.count(cut) < self.settings.min_document_tokens:
                continue
            rows.append((document.id, document.title, cut))  # type: ignore[attr-defined]
        strings = pa.schema([("id", pa.string()), ("title", pa.string()), ("text", pa.string())])
        return pa.table(_columns(rows, strings.names), schema=strings)

    def plan(self, sources: Sources, round: int, feedback: Feedback) -> Iterator[Slot]:
        shots = self._shot_pool(sources)
        groups = {label: self._groups(pool) for label, pool in self._inputs(sources).items()}
        labels = [(label,) for label in groups]
        position = count()
        for draw in range(self.settings.draws):
            for turn in zip_longest(*groups.values(), fillvalue=()):
                for label, group in zip(labels, turn, strict=True):
                    shared = partial(self._draw_shots, shots[label[0]], group, round, draw)
                    drawn = shared if len(group) == 1 else cache(shared)
                    for chosen in group:
                        place = next(position)
                        build = partial(self._item, round, place, label, draw, chosen, drawn)
                        yield Slot(place, label, build)

    def _item(
        self,
        round: int,
        position: int,
        labels: tuple[str, ...],
        draw: int,
        chosen: Candidate,
        shots: Callable[[], tuple[Shot, ...]],
    ) -> Item:
        return make_item(
            self.plan_key,
            round,
            position,
            labels,
            draw=draw,
            seed_id=chosen.seed.id,
            documents=(chosen.document,),
            shots=shots(),
        )

    def capacity(self, sources: Sources) -> Mapping[str, int]:
        return {label: len(pool) * self.settings.draws for label, pool in self._inputs(sources).items()}

    async def examples(self, item: Item, generate: Generate) -> list[Example | Rejection]:
        reply = await generate(self.prompt(item), self._sampling)
        return read_reply(reply, item.labels[0], self._headers, self.settings.pieces)

    def prompt(self, item: Item) -> Prompt:
        """Return the prompt of an item; as a chat, every shot is an earlier turn."""
        settings = self.task.settings
        values = task_values(settings, self.task.verbalizer(item.labels[0]))
        ask = render(self.settings.rewrite, **values)
        document = item.documents[0].text
        if self.settings.render == "chat":
            turns = [(self._request(shot.document, ask), shot.text) for shot in item.shots if shot.document]
            # A gold text alone answers no request: such are shown ahead, as in a raw prompt.
            alone = [f"{settings.text_type}: {shot.text}" for shot in item.shots if not shot.document]
            return chat(turns, "\n\n".join([*alone, self._request(document, ask)]))
        shots = [{"text": shot.text, "document": shot.document} for shot in item.shots]
        text = render(PROMPT, ask=ask, shots=shots, document=document, **values)
        return f"{text}\n{settings.text_type}:"

    def _request(self, document: str, ask: str) -> str:
        return f"{self.task.settings.document_type}: {document}\n\n{ask}"

    def _inputs(self, sources: Sources) -> dict[str, list[Candidate]]:
        first = 1 if self.settings.variant == "non_retricl" else self.settings.shot_ranks + 1
        band, _ = self.settings.bands(_band(sources))
        pools = self._candidates(sources, range(first, self.settings.last_rank + 1), band)
        for pool in pools.values():
            random.Random(SHUFFLE_SEED).shuffle(pool)
        return pools

    def _shot_pool(self, sources: Sources) -> dict[str, list[Shot]]:
        if self.settings.variant == "non_retricl":
            gold: dict[str, list[Shot]] = {label: [] for label in self.task.labels}
            for seed in self._seeds(sources):
                gold[seed.label].append(Shot(seed.id, seed.text))
            return gold
        _, band = self.settings.bands(_band(sources))
        pools = self._candidates(sources, range(1, self.settings.shot_ranks + 1), band)
        return {
            label: [Shot(f"{c.seed.id}/{c.document.id}", c.seed.text, c.document.text) for c in pool]
            for label, pool in pools.items()
        }

    def _candidates(self, sources: Sources, ranks: range, band: Band) -> dict[str, list[Candidate]]:
        texts = dict(zip(*(sources["documents"][name].to_pylist() for name in ("id", "text")), strict=True))
        seeds = {seed.id: seed for seed in self._seeds(sources)}
        pools: dict[str, list[Candidate]] = {label: [] for label in self.task.labels}
        for hit in sources["hits"].to_pylist():
            text = texts.get(hit["document_id"])
            if text is None or hit["rank"] not in ranks or not band[0] <= hit["score"] <= band[1]:
                continue
            seed = seeds[hit["seed_id"]]
            # A seed's own text in the corpus, perhaps cut, would hand the gold text over as its source.
            if not seed.text.startswith(text.strip()):
                document = Grounding(hit["document_id"], text, hit["score"])
                pools[seed.label].append(Candidate(seed, document))
        return pools

    def _groups(self, pool: list[Candidate]) -> list[tuple[Candidate, ...]]:
        """Return a label's inputs in order, those together that share their shots."""
        reuse = self.settings.shots.reuse
        if reuse == 1:
            return [(chosen,) for chosen in pool]
        # Shots leave out the seeds of a group: of one seed's documents, a group takes few shots away.
        groups: list[tuple[Candidate, ...]] = []
        begun: dict[str, list[Candidate]] = {}
        for chosen in pool:
            mine = begun.setdefault(chosen.seed.id, [])
            mine.append(chosen)
            if len(mine) == reuse:
                groups.append(tuple(begun.pop(chosen.seed.id)))
        rest = tuple(chosen for mine in begun.values() for chosen in mine)
        return [*groups, *(rest[n : n + reuse] for n in range(0, len(rest), reuse))]

    def _draw_shots(
        self, pool: list[Shot], group: tuple[Candidate, ...], round: int, draw: int
    ) -> tuple[Shot, ...]:
        """Draw anew for every group from the same label, as the published code does, but seeded."""
        # The published code leaves out only the row itself; a shot of the very document gives it away too.
        own = {chosen.seed.id for chosen in group}
        ends = tuple(f"/{chosen.document.id}" for chosen in group)
        others = [shot for shot in pool if shot.id not in own and not shot.id.endswith(ends)]
        first = group[0]
        self._rng.seed(digest([self.plan_key, round, draw, first.seed.id, first.document.id]))
        return tuple(self._rng.sample(others, min(self.settings.shot_count, len(others))))


def _band(sources: Sources) -> Band:
    row = sources["band"].to_pylist()[0]
    return row["low"], row["high"]


def _columns(rows: Sequence[tuple[object, ...]], names: Sequence[str]) -> dict[str, list[object]]:
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}

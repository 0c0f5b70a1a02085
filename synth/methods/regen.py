"""ReGen: documents near a label's name become its rows, and queries for more of them (2305.10703).

Nothing is written and no teacher is asked. Round 0 retrieves for each label's verbalizer; a student learns
the rows, and those that it takes for another label leave; each later round asks with the rows that are left,
and keeps of what it finds only documents whose nearest queries all have one label; the last one only filters.
The paper first trains its retriever on the corpus, contrastively as COCO-DR does: that is not done here, any
configured encoder serves. It does not say how many rows a round brings: that is a choice of this project.
"""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from itertools import zip_longest
from math import ceil
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from cluster.errors import SettingsError
from retrieval.reading.sentences import cut_at_sentence
from synth.method import (
    Embed,
    Feedback,
    Generate,
    Method,
    MethodSettings,
    Retrieve,
    Round,
    Slot,
    Sources,
    Tokenizer,
    Tools,
    only_text,
)
from synth.prompting import render, task_values
from synth.records import Example, Grounding, Item, Rejection, make_item
from synth.task import Task

QUERY = "{{ verbalizer }}"

SEARCHED_AT_ONCE = 1024
"""Queries of one search: what they find is sifted before the next ones are asked."""
COMPARED_AT_ONCE = 8_000_000
"""Inner products held at once in the round trip: some 100 MB with the order of each row of them."""

_DOCUMENTS = pa.schema([("id", pa.string()), ("text", pa.string())])
_HITS = pa.schema(
    [("label", pa.string()), ("document_id", pa.string()), ("rank", pa.int32()), ("score", pa.float32())]
)
_STAGES = pa.schema([("stage", pa.string()), ("asked", pa.int64()), ("got", pa.int64())])

Vectors = npt.NDArray[np.float32]


class ReGenSettings(MethodSettings):
    """ReGen. Defaults follow the paper; `published_code` has the constants of its script."""

    presets = {"published_code": {"top": 20, "top_later": 20}}
    for_more = "raise method.top, method.top_later or method.retrievals, or enlarge the corpus"
    needs_corpus = True
    asks_teacher = False
    prepares_each_round = True

    name: Literal["regen"] = "regen"
    query: str = Field(QUERY, min_length=1)
    """Jinja template of a label's first query; may name label, verbalizer, text_type, document_type,
    instruction, length, style. The published code asks in a few words, such as `it was a great film`."""
    queries: dict[str, str] = {}
    """First queries of single labels, as they are, in place of the template."""
    retrievals: int = Field(3, ge=1)
    """Rounds that retrieve (paper: 3). With 1, the labels' own queries are all that is asked."""
    top: int = Field(100, ge=1)
    """Documents fetched for each label in round 0 (paper: 100; published code: 50 to 100 as a rule, 20 where
    nothing is said)."""
    top_later: int = Field(20, ge=1)
    """Documents fetched for each query of later rounds: the script's default for all rounds."""
    separator: str = " [SEP] "
    """Between verbalizer and document in a later query (published code); an encoder that is no BERT may want
    another one."""
    query_tokens: int = Field(100, ge=8)
    """Tokens of a later query (published code); without a teacher they are words, which the encoder cuts at
    its own limit."""
    nearest: int = Field(5, ge=1)
    """Queries nearest to a document that must all have its label (round trip; published code)."""
    document_tokens: int | None = Field(None, ge=8)
    """Tokens (words without a teacher) that a document is cut to, at a sentence end, before it becomes a row;
    by default it is taken as it is, as in the paper."""
    spare: float = Field(1.5, ge=1, le=20)
    """Rows that are retrieved for each row wanted, since students throw some out. Not in the paper, which
    keeps whatever passes."""

    def rounds(self, targets: Mapping[str, int]) -> Sequence[Round]:
        """Return rounds that each bring an equal share of targets and spare, then one that only filters."""
        spare = Fraction(str(self.spare))
        found = [
            {label: ceil(rows * spare * (number + 1) / self.retrievals) for label, rows in targets.items()}
            for number in range(self.retrievals)
        ]
        later = [Round(each, ("agreement",)) for each in (*found[1:], dict(targets))]
        return [Round(found[0]), *later]

    def build(self, task: Task) -> "ReGen":
        return ReGen(self, task)


class Query(NamedTuple):
    """What is asked, and for which label."""

    label: str
    text: str


class Claimed(NamedTuple):
    """A document that a query of a label found; the least is the best."""

    rank: int
    below: float
    """The score, its sign turned."""
    document_id: str


class ReGen(Method):
    """Plans one item for each document found, labels in turn, the first ranks first."""

    def __init__(self, settings: ReGenSettings, task: Task) -> None:
        super().__init__(settings, task)
        only_text(task)
        self.settings = settings
        if unknown := [label for label in settings.queries if label not in task.labels]:
            known = ", ".join(task.labels)
            raise SettingsError(f"method.queries: {unknown[0]!r} is no label; the task has {known}")
        for label in task.labels:
            if not self.query(label).strip():
                raise SettingsError(f"method.query: is empty for {label}; say what its documents are about")

    def query(self, label: str) -> str:
        """Return the first query of a label."""
        own = self.settings.queries.get(label)
        values = task_values(self.task.settings, self.task.verbalizer(label))
        return render(self.settings.query, label=label, **values) if own is None else own

    def later_query(self, label: str, text: str, tokenizer: Tokenizer) -> str:
        """Return the query that a row makes: the label's first one, then the row, cut to `query_tokens`."""
        whole = f"{self.query(label)}{self.settings.separator}{text}"
        return tokenizer.cut(whole, self.settings.query_tokens)

    async def prepare(self, tools: Tools) -> Sources:
        """Return `hits`, the documents of each label in plan order, their `documents`, and `stages`.

        The round that only filters prepares nothing. Errors: SettingsError without a corpus, or without an
        encoder where there are later rounds.
        """
        if tools.retrieve is None:
            raise SettingsError("method: regen needs a corpus; add `corpus` to the recipe")
        if tools.embed is None and self.settings.retrievals > 1:
            raise SettingsError(
                "retriever.kind: this one has no encoder, with which rounds of ReGen after the first compare "
                "documents and queries; take dense or hybrid, or set method.retrievals to 1"
            )
        if tools.round >= self.settings.retrievals:
            return {}
        queries = self._queries(tools)
        found = await _search(tools.retrieve, queries, self._top(tools.round), _known(tools.feedback))
        stages = [("retrieval", len(queries) * self._top(tools.round), len(found.documents))]
        if tools.round == 0:
            claims = _of_higher_score(found.claims)
        else:
            claims = await self._round_trip(found, queries, tools.embed)
            stages.append(("round trip", len(found.documents), sum(map(len, claims.values()))))
        return self._tables(claims, found.documents, stages, tools.tokenizer)

    def _top(self, round: int) -> int:
        return self.settings.top_later if round else self.settings.top

    def _queries(self, tools: Tools) -> list[Query]:
        """Return the queries of a round: of each label its rows or, where it has none, its own query."""
        rows = tools.feedback.get("rows")
        columns = (
            () if rows is None else zip(rows["label"].to_pylist(), rows["text"].to_pylist(), strict=True)
        )
        made = [Query(label, self.later_query(label, text, tools.tokenizer)) for label, text in columns]
        asked = {query.label for query in made}
        return [Query(label, self.query(label)) for label in self.task.labels if label not in asked] + made

    async def _round_trip(
        self, found: "Findings", queries: Sequence[Query], embed: Embed | None
    ) -> dict[str, list[Claimed]]:
        """Return the claims of labels on documents whose nearest queries all have that label."""
        if embed is None or not found.documents:
            return {}
        order = {label: number for number, label in enumerate(self.task.labels)}
        asked = await embed([query.text for query in queries], True)
        documents = await embed([read for _, read in found.documents.values()], False)
        labels = np.array([order[query.label] for query in queries])
        agreed = dict(
            zip(found.documents, one_label(documents, asked, labels, self.settings.nearest), strict=True)
        )
        return {
            label: [claim for claim in claims if agreed[claim.document_id] == order[label]]
            for label, claims in found.claims.items()
        }

    def _tables(
        self,
        claims: Mapping[str, Sequence[Claimed]],
        documents: Mapping[str, tuple[str, str]],
        stages: Sequence[tuple[str, int, int]],
        tokenizer: Tokenizer,
    ) -> Sources:
        hits = [
            (label, claim.document_id, claim.rank, -claim.below)
            for label in self.task.labels
            for claim in sorted(claims.get(label, ()))
        ]
        limit = self.settings.document_tokens
        texts = [
            (name, text if limit is None else cut_at_sentence(text, tokenizer, limit))
            for name, text in ((name, documents[name][0]) for _, name, _, _ in hits)
        ]
        return {
            "documents": _table(texts, _DOCUMENTS),
            "hits": _table(hits, _HITS),
            "stages": _table(stages, _STAGES),
        }

    def plan(self, sources: Sources, round: int, feedback: Feedback) -> Iterator[Slot]:
        if "hits" not in sources:
            return
        hits = sources["hits"].select(["label", "document_id", "score"]).to_pydict()
        texts = dict(zip(*(sources["documents"][name].to_pylist() for name in _DOCUMENTS.names), strict=True))
        places: dict[str, list[int]] = {label: [] for label in self.task.labels}
        for place, label in enumerate(hits["label"]):
            places[label].append(place)
        position = 0
        for turn in zip_longest(*places.values()):
            for label, place in zip(places, turn, strict=True):
                if place is not None:
                    name = hits["document_id"][place]
                    document = Grounding(name, texts[name], hits["score"][place])
                    labels = (label,)
                    yield Slot(position, labels, partial(self._item, round, position, labels, document))
                    position += 1

    def _item(self, round: int, position: int, labels: tuple[str, ...], document: Grounding) -> Item:
        return make_item(self.plan_key, round, position, labels, documents=(document,))

    async def examples(self, item: Item, generate: Generate) -> list[Example | Rejection]:
        return [Example({"text": item.documents[0].text}, item.labels[0])]


class Findings(NamedTuple):
    """What the queries of a round found."""

    claims: dict[str, list[Claimed]]
    """For each label the documents that its queries found, each once."""
    documents: dict[str, tuple[str, str]]
    """Id to text, and to what an encoder reads."""


async def _search(retrieve: Retrieve, queries: Sequence[Query], top: int, known: frozenset[str]) -> Findings:
    """Return what queries find beside the documents that are known, at the best rank of a label's queries."""
    best: dict[tuple[str, str], Claimed] = {}
    documents: dict[str, tuple[str, str]] = {}
    for start in range(0, len(queries), SEARCHED_AT_ONCE):
        asked = queries[start : start + SEARCHED_AT_ONCE]
        for query, ranked in zip(asked, await retrieve([each.text for each in asked], top), strict=True):
            for hit in ranked:
                document = hit.document
                if document.id not in known:
                    claim = Claimed(hit.rank, -hit.score, document.id)
                    key = query.label, document.id
                    best[key] = min(claim, best.get(key, claim))
                    documents[document.id] = document.text, document.titled_text
    claims: dict[str, list[Claimed]] = {query.label: [] for query in queries}
    for (label, _), claim in best.items():
        claims[label].append(claim)
    return Findings(claims, documents)


def _known(feedback: Feedback) -> frozenset[str]:
    """Return the documents that rows were made of, whatever became of the rows, as far as feedback tells."""
    tables = [table for table in feedback.values() if "document_ids" in table.column_names]
    return frozenset(
        name for table in tables for names in table["document_ids"].to_pylist() for name in names or ()
    )


def _of_higher_score(claims: Mapping[str, Sequence[Claimed]]) -> dict[str, list[Claimed]]:
    """Return the claims, each document with the label it is nearer to; of equals the task's first has it."""
    best: dict[str, tuple[float, str]] = {}
    for label, own in claims.items():
        for claim in own:
            if claim.document_id not in best or claim.below < best[claim.document_id][0]:
                best[claim.document_id] = claim.below, label
    return {
        label: [claim for claim in own if best[claim.document_id][1] == label]
        for label, own in claims.items()
    }


def one_label(
    documents: Vectors, queries: Vectors, labels: npt.NDArray[np.int64], nearest: int
) -> list[int | None]:
    """Return, for each document, the label that all its nearest queries have, or None where they differ.

    documents (n, d) and queries (m, d) are compared by inner product, exactly; labels (m,) are those of the
    queries. With fewer queries than `nearest`, all of them have to agree.
    """
    count = min(nearest, len(queries))
    if count == 0:
        return [None] * len(documents)
    size = max(1, COMPARED_AT_ONCE // len(queries))
    told: list[int | None] = []
    for start in range(0, len(documents), size):
        near = documents[start : start + size] @ queries.T
        voters = labels[np.argpartition(near, len(queries) - count, axis=1)[:, -count:]]
        agreed = (voters == voters[:, :1]).all(axis=1)
        told += [int(label) if one else None for label, one in zip(voters[:, 0], agreed, strict=True)]
    return told


def _table(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table([pa.array(c, t.type) for c, t in zip(columns, schema, strict=True)], schema=schema)

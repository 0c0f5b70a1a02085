"""Rephrasing: rewrite the rows that carry terms bound to their label, and leave the others (2407.12813).

The study found questions of its synthetic BoolQ bound to one answer by the way they were put, and that having
them rephrased helped. How it found them and with which prompt is not stated: finding terms, the prompt, and
that other rows stay are choices of this project.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count, zip_longest
from typing import Annotated, Any, ClassVar, Literal

import pyarrow as pa
from pydantic import BeforeValidator, Field, PrivateAttr, field_validator

from cluster.errors import DataError, SettingsError
from synth.earlier_rows import read_rows, rows_digest
from synth.method import Feedback, Generate, Method, MethodSettings, SamplingSettings, Slot, Sources, Tools
from synth.metrics.bound_terms import BoundTerm, Thresholds, bound_terms, own_words, weigh
from synth.metrics.terms import as_term, likeness, terms_in, words_of
from synth.prompting import chat, render, stops, task_values
from synth.records import Example, Item, Prompt, Rejection, Reply, Sampling, make_item
from synth.rewritten import rewritten
from synth.structured import RETRY_TEMPERATURE
from synth.task import Task

REWRITE = """\
Rewrite the {{ header | lower }} above in other words. Do not use \
{% if terms | length > 1 %}any of these: {% endif %}"{{ terms | join('", "') }}". \
Keep its meaning and roughly its length: it must still be an example of "{{ verbalizer }}".\
{% if others %} Leave the {{ others | join(" and the ") }} as above; the new {{ header | lower }} must go \
with it.{% endif %}"""

SHOWN = """\
{% for name, text in fields.items() %}{{ name }}: {{ text }}
{% endfor %}
{{ ask }}"""

ORIGINAL = "original_"
_COMMA = ", "
"""Between terms in an attribute; no term has a comma in it."""

_TEXT = pa.string()
_ROWS = pa.schema(
    [("id", _TEXT), ("label", _TEXT), ("fields", pa.map_(_TEXT, _TEXT)), ("terms", pa.list_(_TEXT))]
)

Terms = tuple[str, ...]


class RephraseSettings(MethodSettings):
    """Rephrasing. What follows from which term is found is in `synth.metrics.bound_terms`."""

    for_more = "give more rows in method.rows"
    paths: ClassVar[tuple[str, ...]] = ("rows",)

    name: Literal["rephrase"] = "rephrase"
    rows: Annotated[str, BeforeValidator(str)]
    """The rows to rephrase: a JSONL file (plain, .gz or .zst) with the fields and `label`, or the folder of
    an earlier run, here or at `s3://`. Relative to the recipe."""
    field: str = "text"
    """The field that is looked at and rewritten; others stay. The study rewrote the questions of BoolQ."""
    terms: Terms | dict[str, Terms] = ()
    """Terms to write out of the rows, for every label or label by label; without any they are found."""
    keep: Terms = ()
    """Terms that may stay although they are bound to a label, beside the words of its name and verbalizer."""
    min_rows: int = Field(5, ge=2)
    """A term is bound when at least so many rows of a label have it…"""
    odds: float = Field(3.0, ge=1)
    """… with odds at least so many times those in the other rows…"""
    significance: float = Field(0.01, gt=0, le=0.2)
    """… and this or less for p of Fisher's exact test, corrected by Holm for all terms and labels."""
    most: int = Field(10, ge=1)
    """Terms of a label that are written out, the most significant; all stand in each prompt of the label."""
    attempts: int = Field(3, ge=1, le=10)
    """Replies asked for until one will do; from the second on, the prompt names the terms that remained."""
    like: float | None = Field(0.25, gt=0, le=1)
    """Least share of the original's words, those apart that are to go or say nothing alone, that a rewriting
    has; with less of them it is another text. Small teachers stray often."""
    unmended: Literal["reject", "keep"] = "reject"
    """What becomes of a row when no attempt succeeds: it is rejected, or stays as it was."""
    only_rewritten: bool = False
    """Leave rows without bound terms out instead of passing them on as they are."""
    sampling: SamplingSettings = SamplingSettings(temperature=0.7, max_tokens=512)
    """Not stated in the study. `max_tokens` has to hold the longest row."""
    render: Literal["raw", "chat"] = "chat"
    """Leaving words out is asked of a model that follows instructions."""
    rewrite: str = REWRITE
    """Jinja template of the request; may name terms, header (what is rewritten), others (names of the other
    fields), text_type, verbalizer, length, style."""
    _digest: str | None = PrivateAttr(None)

    @field_validator("terms", "keep")
    @classmethod
    def _written(cls, given: Terms | dict[str, Terms]) -> Terms | dict[str, Terms]:
        if isinstance(given, dict):
            return {label: _as_terms(phrases) for label, phrases in given.items()}
        return _as_terms(given)

    def identity(self) -> dict[str, Any]:
        # Replicas, to which the digest travels along, do not see the file.
        if self._digest is None:
            self._digest = rows_digest(self.rows)
        return super().identity() | {"rows": self._digest}

    def build(self, task: Task) -> "Rephrase":
        return Rephrase(self, task)


class Rephrase(Method):
    """Plans one item for each row, labels in turn; a row without bound terms costs no call."""

    def __init__(self, settings: RephraseSettings, task: Task) -> None:
        super().__init__(settings, task)
        self.settings = settings
        if settings.field not in task.settings.fields:
            known = ", ".join(task.settings.fields)
            raise SettingsError(f"method.field: {settings.field!r} is no field; the task has {known}")
        self._header = _headed(task, settings.field)
        heads = stops(self._header) if settings.render == "raw" else ()
        self._sampling = replace(self.sampling, stop=heads + settings.stop)
        if isinstance(settings.terms, dict) and (unknown := set(settings.terms) - set(task.labels)):
            known = ", ".join(task.labels)
            raise SettingsError(f"method.terms: {sorted(unknown)[0]!r} is no label; the task has {known}")
        for label in task.labels:
            # A template that fails has to fail here, not in every item of the night.
            self._ask(label, ("a term",))

    def bound(self, texts: Sequence[str], labels: Sequence[str]) -> list[BoundTerm]:
        """Return the terms bound in texts by the settings' measure, or how those given are bound there."""
        given = self.settings.terms
        if given:
            named = given if isinstance(given, dict) else dict.fromkeys(self.task.labels, given)
            return weigh(texts, labels, [(term, label) for label, terms in named.items() for term in terms])
        keep = {
            label: own_words(label, self.task.verbalizer(label)) | set(self.settings.keep)
            for label in self.task.labels
        }
        settings = self.settings
        limits = Thresholds(settings.min_rows, settings.odds, settings.significance, settings.most)
        return bound_terms(texts, labels, limits, keep)

    async def prepare(self, tools: Tools) -> Sources:
        rows = read_rows(self.settings.rows, self.task.settings)
        texts = [row.fields[self.settings.field] for row in rows]
        bound = self.bound(texts, [row.label for row in rows])
        avoid = by_label(bound)
        carried = [terms_in(text, avoid.get(row.label, ())) for text, row in zip(texts, rows, strict=True)]
        if not any(carried):
            raise DataError(
                f"method.rows: {self.settings.rows}: none of {len(rows)} rows has a term bound to its label "
                "by these settings: there is nothing to rephrase. Lower method.min_rows or method.odds, or "
                "name method.terms"
            )
        names = [row.label for row in rows]
        fields = [list(row.fields.items()) for row in rows]
        columns = {"id": [row.id for row in rows], "label": names, "fields": fields, "terms": carried}
        return {
            "terms": pa.Table.from_pylist([each._asdict() for each in bound]),
            "rows": pa.table(columns, schema=_ROWS),
        }

    def plan(self, sources: Sources, round: int, feedback: Feedback) -> Iterator[Slot]:
        rows, position = sources["rows"].combine_chunks(), count()
        avoid = _avoid(sources["terms"])
        places = self._places(sources)
        labels = [(label,) for label in places]
        for turn in zip_longest(*places.values()):
            for label, at in zip(labels, turn, strict=True):
                if at is not None:
                    place = next(position)
                    told = avoid.get(label[0], ())
                    yield Slot(place, label, partial(self._item, round, place, label, rows, at, told))

    def _places(self, sources: Sources) -> dict[str, list[int]]:
        """Return, for each label, where its rows stand that are to be worked."""
        rows = sources["rows"]
        places: dict[str, list[int]] = {label: [] for label in self.task.labels}
        for at, (label, terms) in enumerate(
            zip(rows["label"].to_pylist(), rows["terms"].to_pylist(), strict=True)
        ):
            if terms or not self.settings.only_rewritten:
                places[label].append(at)
        return places

    def _item(
        self, round: int, position: int, labels: tuple[str, ...], rows: pa.Table, at: int, avoid: Terms
    ) -> Item:
        # Not as a document: what stays close to its original would be refused as a copy of one.
        attributes = {f"{ORIGINAL}{name}": text for name, text in rows["fields"][at].as_py()}
        if terms := rows["terms"][at].as_py():
            others = [term for term in avoid if term not in terms]
            attributes |= {"terms": _COMMA.join(terms), "avoid": _COMMA.join([*terms, *others])}
        return make_item(
            self.plan_key, round, position, labels, seed_id=rows["id"][at].as_py(), attributes=attributes
        )

    def capacity(self, sources: Sources) -> Mapping[str, int]:
        return {label: len(places) for label, places in self._places(sources).items()}

    async def examples(self, item: Item, generate: Generate) -> list[Example | Rejection]:
        fields, label = _original(item), item.labels[0]
        if "terms" not in item.attributes:
            return [Example(fields, label, {"rephrased": "no"})]
        prompt, sampling, avoid = self.prompt(item), self._sampling, item.attributes["avoid"].split(_COMMA)
        attempt = 1
        while True:
            text, reason = self._read(await generate(prompt, sampling), fields[self.settings.field], avoid)
            if reason is None:
                told = {"rephrased": "yes", "attempts": str(attempt)}
                return [Example({**fields, self.settings.field: text}, label, told)]
            if attempt == self.settings.attempts:
                break
            attempt += 1
            prompt, sampling = self.prompt(item, terms_in(text, avoid)), _warmer(sampling)
        if self.settings.unmended == "keep":
            return [Example(fields, label, {"rephrased": "no", "why": reason, "attempts": str(attempt)})]
        return [Rejection(reason, text, label)]

    def prompt(self, item: Item, remained: Sequence[str] = ()) -> Prompt:
        """Return the prompt of an item that has bound terms; a further attempt names those that remained.

        It does not show the attempt before: small models would write it once more.
        """
        ask = self._ask(item.labels[0], item.attributes["avoid"].split(_COMMA))
        if remained:
            named = '", "'.join(remained)
            ask += f' Above all, leave out "{named}".'
        fields = {_headed(self.task, name): text for name, text in _original(item).items()}
        shown = render(SHOWN, fields=fields, ask=ask)
        if self.settings.render == "raw":
            return f"{shown}\n\n{self._header}:"
        return chat([], f"{shown}\nAnswer with the new {self._header.lower()} and nothing else.")

    def _ask(self, label: str, terms: Sequence[str]) -> str:
        names = [name for name in self.task.settings.fields if name != self.settings.field]
        others = [_headed(self.task, name).lower() for name in names]
        values = task_values(self.task.settings, self.task.verbalizer(label))
        return render(self.settings.rewrite, terms=terms, header=self._header, others=others, **values)

    def _read(self, reply: Reply, original: str, avoid: Sequence[str]) -> tuple[str, str | None]:
        """Return the new text of a reply, and why it cannot be taken, if so; it never raises."""
        text, reason = rewritten(reply, original, self._header)
        if reason is None and words_of(text) == words_of(original):
            reason = "unchanged"
        if reason is None and terms_in(text, avoid):
            reason = "still_bound"
        if reason is None and self.settings.like and likeness(text, original, avoid) < self.settings.like:
            reason = "strayed"
        return text, reason


def _as_terms(phrases: Terms) -> Terms:
    written = {phrase: as_term(phrase) for phrase in phrases}
    if empty := [phrase for phrase, term in written.items() if not term]:
        raise ValueError(f"{empty[0]!r} has no word in it")
    return tuple(dict.fromkeys(written.values()))


def by_label(bound: Sequence[BoundTerm]) -> dict[str, Terms]:
    """Return the terms of each label in their order."""
    return {
        label: tuple(each.term for each in bound if each.label == label)
        for label in dict.fromkeys(each.label for each in bound)
    }


def _headed(task: Task, field: str) -> str:
    """Return what heads a field in a prompt."""
    return task.settings.text_type if field == "text" else field.replace("_", " ").capitalize()


def _avoid(terms: pa.Table) -> dict[str, Terms]:
    return by_label([BoundTerm(**row) for row in terms.to_pylist()])


def _original(item: Item) -> dict[str, str]:
    """Return the fields of the row that an item rephrases."""
    named = item.attributes.items()
    return {name.removeprefix(ORIGINAL): text for name, text in named if name.startswith(ORIGINAL)}


def _warmer(sampling: Sampling) -> Sampling:
    # A greedy teacher would bring the same reply again.
    return sampling if sampling.temperature else replace(sampling, temperature=RETRY_TEMPERATURE)

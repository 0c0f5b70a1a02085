"""All filters of a run, applied to what a method made of an item."""

from collections.abc import Sequence
from functools import lru_cache

from synth.filters.copying import Document, Rows, copied, runs
from synth.filters.language import in_language, in_scripts, scripts_of
from synth.filters.leaking import Leaks
from synth.filters.minhash import signature
from synth.filters.reading import Reading
from synth.filters.refusals import refuses
from synth.filters.repeating import repeats
from synth.filters.settings import FilterSettings
from synth.records import Example, Item, Rejection
from synth.task import Gold, Task

_MAIN = "text"


class Sieve:
    """Turns examples that a filter refuses into rejections, and signs the others.

    Building it reads seeds and test rows once: about 8 bytes a word of them, and 20 µs a row.
    """

    def __init__(self, settings: FilterSettings, task: Task, test: Sequence[Gold]) -> None:
        self._settings = settings
        self._scripts = scripts_of(task) if settings.language == "auto" else frozenset[str]()
        self._leaks = Leaks(task, settings.label_leak == "anywhere") if settings.label_leak else None
        self._limits = _limits(settings)
        self._known = [
            (reason, Rows(text for row in rows for text in row.fields.values()))
            for reason, rows in (("copies_test", test), ("copies_seed", task.seeds))
            if rows and reason in self._limits
        ]
        self._seed_ids = frozenset(seed.id for seed in task.seeds)
        # Items that lie near one another in a plan share documents and shots.
        self._document = lru_cache(256)(Document)

    def sift(self, item: Item, outcomes: Sequence[Example | Rejection]) -> list[Example | Rejection]:
        """Return the outcomes in their order; it never raises, whatever the texts are.

        Fields that are no texts, which is a mistake of the method, are left to the ledger's schema.
        """
        return [
            self._judged(item, each)
            if isinstance(each, Example) and all([isinstance(text, str) for text in each.fields.values()])
            else each
            for each in outcomes
        ]

    def _judged(self, item: Item, example: Example) -> Example | Rejection:
        for name, text in example.fields.items():
            if not text.isascii() and text != (written := text.encode("utf-8", "replace").decode()):
                return Rejection(_in("broken_text", name), written, example.label)
        fields = {name: Reading(text) for name, text in example.fields.items()}
        if (reason := self._length(fields)) is not None:
            return _rejected(example, reason, _MAIN)
        for name, reading in fields.items():
            if (reason := self._alone(reading, example)) is not None:
                return _rejected(example, _in(reason, name), name)
        if (reason := self._copied(item, list(fields.values()))) is not None:
            return _rejected(example, reason, _MAIN)
        if self._settings.near_duplicates is None:
            return example
        signed = signature(list(fields.values()))
        return Example(example.fields, example.label, example.extra, example.verdicts, signed)

    def _length(self, fields: dict[str, Reading]) -> str | None:
        lengths = [reading.length for reading in fields.values()]
        least, most = self._settings.min_words, self._settings.max_words
        if least is not None and (sum(lengths) < least or not all([r.words for r in fields.values()])):
            return "too_short"
        return "too_long" if most is not None and sum(lengths) > most else None

    def _alone(self, reading: Reading, example: Example) -> str | None:
        """Judge one text by itself."""
        settings, labels = self._settings, example.label
        if settings.refusal and refuses(reading):
            return "refusal"
        if self._scripts and not in_scripts(reading.text, self._scripts):
            return "wrong_language"
        if settings.language not in (None, "auto") and not in_language(reading.text, settings.language or ""):
            return "wrong_language"
        if self._leaks and self._leaks.found(reading, (labels,) if isinstance(labels, str) else labels):
            return "label_leak"
        if settings.repetition is not None and repeats(reading, settings.repetition):
            return "repetition"
        return None

    def _copied(self, item: Item, fields: Sequence[Reading]) -> str | None:
        """Judge an example by what it may be a copy of."""
        if not (self._known or item.documents or item.shots):
            return None
        limits, wanted = self._limits, [runs(reading) for reading in fields]
        for reason, rows in self._known:
            if copied(wanted, rows, limits[reason]):
                return reason
        # Shots that are seeds were looked at as seeds.
        shown = [shot.text for shot in item.shots if shot.id not in self._seed_ids]
        named = [document.text for document in item.documents]
        for reason, texts in (("copies_shot", shown), ("copies_document", named)):
            least = limits.get(reason)
            if least is not None and any([copied(wanted, self._document(text), least) for text in texts]):
                return reason
        return None


def _limits(settings: FilterSettings) -> dict[str, float]:
    """Return the share of each kind of copy from which on it is refused."""
    shares = {
        "copies_test": settings.copies_test,
        "copies_seed": settings.copies_seed,
        "copies_shot": settings.copies_seed,
        "copies_document": settings.copies_document,
    }
    return {reason: share for reason, share in shares.items() if share is not None}


def _in(reason: str, field: str) -> str:
    """Name the field in a reason, unless it is the main one."""
    return reason if field == _MAIN else f"{reason} in {field}"


def _rejected(example: Example, reason: str, field: str) -> Rejection:
    return Rejection(reason, example.fields.get(field, ""), example.label)

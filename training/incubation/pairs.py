"""Pairs of an instruction and a dictionary, drawn from labelled rows (Incubator 2404.10877, first stage)."""

import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cluster.errors import DataError, SettingsError
from retrieval.reading.sentences import SENTENCE_END
from synth.task import Task, TaskSettings
from training.incubation.settings import PairSettings
from training.incubation.wordings import worded

OTHER = "Other"
ANYTHING_ELSE = "anything that is none of the other labels"
"""What `Other` means, where a prompt shows the phrases of labels."""
_INITIAL = re.compile(r"\b[A-Z]\.$")
_NO_ROWS = {"seeds": None, "train": None, "test": None}


@dataclass(frozen=True, slots=True)
class Pair:
    """A task as its instruction asks for it, and a text for each of its labels, in their order."""

    task: TaskSettings
    texts: Mapping[str, str]

    @property
    def reply(self) -> str:
        """The dictionary as a tuned teacher is to write it: JSON on one line."""
        return json.dumps(dict(self.texts), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Drawn:
    """The pairs of one dataset, and what became of its rows."""

    pairs: tuple[Pair, ...]
    rows: int
    """Rows that could be used."""
    left_out: Mapping[str, int]
    """Rows that could not: `no sentence ends within the length`, `two labels`, `only a label's name`."""
    used_up: str | None
    """The label whose rows ended the pairs early."""


def draw_pairs(task: Task, settings: PairSettings, seed: int, rewordings: Sequence[str] = ()) -> Drawn:
    """Draw the pairs of a dataset, whose rows are the task's seeds: pure, and the same each time.

    No row serves twice, so that the pairs end when a label that is asked for has no row left. With
    rewordings, by a stronger teacher, instructions are drawn from them and the task's own.
    Errors: SettingsError for a task of several fields; DataError for a label without a usable row.
    """
    name = task.settings.name
    if task.settings.fields != ("text",):
        raise SettingsError(f"incubation.datasets: {name}: has several fields; only `text` can be written")
    rng = random.Random(f"{seed}:{name}")
    texts, left_out = _usable(task, settings.letters)
    rows = sum(map(len, texts.values()))
    if lacking := [label for label in task.labels if not texts[label]]:
        raise DataError(
            f"incubation.datasets: {name}: no row of {lacking[0]!r} can be used ({_told(left_out)}); add "
            "rows to its `seeds`, or raise incubation.pairs.letters"
        )
    for label in task.labels:
        rng.shuffle(texts[label])
    pairs: list[Pair] = []
    while len(pairs) < settings.per_dataset:
        sources = _sources(task.labels, settings, rng)
        if (spent := next((label for label in sources.values() if not texts[label]), None)) is not None:
            return Drawn(tuple(pairs), rows, left_out, spent)
        asked = _asked(task.settings, [*sources], settings, rng, rewordings)
        pairs.append(Pair(asked, {label: texts[source].pop() for label, source in sources.items()}))
    return Drawn(tuple(pairs), rows, left_out, None)


def cut(text: str, letters: int) -> str | None:
    """Return a text on one line, cut back to a sentence end where it is too long; None without one."""
    line = " ".join(text.split())
    if len(line) <= letters:
        return line
    found = (match.end() for match in SENTENCE_END.finditer(line[: letters + 1]))
    ends = [end for end in found if end <= letters and not _INITIAL.search(line[:end])]
    return line[: ends[-1]] if ends else None


def _usable(task: Task, letters: int) -> tuple[dict[str, list[str]], Counter[str]]:
    """Return each label's texts, cut, each once, and counts of the rows that are left out."""
    owners: dict[str, set[str]] = {}
    found: dict[str, list[str]] = {label: [] for label in task.labels}
    left_out: Counter[str] = Counter()
    names = {name.casefold() for name in (*task.labels, *task.settings.labels.values())}
    for seed in task.seeds:
        text = cut(seed.text, letters)
        if text is None:
            left_out["no sentence ends within the length"] += 1
        elif text.casefold() in names:
            left_out["only a label's name"] += 1
        else:
            owners.setdefault(text.casefold(), set()).add(seed.label)
            found[seed.label].append(text)
    # What has two labels is true of neither beside the other.
    for label, texts in found.items():
        clear = {text.casefold(): text for text in texts if len(owners[text.casefold()]) == 1}
        left_out["two labels"] += sum(len(owners[text.casefold()]) > 1 for text in texts)
        found[label] = list(clear.values())
    return found, left_out


def _sources(labels: Sequence[str], settings: PairSettings, rng: random.Random) -> dict[str, str]:
    """Return the labels that a pair names, in order, each with the label whose row it takes."""
    varied = rng.random() < settings.vary
    most = min(len(labels), settings.labels)
    if not varied:
        kept = set(rng.sample(range(len(labels)), most)) if most < len(labels) else range(len(labels))
        return {label: label for place, label in enumerate(labels) if place in kept}
    if rng.random() < settings.other and OTHER.casefold() not in map(str.casefold, labels):
        named = rng.sample(labels, rng.randint(1, min(most, len(labels)) - 1))
        outside = rng.choice([label for label in labels if label not in named])
        return {label: label for label in named} | {OTHER: outside}
    return {label: label for label in rng.sample(labels, rng.randint(2, most))}


def _asked(
    task: TaskSettings,
    labels: Sequence[str],
    settings: PairSettings,
    rng: random.Random,
    rewordings: Sequence[str],
) -> TaskSettings:
    """Return the task that names just these labels, in one of its wordings."""
    named = {label: task.labels.get(label, ANYTHING_ELSE) for label in labels}
    bare = task.model_copy(update=_NO_ROWS | {"labels": named})
    if rewordings:
        return bare.model_copy(update={"instruction": rng.choice([task.instruction, *rewordings])})
    return bare.model_copy(update={"instruction": worded(bare, rng)}) if settings.wordings else bare


def instructions(task: Task, drawn: Drawn, labels: int) -> Iterator[TaskSettings]:
    """Yield tasks to sample dictionaries of: a dataset's own, then those of its pairs that differ from it.

    Its own is left out when it has more labels than the most of a pair: no such dictionary was learnt.
    """
    own = [task.settings.model_copy(update=_NO_ROWS)] if len(task.labels) <= labels else []
    seen: set[tuple[str, ...]] = set()
    for each in (*own, *(pair.task for pair in drawn.pairs)):
        identity = (each.instruction, *each.labels)
        if identity not in seen:
            seen.add(identity)
            yield each


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason}: {number}" for reason, number in counts.items()) or "there are none"

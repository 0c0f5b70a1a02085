"""Self-diversification of a tuned teacher (Incubator 2404.10877): of many dictionaries the middle ones."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from cluster.models import resolve_model
from cluster.settings import digest
from cluster.storage import Store
from jobs.dictionaries import Answers, Question, answers
from jobs.pooled import pooled
from jobs.stage import Stage
from retrieval.documents import DOCUMENT_SCHEMA
from retrieval.embedding import embed
from retrieval.layout import Part
from retrieval.tables import write_table
from retrieval.vectors import map_vectors
from synth.method import Generate
from training.incubation.diversify import Selection, Texts, distinct, diversified, too_few
from training.incubation.settings import DiversifySettings


@dataclass(frozen=True, slots=True)
class Diverse:
    """The second stage's rows to tune on, and what metrics.json tells of each instruction."""

    lessons: tuple[dict[str, Any], ...]
    told: tuple[dict[str, Any], ...]


def diverse(
    stage: Stage, asked: Sequence[Question], settings: DiversifySettings, model: str, seed: int
) -> Diverse:
    """Ask a tuned teacher for many dictionaries of each question, and keep the most diverse.

    Replies stay in `incubation/sampled/`, vectors in `incubation/vectors/`: neither is made twice.
    """
    teacher = stage.recipe.teacher.resolve().model_copy(update={"model": model})

    async def sample(generate: Generate) -> list[Answers]:
        return await asyncio.gather(*(answers(each, settings.dictionaries, generate) for each in asked))

    found = pooled(stage, "incubation/sampled", teacher, teacher.check(), sample)
    groups = [
        distinct(each.dictionaries, question.labels) for question, each in zip(asked, found, strict=True)
    ]
    selections = _selections(stage, settings, groups, seed)
    told = tuple(map(_told, asked, found, selections))
    kept = tuple(
        question.lesson(dict(zip(question.labels, texts, strict=True)))
        for question, selection in zip(asked, selections, strict=True)
        for texts in selection.kept
    )
    share = sum(len(each.dictionaries) for each in found) / max(1, sum(each.asked for each in found))
    stage.progress.step(
        "incubation_dictionaries",
        f"Incubation: {share:.0%} of the replies are whole dictionaries; {len(kept)} of "
        f"{sum(map(len, groups))} distinct ones are kept",
        instructions=told,
    )
    return Diverse(kept, told)


def _selections(
    stage: Stage, settings: DiversifySettings, groups: Sequence[Sequence[Texts]], seed: int
) -> list[Selection]:
    """Embed the dictionaries of all instructions over the cluster, and choose among those of each."""
    encoder = settings.encoder
    reads = encoder.model_dump(mode="json", include={"preset", "max_tokens", "dtype"})
    key = digest([resolve_model(encoder.model).revision, reads])[:16]
    store = stage.run.within(f"incubation/vectors/{key}")
    parts = {
        place: _part(store, group) for place, group in enumerate(groups) if too_few(group, settings) is None
    }

    def show(step: str, done: int, total: int) -> None:
        stage.progress.live(
            "incubation", f"Incubation: {step} {done}/{total}", step=step, done=done, total=total
        )

    embed(store, list(parts.values()), encoder, show)
    return [
        diversified(group, map_vectors(store, parts[place]), settings, seed)
        if place in parts
        else Selection((), len(group), skipped=too_few(group, settings))
        for place, group in enumerate(groups)
    ]


def _part(store: Store, group: Sequence[Texts]) -> Part:
    """Put the texts of some dictionaries where they are embedded; the same texts have the same name."""
    texts = [text for each in group for text in each]
    part = Part(digest(texts)[:16], len(texts))
    if not store.exists(part.documents_key):
        columns = {"id": [str(place) for place in range(len(texts))], "text": texts}
        empty = {"title": [None] * len(texts), "tokens": [None] * len(texts)}
        write_table(store, part.documents_key, pa.table(columns | empty, schema=DOCUMENT_SCHEMA))
    return part


def _told(question: Question, found: Answers, selection: Selection) -> dict[str, Any]:
    return {
        "dataset": question.task.name,
        "instruction": question.task.instruction,
        "labels": list(question.labels),
        "asked": found.asked,
        "whole": len(found.dictionaries),
        "refused": dict(found.refused),
        "distinct": selection.distinct,
        "kept": len(selection.kept),
        "skipped": selection.skipped,
        "before": asdict(selection.before) if selection.before else None,
        "after": asdict(selection.after) if selection.after else None,
    }

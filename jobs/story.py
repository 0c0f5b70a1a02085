"""Everything a run folder knows of one row: what became of it, what it was made from, and its prompt."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import DataError, StorageError
from cluster.lease import part_place, valid_parts
from cluster.ledger import read_part
from cluster.presence import Sitting, read_sitting
from cluster.rundir import read_metrics, read_run
from cluster.storage import Store
from jobs.rebuilding import Rebuilt, rebuild, versions_apart
from jobs.verdicts import verdict_of
from synth.prompting import as_text
from synth.task import Gold

WIDTH = 32
"""Characters of an item's id."""
SHORTEST = 8
READERS = 8
SHOWN = 5
_ROW = re.compile(rf"([0-9a-f]{{{SHORTEST},{WIDTH}}})(?:-(\d+))?")
_MAPS = ("attributes", "extra", "verdicts")


@dataclass(frozen=True, slots=True)
class Source:
    """A text that a row was made from, as far as it is known."""

    id: str
    text: str | None = None
    label: str | None = None
    score: float | None = None
    rank: int | None = None
    document: str | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """Everything known of one item and its rows."""

    run: str
    rows: Sequence[Mapping[str, Any]]
    """The rows asked for, as the ledger has them."""
    others: Sequence[Mapping[str, Any]]
    """The other rows of the item."""
    verdicts: Mapping[str, str]
    """What became of every row of the item, by row id."""
    fields: Sequence[str]
    seed: Source | None
    documents: Sequence[Source]
    shots: Sequence[Source]
    part: str
    sitting: Sitting | None
    prompt: str | None
    prompt_hash: str | None
    checked: bool | None
    """Whether the prompt's hash is that of the ledger; None when one of them is missing."""
    doubts: Sequence[str] = field(default_factory=list)


def tell(store: Store, name: str) -> Story:
    """Return the story of a row or an item; DataError when no row, or more than one item, has such an id."""
    match = _ROW.fullmatch(name.strip().lower())
    if match is None:
        raise DataError(
            f"{name}: is no id; give a row's id from the column `id` of the dataset, an item's id, or at "
            f"least its first {SHORTEST} characters"
        )
    part, every = _rows_of(store, match[1], name)
    asked = [row for row in every if match[2] is None or row["piece"] == int(match[2])]
    if not asked:
        raise DataError(f"{name}: item {every[0]['item_id']} has no piece {match[2]}, only {_pieces(every)}")
    record, first = read_run(store), every[0]
    made = rebuild(store, record, first)
    hashes = first["prompt_hashes"] or []
    checked = made.hash == hashes[0] if made.hash and hashes else None
    if checked is False:
        made.doubts.append(
            "the prompt as it is built now differs from the one that was sent: "
            + (versions_apart(record) or "the code of the method, or a library it renders with, has changed")
        )
    metrics = read_metrics(store)
    return Story(
        run=str(record.get("run") or store.url),
        rows=asked,
        others=[row for row in every if row not in asked],
        verdicts={row["row_id"]: verdict_of(store, row, metrics) for row in every},
        fields=_fields(record, made, first),
        seed=_seed(made, first["seed_id"]),
        documents=list(_documents(made, first)),
        shots=list(_shots(made, first["shot_ids"] or [])),
        part=part,
        sitting=_sitting(store, part),
        prompt=None if made.prompt is None else as_text(made.prompt),
        prompt_hash=made.hash,
        checked=checked,
        doubts=made.doubts,
    )


def _rows_of(store: Store, prefix: str, name: str) -> tuple[str, list[dict[str, Any]]]:
    """Return the key of the part that holds an item, and the item's rows in order."""
    found: dict[str, str] = {}
    count = 0
    for key, ids in _ids_by_part(store):
        count += 1
        for item in pc.unique(ids.filter(pc.starts_with(ids, prefix))).to_pylist():
            # Of an item found twice the first part counts.
            found.setdefault(item, key)
        if found and len(prefix) == WIDTH:
            break
    if len(found) > 1:
        some = ", ".join(sorted(found)[:SHOWN])
        raise DataError(f"{name}: {len(found)} items begin so, for example {some}; give more characters")
    if not found:
        raise DataError(
            f"{name}: is in none of the {count} parts of {store.url}/ledger; rows that are under way are "
            "written every few seconds"
        )
    ((item, key),) = found.items()
    rows = read_part(store, key).filter(pc.field("item_id") == item).sort_by("piece").to_pylist()
    return key, [row | {each: dict(row.get(each) or ()) for each in _MAPS} for row in rows]


def _ids_by_part(store: Store) -> Iterator[tuple[str, pa.ChunkedArray]]:
    keys = valid_parts(store)
    readers = ThreadPoolExecutor(READERS, thread_name_prefix="ledger")
    try:
        for start in range(0, len(keys), READERS):
            some = keys[start : start + READERS]
            tables = readers.map(lambda key: read_part(store, key, ["item_id"]), some)
            yield from zip(some, (table["item_id"] for table in tables), strict=True)
    finally:
        readers.shutdown(cancel_futures=True)


def _pieces(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(str(row["piece"]) for row in rows)


def _fields(record: Mapping[str, Any], made: Rebuilt, row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the task's text fields."""
    if made.task is not None:
        return made.task.settings.fields
    task = (record.get("resolved") or {}).get("task")
    given = task.get("fields") if isinstance(task, dict) else None
    return tuple(name for name in given or ("text",) if name in row)


def _seed(made: Rebuilt, seed_id: str | None) -> Source | None:
    if seed_id is None:
        return None
    gold = _gold(made).get(seed_id)
    return Source(seed_id, gold.text, gold.label) if gold else Source(seed_id)


def _gold(made: Rebuilt) -> dict[str, Gold]:
    """Return the seeds by id, those that the teacher wrote among them."""
    given = made.task.seeds if made.task else ()
    table = made.sources.get("seeds")
    rows = (
        table.to_pylist() if table is not None and {"id", "text", "label"} <= set(table.column_names) else []
    )
    written = (Gold(row["id"], {"text": row["text"]}, row["label"]) for row in rows)
    return {seed.id: seed for seed in (*written, *given)}


def _documents(made: Rebuilt, row: Mapping[str, Any]) -> Iterator[Source]:
    texts = {each.id: each.text for each in made.item.documents} if made.item else {}
    ids, scores = row["document_ids"] or [], row["document_scores"] or []
    for id, score in zip(ids, scores, strict=True):
        text = texts.get(id) or _source_text(made, id)
        yield Source(id, text, score=score, rank=_rank(made, row["seed_id"], id))


def _source_text(made: Rebuilt, id: str) -> str | None:
    table = made.sources.get("documents")
    if table is None or not {"id", "text"} <= set(table.column_names):
        return None
    return next(iter(table.filter(pc.field("id") == id)["text"].to_pylist()), None)


def _rank(made: Rebuilt, seed_id: str | None, id: str) -> int | None:
    table = made.sources.get("hits")
    if table is None or not {"seed_id", "document_id", "rank"} <= set(table.column_names):
        return None
    mine = (pc.field("seed_id") == seed_id) & (pc.field("document_id") == id)
    return next(iter(table.filter(mine)["rank"].to_pylist()), None)


def _shots(made: Rebuilt, ids: Sequence[str]) -> Iterator[Source]:
    shown, gold = {each.id: each for each in made.item.shots} if made.item else {}, _gold(made)
    for id in ids:
        if id in shown:
            yield Source(id, shown[id].text, document=shown[id].document)
        elif (seed := gold.get(id.partition("/")[0])) is not None:
            yield Source(id, seed.text, seed.label)
        else:
            yield Source(id)


def _sitting(store: Store, part: str) -> Sitting | None:
    place = part_place(part)
    if place is None:
        return None
    try:
        return read_sitting(store, place[0])
    except (StorageError, json.JSONDecodeError, KeyError):
        return None  # A run folder that was copied may have come without its lease.

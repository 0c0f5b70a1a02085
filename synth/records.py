"""What flows through a run: items, prompts, replies, examples, rejections, and their ledger rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import Any

import pyarrow as pa

from cluster.settings import digest


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat prompt; role is system, user or assistant."""

    role: str
    content: str


Prompt = str | tuple[Message, ...]
"""A raw continuation (str) or a chat."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a teacher samples; max_tokens counts reply tokens."""

    temperature: float = 0.95
    top_p: float = 0.9
    max_tokens: int = 200
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """A teacher's reply; finish_reason is `stop` (ended by itself) or `length` (cut off)."""

    text: str
    finish_reason: str
    prompt_tokens: int
    reply_tokens: int


@dataclass(frozen=True, slots=True)
class Grounding:
    """A document (or other source text) an item is grounded in; score is the retriever's."""

    id: str
    text: str
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Shot:
    """A worked example in a prompt; document is what it was written from, if anything."""

    id: str
    text: str
    document: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One unit of a plan: labels plus grounding. Build it with `make_item`."""

    id: str
    round: int
    position: int
    labels: tuple[str, ...]
    draw: int = 0
    seed_id: str | None = None
    documents: tuple[Grounding, ...] = ()
    shots: tuple[Shot, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


def make_item(plan_key: str, round: int, position: int, labels: tuple[str, ...], **grounding: Any) -> Item:
    """Build an item whose id hashes what determines its content.

    plan_key is the hash of task and method settings; the id covers it with round, labels, the ids of all
    grounding and the draw ordinal. Position, targets, limits and cluster shape stay outside.
    """
    item = Item(id="", round=round, position=position, labels=labels, **grounding)
    identity = [
        plan_key,
        round,
        list(labels),
        item.draw,
        item.seed_id,
        [document.id for document in item.documents],
        [shot.id for shot in item.shots],
        dict(item.attributes),
    ]
    return Item(**(_shallow(item) | {"id": digest(identity)}))


def _shallow(item: Item) -> dict[str, Any]:
    return {name: getattr(item, name) for name in Item.__slots__}


@dataclass(frozen=True, slots=True)
class Call:
    """One teacher call a method's `prepare` asks for; it runs through the pool like an item."""

    id: str
    prompt: Prompt
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Example:
    """An accepted text with its label; `extra` holds what only one method knows."""

    fields: Mapping[str, str]
    label: str | tuple[str, ...]
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A refused text with its reason; data, not an exception."""

    reason: str
    text: str
    label: str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """One teacher call as recorded: hash of the prompt, sampling, and token counts."""

    prompt_hash: str
    sampling: Sampling
    prompt_tokens: int
    reply_tokens: int


@dataclass(frozen=True, slots=True)
class Author:
    """Who wrote a row."""

    method: str
    teacher: str
    revision: str


def prompt_hash(prompt: Prompt) -> str:
    """Hash a prompt to 32 hexadecimal characters."""
    return digest(prompt if isinstance(prompt, str) else [[turn.role, turn.content] for turn in prompt])


def text_hash(text: str) -> int:
    """Hash a text without regard to case and spacing to a signed 64-bit integer, for exact duplicates."""
    normal = " ".join(text.casefold().split())
    return int.from_bytes(blake2b(normal.encode(), digest_size=8).digest(), "big", signed=True)


def ledger_schema(fields: Sequence[str]) -> pa.Schema:
    """Return the Arrow schema of ledger rows: one column per text field, then status and provenance.

    Token counts are those of all calls of an item and stand on its first row (piece 0), so that sums are
    right; `prompt_hashes` lists the calls in order.
    """
    strings = pa.list_(pa.string())
    pairs = pa.map_(pa.string(), pa.string())
    return pa.schema(
        [
            ("row_id", pa.string()),
            ("item_id", pa.string()),
            ("round", pa.int32()),
            ("position", pa.int64()),
            ("piece", pa.int32()),
            ("status", pa.string()),
            ("reason", pa.string()),
            ("labels", strings),
            *((name, pa.string()) for name in fields),
            ("text_hash", pa.int64()),
            ("method", pa.string()),
            ("teacher", pa.string()),
            ("revision", pa.string()),
            ("seed_id", pa.string()),
            ("shot_ids", strings),
            ("document_ids", strings),
            ("document_scores", pa.list_(pa.float32())),
            ("attributes", pairs),
            ("extra", pairs),
            ("verdicts", pairs),
            ("prompt_hashes", strings),
            ("sampling", pa.string()),
            ("prompt_tokens", pa.int64()),
            ("reply_tokens", pa.int64()),
        ]
    )


def settled_rows(
    item: Item, outcomes: Sequence[Example | Rejection], calls: Sequence[Usage], author: Author, main: str
) -> list[dict[str, Any]]:
    """Return the ledger rows that settle an item; `main` names the field a rejected text is kept in."""
    common = _common(item, calls, author)
    rows = []
    for piece, outcome in enumerate(outcomes):
        label = outcome.label
        row = common | {
            "row_id": f"{item.id}-{piece}",
            "piece": piece,
            "labels": [label] if isinstance(label, str) else list(label),
            "prompt_tokens": common["prompt_tokens"] if piece == 0 else 0,
            "reply_tokens": common["reply_tokens"] if piece == 0 else 0,
        }
        if isinstance(outcome, Example):
            row |= {"status": "accepted", "extra": list(outcome.extra.items()), **outcome.fields}
            row["text_hash"] = text_hash("\n".join(outcome.fields.values()))
        else:
            row |= {"status": "rejected", "reason": outcome.reason, main: outcome.text}
        rows.append(row)
    return rows


def failed_row(item: Item | Call, reason: str, author: Author) -> dict[str, Any]:
    """Return the one row that settles an item which could not be worked."""
    common = _common(item, [], author) if isinstance(item, Item) else {"item_id": item.id}
    labels = list(item.labels) if isinstance(item, Item) else []
    return common | {
        "row_id": f"{item.id}-0",
        "piece": 0,
        "status": "failed",
        "reason": reason,
        "labels": labels,
    }


def prepared_row(call: Call, reply: Reply, author: Author) -> dict[str, Any]:
    """Return the row that keeps the reply to a call of `prepare`."""
    return {
        "row_id": f"{call.id}-0",
        "item_id": call.id,
        "piece": 0,
        "status": "prepared",
        "reason": reply.finish_reason,
        "text": reply.text,
        "teacher": author.teacher,
        "revision": author.revision,
        "method": author.method,
        "prompt_hashes": [prompt_hash(call.prompt)],
        "sampling": json.dumps(asdict(call.sampling)),
        "prompt_tokens": reply.prompt_tokens,
        "reply_tokens": reply.reply_tokens,
    }


def _common(item: Item, calls: Sequence[Usage], author: Author) -> dict[str, Any]:
    return {
        "item_id": item.id,
        "round": item.round,
        "position": item.position,
        "method": author.method,
        "teacher": author.teacher,
        "revision": author.revision,
        "seed_id": item.seed_id,
        "shot_ids": [shot.id for shot in item.shots],
        "document_ids": [document.id for document in item.documents],
        "document_scores": [document.score for document in item.documents],
        "attributes": list(item.attributes.items()),
        "prompt_hashes": [call.prompt_hash for call in calls],
        "sampling": json.dumps(asdict(calls[0].sampling)) if calls else None,
        "prompt_tokens": sum(call.prompt_tokens for call in calls),
        "reply_tokens": sum(call.reply_tokens for call in calls),
    }

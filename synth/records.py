"""What flows through a run: items, prompts, replies, examples and rejections."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.settings import digest


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat prompt; role is system, user or assistant."""

    role: str
    content: str


Prompt = str | tuple[Message, ...]
"""A raw continuation (str) or a chat."""


@dataclass(frozen=True, slots=True)
class Structure:
    """What a reply has to be: JSON that fits a schema, or one of some texts. Exactly one of both is given."""

    json_schema: str | None = None
    """A JSON schema as canonical JSON text: engines compile each distinct text once."""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Against:
    """Prompts of other labels that a reply has to keep off from (self-debiasing, in ZeroGen 2202.07922).

    Each token's probability p is multiplied by max(floor, exp(-decay * max(0, q - p))), where q is the
    highest that it has after one of the prompts and the same reply so far.
    """

    prompts: tuple[str, ...]
    decay: float
    floor: float


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a teacher samples; max_tokens counts reply tokens."""

    temperature: float = 0.95
    top_p: float = 0.9
    max_tokens: int = 200
    stop: tuple[str, ...] = ()
    structure: Structure | None = field(default=None, repr=False)
    """The form of the reply. Engines that can hold it to the form do; `synth.structured` reads what comes."""
    against: Against | None = field(default=None, repr=False)
    """Only teachers with the ability `self-debiasing` look at it; `MethodSettings.needs` asks for one."""


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


def make_item(
    plan_key: str,
    round: int,
    position: int,
    labels: tuple[str, ...],
    *,
    draw: int = 0,
    seed_id: str | None = None,
    documents: tuple[Grounding, ...] = (),
    shots: tuple[Shot, ...] = (),
    attributes: Mapping[str, str] | None = None,
) -> Item:
    """Build an item whose id hashes what determines its content.

    plan_key is the hash of task and method settings; the id covers it with round, labels, the ids of all
    grounding and the draw ordinal. Position, targets, limits and cluster shape stay outside.
    """
    given = {} if attributes is None else attributes
    named = [document.id for document in documents]
    shown = [shot.id for shot in shots]
    identity = digest([plan_key, round, list(labels), draw, seed_id, named, shown, dict(given)])
    return Item(identity, round, position, labels, draw, seed_id, documents, shots, given)


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
    verdicts: Mapping[str, str] = field(default_factory=dict)
    """What a judge said of it, and what filters found that did not reject it."""
    signature: bytes | None = None
    """MinHash signature (`synth.filters.minhash`); None when near-duplicates are not looked for."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A refused text with its reason; data, not an exception."""

    reason: str
    text: str
    label: str | tuple[str, ...]
    verdicts: Mapping[str, str] = field(default_factory=dict)
    """What a judge said of it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """One teacher call as recorded: hash of the prompt, sampling, and token counts."""

    prompt_hash: str
    sampling: Sampling
    prompt_tokens: int
    reply_tokens: int
    judge: bool = False
    """Whether a judge with a teacher of its own was asked: its tokens have another price."""


@dataclass(frozen=True, slots=True)
class Author:
    """Who wrote a row."""

    method: str
    teacher: str
    revision: str


def prompt_hash(prompt: Prompt) -> str:
    """Hash a prompt to 32 hexadecimal characters."""
    return digest(prompt if isinstance(prompt, str) else [[turn.role, turn.content] for turn in prompt])

"""What a request looks like, and what of it this endpoint does not take: learnt from its refusals."""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from synth.records import Message, Prompt, Sampling, Structure
from synth.teachers.endpoint_faults import Fault, Kind

FEW_STOPS = 4
"""Stop strings that hosted APIs take."""
CHOICE = "choice"
"""Key of the object that a choice comes in: the outermost value of a schema has to be an object."""
_NOT_TAKEN = re.compile(
    r"unsupported|not support|unrecognized|unknown|unexpected|not permitted|extra inputs|not allowed"
    r"|deprecated|only the default|cannot both|too long|at most|too many|maximum (?:of|number)|instead",
    re.I,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it is sent; `version` is that of the dialect it is written in."""

    path: str
    body: Mapping[str, Any]
    version: int
    structured: bool

    @property
    def chat(self) -> bool:
        """Whether it goes to the chat endpoint."""
        return self.path == "/chat/completions"


class Dialect:
    """Writes requests; each thing it learns makes them plainer, and is logged once."""

    def __init__(
        self,
        model: str,
        api: Literal["auto", "chat", "completions"],
        extra: Mapping[str, Any],
        template: Any = None,
    ) -> None:
        self._model, self._api, self._extra = model, api, dict(extra)
        self._template = template
        """What renders a chat as one text, for an endpoint that takes no chats."""
        self._length = "max_tokens"
        self._stops: int | None = None
        self._left_out: set[str] = set()
        self._unstructured: set[Structure] = set()
        self._version = 0

    def request(self, prompt: Prompt, sampling: Sampling, plain: bool = False) -> Request:
        """Write the request for a reply; a plain one does not say what structure the reply has to have.

        Fault when a chat is to be sent as text and nothing says how.
        """
        chat = self._api == "chat" or (self._api == "auto" and not isinstance(prompt, str))
        body = {"model": self._model} | self._prompt(prompt, chat)
        # A completion has no other name for it.
        body[self._length if chat else "max_tokens"] = sampling.max_tokens
        chosen = {"temperature": sampling.temperature, "top_p": sampling.top_p}
        body |= {name: value for name, value in chosen.items() if name not in self._left_out}
        if stops := list(sampling.stop[: self._stops]):
            body["stop"] = stops
        structure = sampling.structure
        structured = structure is not None and not plain and structure not in self._unstructured
        if structured and structure is not None:
            body["response_format"] = _response_format(structure)
        path = "/chat/completions" if chat else "/completions"
        return Request(path, body | self._extra, self._version, structured)

    def _prompt(self, prompt: Prompt, chat: bool) -> dict[str, Any]:
        if chat:
            turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
            return {"messages": [{"role": turn.role, "content": turn.content} for turn in turns]}
        if isinstance(prompt, str):
            return {"prompt": prompt}
        if self._template is None:
            remedy = "set method.render=raw, or teacher.tokenizer_model to a model with its chat template"
            raise Fault(Kind.ALL, f"teacher.api completions: this method writes chats; {remedy}")
        return {"prompt": self._template(prompt)}

    def learn(self, request: Request, fault: Fault) -> bool:
        """Take a refusal of a request in; say whether the same can be asked in plainer words now."""
        if request.version != self._version:
            # Another call has learnt something meanwhile.
            return True
        if not _NOT_TAKEN.search(fault.said):
            return False
        if self._blamed("max_tokens", fault) and request.chat and "max_completion_tokens" in fault.said:
            if self._length == "max_tokens":
                self._length = "max_completion_tokens"
                return self._learnt("max_tokens; max_completion_tokens is sent instead")
            return False
        if self._blamed("stop", fault) and request.body.get("stop"):
            self._stops = FEW_STOPS if len(request.body["stop"]) > FEW_STOPS else 0
            return self._learnt(f"so many stop strings; {self._stops} are sent, replies are cut here")
        for name in ("top_p", "temperature"):
            if self._blamed(name, fault) and name in request.body:
                self._left_out.add(name)
                return self._learnt(f"{name}; its own is used instead")
        return False

    def refused(self, structure: Structure) -> None:
        """Hear that a request was answered only without the structure it asked for."""
        if structure not in self._unstructured:
            self._unstructured.add(structure)
            self._learnt("response_format with this structure; its replies are only read for it")

    def _learnt(self, what: str) -> bool:
        self._version += 1
        log.warning("the endpoint of %s does not take %s", self._model, what)
        return True

    def _blamed(self, name: str, fault: Fault) -> bool:
        if fault.param:
            return fault.param.split(".")[-1] == name
        return re.search(rf"(?<![\w-]){name}(?![\w-])", fault.said) is not None


def _response_format(structure: Structure) -> dict[str, Any]:
    schema = (
        choice_schema(structure.choices) if structure.choices else json.loads(structure.json_schema or "{}")
    )
    asked = {"name": "reply", "schema": schema, "strict": is_strict(schema)}
    return {"type": "json_schema", "json_schema": asked}


def choice_schema(choices: Sequence[str]) -> dict[str, Any]:
    """Return the schema of an object that holds one of some texts."""
    return {
        "type": "object",
        "properties": {CHOICE: {"type": "string", "enum": list(choices)}},
        "required": [CHOICE],
        "additionalProperties": False,
    }


def chosen(text: str, structure: Structure | None) -> str:
    """Return the choice that a reply holds; the reply itself when it was not to choose, or did not."""
    if structure is None or not structure.choices:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    choice = value.get(CHOICE) if isinstance(value, dict) else None
    return choice if isinstance(choice, str) else text


def is_strict(schema: Any) -> bool:
    """Say whether hosted APIs hold replies strictly to a schema: objects have to name all they hold."""
    if isinstance(schema, list):
        return all(map(is_strict, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or isinstance(schema.get("properties"), dict):
        properties = schema.get("properties", {})
        if schema.get("additionalProperties") is not False:
            return False
        if not isinstance(properties, dict) or set(schema.get("required", ())) != set(properties):
            return False
    return all(map(is_strict, schema.values()))

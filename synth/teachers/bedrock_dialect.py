"""What a Converse request looks like, and what of it this model does not take: learnt from its refusals."""

import json
import logging
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from synth.records import Message, Prompt, Sampling, Structure
from synth.teachers.endpoint_dialect import CHOICE, choice_schema
from synth.teachers.endpoint_faults import Fault, Kind

MOST_STOPS = 4
"""Stop strings that every model on Bedrock takes that takes any."""
HOTTEST = 1.0
"""Converse's highest temperature."""
TOOL = "reply"
"""Name of the tool whose input is a structured reply: the form that most models on Bedrock can be held to."""
VALUE = "value"
"""Key of what is no object by itself: the input of a tool has to be one."""
_NOT_TAKEN = re.compile(r"n.t support|not support|unsupported|deprecated|not (?:allowed|permitted)", re.I)
_SCHEMA = re.compile(r"schema", re.I)
_EITHER = re.compile(r"both|only one|together|not .{0,40}same time", re.I)
# What a refusal blames, and what is left out then, tried in this order.
_BLAMED = (
    ("named tool", re.compile(r"tool_?choice", re.I)),
    ("tools", re.compile(r"tool", re.I)),
    ("system", re.compile(r"\bsystem\b", re.I)),
    ("stop", re.compile(r"stop_?\s?sequences?", re.I)),
    ("top_p", re.compile(r"\btop_?p\b", re.I)),
    ("temperature", re.compile(r"\btemperature\b", re.I)),
)
_INSTEAD = {
    "named tool": "a call of one named tool; it has to call any of the one there is",
    "tools": "tools; structured replies are only asked for in the prompt",
    "system": "system messages; they are put before the user's",
    "stop": "stop sequences; replies are cut here",
    "top_p": "top_p beside temperature; temperature alone is sent",
    "temperature": "temperature; its own is used",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """Arguments of `converse`, and what it is that they ask for."""

    body: dict[str, Any]
    has: frozenset[str]
    """What could yet be left out."""
    structure: Structure | None


class Dialect:
    """Writes requests; each thing it learns makes them plainer, and is logged once."""

    def __init__(self, model: str, extra: dict[str, Any]) -> None:
        self._model, self._extra = model, extra
        self._left_out: set[str] = set()
        self._plain: set[Structure] = set()
        """Structures that the service does not take as a schema."""

    def request(self, prompt: Prompt, sampling: Sampling) -> Request:
        """Write the request for a reply; Fault when no model takes it."""
        if sampling.temperature > HOTTEST:
            said = f"method.sampling.temperature: is {sampling.temperature:g}; Bedrock takes 0 to {HOTTEST:g}"
            raise Fault(Kind.ALL, said)
        out = self._left_out
        turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
        body: dict[str, Any] = {"modelId": self._model, "messages": _messages(turns, "system" in out)}
        system = [{"text": turn.content} for turn in turns if turn.role == "system" and turn.content]
        if system and "system" not in out:
            body["system"] = system
        config: dict[str, Any] = {"maxTokens": sampling.max_tokens}
        if "temperature" not in out:
            config["temperature"] = sampling.temperature
            if "top_p" not in out:
                config["topP"] = sampling.top_p
        structure = sampling.structure
        if structure is not None and "tools" not in out and structure not in self._plain:
            body["toolConfig"] = _tool_config(structure, "named tool" not in out)
        elif "stop" not in out and (stops := [stop for stop in sampling.stop if stop.strip()]):
            # Some models refuse a stop string that is all white space.
            config["stopSequences"] = stops[:MOST_STOPS]
        body["inferenceConfig"] = config
        if self._extra:
            body["additionalModelRequestFields"] = self._extra
        return Request(body, _parts(body, config), structure)

    def learn(self, request: Request, fault: Fault) -> bool:
        """Take a refusal of a request in; say whether the same can be asked in plainer words now."""
        said = fault.said
        if request.structure is not None and "tools" in request.has and _SCHEMA.search(said):
            if request.structure not in self._plain:
                self._plain.add(request.structure)
                log.warning("model %s does not take a schema; its replies are only read for it", self._model)
            return True
        name = _blamed(request, said)
        if name is None:
            return False
        if name not in self._left_out:
            self._left_out.add(name)
            log.warning("model %s does not take %s", self._model, _INSTEAD[name])
        return True


def _messages(turns: tuple[Message, ...], fold: bool) -> list[dict[str, Any]]:
    """Return turns as Converse wants them: roles alternate, so neighbours of one role become one message."""
    messages: list[dict[str, Any]] = []
    for turn in turns:
        if turn.role == "system" and not (fold and turn.content):
            continue
        role = "assistant" if turn.role == "assistant" else "user"
        if not messages or messages[-1]["role"] != role:
            messages.append({"role": role, "content": []})
        messages[-1]["content"].append({"text": turn.content})
    return messages


def _parts(body: dict[str, Any], config: dict[str, Any]) -> frozenset[str]:
    there = {
        "named tool": "tool" in body.get("toolConfig", {}).get("toolChoice", {}),
        "tools": "toolConfig" in body,
        "system": "system" in body,
        "stop": "stopSequences" in config,
        "top_p": "topP" in config,
        "temperature": "temperature" in config,
    }
    return frozenset(name for name, is_there in there.items() if is_there)


def _blamed(request: Request, said: str) -> str | None:
    """Return what of a request a refusal blames and the request can do without."""
    if _NOT_TAKEN.search(said):
        could = request.has
    else:
        could = request.has & {"top_p"} if _EITHER.search(said) else frozenset()
    return next((name for name, words in _BLAMED if name in could and words.search(said)), None)


@lru_cache(maxsize=64)
def form(structure: Structure) -> tuple[dict[str, Any], str | None]:
    """Return the schema of the tool's input, and the key of the reply in it; None when it is all of it."""
    if structure.choices:
        return choice_schema(structure.choices), CHOICE
    schema = json.loads(structure.json_schema or "{}")
    if isinstance(schema, dict) and schema.get("type") == "object":
        return schema, None
    wrapped: dict[str, Any] = {"type": "object", "properties": {VALUE: schema}, "required": [VALUE]}
    if isinstance(schema, dict):
        # References in the schema start at the root.
        wrapped |= {name: schema[name] for name in ("$defs", "definitions") if name in schema}
    return wrapped, VALUE


def _tool_config(structure: Structure, named: bool) -> dict[str, Any]:
    schema, _ = form(structure)
    description = "Give your reply with this tool, and with nothing else."
    spec = {"name": TOOL, "description": description, "inputSchema": {"json": schema}}
    choice: dict[str, Any] = {"tool": {"name": TOOL}} if named else {"any": {}}
    return {"tools": [{"toolSpec": spec}], "toolChoice": choice}

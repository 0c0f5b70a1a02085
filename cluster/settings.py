"""Recipes: YAML plus `--set` overrides, validated into frozen settings that refuse unknown keys."""

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cluster.errors import SettingsError


class Settings(BaseModel):
    """Base of every settings class: frozen, unknown keys refused, field docstrings as help."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=()
    )


S = TypeVar("S", bound=Settings)

_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; SettingsError names the file, line and remedy."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: is not UTF-8 text ({error.reason})") from error
    except (yaml.YAMLError, ValueError) as error:
        raise SettingsError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: must hold a mapping of keys to values, found {type(data).__name__}")
    return dict(_plain(data, str(path)))


def _plain(data: Any, place: str) -> Any:
    """Return what YAML gave as JSON has it: dates as they were written, numbers as keys as texts."""
    try:
        _refuse_truth(data, place)
        return json.loads(json.dumps(data, default=str))
    except (TypeError, ValueError, RecursionError) as error:
        raise SettingsError(f"{place}: {error}; keys are texts, and nothing may hold itself") from error


def _refuse_truth(data: Any, place: str) -> None:
    """Refuse true and false as keys: YAML makes them of a bare yes, no, on or off."""
    if isinstance(data, list):
        for value in data:
            _refuse_truth(value, place)
    elif isinstance(data, dict):
        for key, value in data.items():
            if isinstance(key, bool):
                raise SettingsError(f"{place}: YAML reads a key as {key}; put yes, no, on and off in quotes")
            _refuse_truth(value, place)


def override(data: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Return data with `dotted.key=value` assignments merged in; values are read as YAML."""
    merged = _plain(data, "--set")
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise SettingsError(f"--set {assignment}: write it as key.path=value")
        try:
            value = _plain(yaml.safe_load(text), f"--set {assignment}")
        except (yaml.YAMLError, ValueError) as error:
            raise SettingsError(f"--set {assignment}: the value is not valid YAML: {error}") from error
        _assign(merged, key.strip().split("."), value, assignment)
    return dict(merged)


def _assign(data: dict[str, Any], path: list[str], value: Any, assignment: str) -> None:
    *parents, last = path
    node: Any = data
    for name in parents:
        node = _child(node, name, assignment)
    if isinstance(node, list):
        node[_position(node, last, assignment)] = value
    else:
        node[last] = value


def _child(node: Any, name: str, assignment: str) -> Any:
    if isinstance(node, list):
        child = node[_position(node, name, assignment)]
    else:
        child = node.setdefault(name, {})
        if child is None:
            child = node[name] = {}
    if not isinstance(child, dict | list):
        raise SettingsError(f"--set {assignment}: {name} is a single value and has no keys below it")
    return child


def _position(node: list[Any], name: str, assignment: str) -> int:
    if not (name.isascii() and name.isdigit()) or int(name) >= len(node):
        raise SettingsError(f"--set {assignment}: {name} is not a position in a list of {len(node)}")
    return int(name)


def validate(cls: type[S], data: Mapping[str, Any], source: str) -> S:
    """Validate data as cls; SettingsError names source, the key, and the nearest known key."""
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        lines = [_explain(cls, item) for item in error.errors(include_url=False)]
        raise SettingsError("\n".join(f"{source}: {line}" for line in dict.fromkeys(lines))) from error


def _explain(cls: type[Settings], item: Any) -> str:
    location = [str(part) for part in item["loc"]]
    place = ".".join(location) or "(top level)"
    if item["type"] == "extra_forbidden":
        known = sorted({name for model in _models(cls) for name in model.model_fields})
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]}?" if near else "; remove it or see the recipe reference"
        return f"{place}: unknown key{hint}"
    if item["type"] == "missing":
        return f"{place}: is required and missing"
    message = item["msg"].removeprefix("Value error, ")
    seen = item.get("input")
    shown = "" if isinstance(seen, dict | list) or seen is None else f" (found {str(seen)[:80]!r})"
    return f"{place}: {message}{shown}"


def _models(cls: type[Settings]) -> Iterator[type[Settings]]:
    """Yield cls, its subclasses and every settings class nested in its fields."""
    seen: set[type[Settings]] = set()
    queue: list[Any] = [cls]
    while queue:
        current = queue.pop()
        if isinstance(current, type) and issubclass(current, Settings):
            if current in seen:
                continue
            seen.add(current)
            yield current
            queue += [field.annotation for field in current.model_fields.values()]
            queue += current.__subclasses__()
        else:
            queue += [argument for argument in get_args(current) if argument is not type(None)]


def digest(value: Any) -> str:
    """Hash any JSON-like value to 32 hexadecimal characters, independent of key order."""
    text = _CANONICAL.encode(value)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Turn nested mappings into one mapping with dotted keys; lists stay values."""
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, child in value.items():
        flat |= flatten(child, f"{prefix}.{key}" if prefix else str(key))
    return flat

"""Structured replies of vLLM: the one place that knows its interface for them (vLLM 0.32)."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cluster.errors import ModelError
from synth.records import Structure


def decoding(given: Any) -> Any:
    """Return how replies are held to their form: as `engine_args.structured_outputs_config` says, or our way.

    The grammar's maker is fixed: vLLM's own choice goes by the request and changes from release to release.
    White space between JSON's parts is left out: a small model can go on with it up to the length limit.
    """
    from vllm.config import StructuredOutputsConfig

    if given is None:
        return StructuredOutputsConfig(backend="xgrammar", disable_any_whitespace=True)
    return StructuredOutputsConfig(**given) if isinstance(given, Mapping) else given


def constraint(structure: Structure | None) -> Any:
    """Return what SamplingParams takes as `structured_outputs`; None for a free reply."""
    from vllm.sampling_params import StructuredOutputsParams

    if structure is None:
        return None
    if structure.json_schema is not None:
        return StructuredOutputsParams(json=structure.json_schema)
    return StructuredOutputsParams(choice=list(structure.choices))


def refusal(structure: Structure, error: Exception) -> ModelError:
    """Return the error of a structure that vLLM cannot hold replies to; it names what in it is too much."""
    lacking = list(_lacking(json.loads(structure.json_schema), "")) if structure.json_schema else []
    what = f": it has no support for {', '.join(lacking)}" if lacking else ""
    return ModelError(
        f"vLLM cannot hold replies to the form the method asks for{what} ({error}); simplify the method's "
        f"reply schema, or set teacher.engine_args.structured_outputs_config={{backend: guidance}}"
    )


def is_refusal(error: Exception) -> bool:
    """Say whether vLLM refused a request for what was asked, before the engine saw it."""
    from vllm.exceptions import VLLMValidationError

    return isinstance(error, VLLMValidationError)


def _lacking(node: Any, path: str) -> Iterator[str]:
    """Yield the keywords, each with its path, for which xgrammar refuses a schema."""
    from vllm.v1.structured_output.backend_xgrammar import has_xgrammar_unsupported_json_features as refused

    if isinstance(node, list):
        for place, each in enumerate(node):
            yield from _lacking(each, f"{path}/{place}")
    elif isinstance(node, dict) and refused(node):
        below = {name: list(_lacking(each, f"{path}/{name}")) for name, each in node.items()}
        alone = {name: each for name, each in node.items() if not below[name]}
        if refused(alone):
            # Without the type, which many rules are about, nothing would be refused.
            rest = {
                name: {key: alone[key] for key in alone if key != name} for name in alone if name != "type"
            }
            yield from (f"{path}/{name}" for name in rest if not refused(rest[name]))
        for found in below.values():
            yield from found

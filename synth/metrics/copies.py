"""Copies: rows that say the same as another row, a gold test row or a seed, but for case and spacing."""

import unicodedata
import zlib
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from synth.metrics.metric import Measured, MetricSettings, NotComputed, Texts


class Copies(MetricSettings):
    """Rows whose text equals that of another row, of a gold test row or of a seed.

    Texts are equal when they are after Unicode's NFKC, without regard to case and white space. Texts that are
    nearly equal are the matter of `nearest` and `nearest_rouge_l`.
    """

    name: ClassVar[str] = "copies"

    shown: int = Field(10, ge=0)
    """Pairs of ids that are told of each kind."""

    def measure(self, data: Measured) -> dict[str, Any]:
        """Return number and share of rows that are copies, with pairs of ids, and how well all texts pack.

        `repeated` are all rows but the first of each text; `contradicting` all rows of texts that have other
        labels in one row than in another.
        """
        rows = data.need_rows(1)
        forms = [form(text) for text in rows.texts]
        result: dict[str, Any] = {"n": len(rows), **self._among(rows, forms)}
        result["compression"] = compression(rows.texts)
        for side, need in (("gold", data.need_gold), ("seeds", data.need_seeds)):
            try:
                result[side] = self._in(rows, forms, need())
            except NotComputed as reason:
                result[side] = {"not_computed": str(reason)}
        return result

    def _among(self, rows: Texts, forms: Sequence[str]) -> dict[str, Any]:
        places: dict[str, list[int]] = {}
        for place, each in enumerate(forms):
            places.setdefault(each, []).append(place)
        several = [same for same in places.values() if len(same) > 1]
        pairs = [(other, same[0]) for same in several for other in same[1:]]
        labels = [frozenset(each) for each in rows.labels]
        unlike = [(same, [place for place in same if labels[place] != labels[same[0]]]) for same in several]
        odd = [(others[0], same[0]) for same, others in unlike if others]
        torn = sum(len(same) for same, others in unlike if others)
        return {
            "repeated": self._told(rows, rows, len(pairs), pairs),
            "contradicting": self._told(rows, rows, torn, odd),
        }

    def _in(self, rows: Texts, forms: Sequence[str], others: Texts) -> dict[str, Any]:
        known = dict[str, int]()
        for place, text in enumerate(others.texts):
            known.setdefault(form(text), place)
        pairs = [(place, known[each]) for place, each in enumerate(forms) if each in known]
        told = self._told(rows, others, len(pairs), pairs)
        return {"of": len(others), **told, "compression": compression(others.texts)}

    def _told(
        self, rows: Texts, others: Texts, count: int, pairs: Sequence[tuple[int, int]]
    ) -> dict[str, Any]:
        shown = [[rows.ids[one], others.ids[other]] for one, other in pairs[: self.shown]]
        return {"rows": count, "share": count / len(rows), "ids": shown}


def form(text: str) -> str:
    """Return a text without differences of case, white space and Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def compression(texts: Sequence[str]) -> float | dict[str, str]:
    """Return the bytes of all texts over their bytes packed by zlib: high means much repetition.

    It is the compression ratio of Shaib et al. 2024 (2403.00553); it grows a little with the number of texts.
    """
    packer = zlib.compressobj()
    size = packed = 0
    for text in texts:
        line = f"{text}\n".encode(errors="surrogatepass")
        size += len(line)
        packed += len(packer.compress(line))
    if size == len(texts):
        return {"not_computed": "all texts are empty"}
    return size / (packed + len(packer.flush()))

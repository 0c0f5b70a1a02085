"""Settings of the filters on the way."""

from typing import Any, Literal

from pydantic import Field, field_validator

from cluster.settings import Settings

_CODES = """
ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa fi fo
fr fuv fy ga gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka kab kik kk km
kn ko ku ky la lb lg lij ln lo lt ltg lv mg mk ml mn mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt
qu ro ru rw sa sdh se si sk sl sn so sq sr st sv sw ta te tg th tk tl tr tt ug uk ur uz uzs vec vi vo wa
wuu xh yo yue zh zu
"""
LANGUAGES = frozenset(_CODES.split())
"""What the detector (py3langid) tells apart, by ISO 639 code."""


class FilterSettings(Settings):
    """What a text must be, beside what its method asks, to be accepted; `null` or `false` turns a filter off.

    What a filter refuses is counted as a rejection under its own name, lengths as `too_short` and `too_long`,
    the language as `wrong_language`. Near-duplicates are accepted and left out of the dataset, as surplus.
    """

    refusal: bool = True
    """Refuse a text that begins as a model saying it will not write one, in any of ten languages."""
    min_words: int | None = Field(2, ge=1)
    """Fewest words of an example, all fields together; a sign of a script without spaces is half a word."""
    max_words: int | None = Field(2000, ge=1)
    """Most words of an example."""
    language: str | None = "auto"
    """ISO 639 code of the language texts must be in; `auto` asks only for a script that the seeds are written
    in or, without seeds, that the task is written in or whose language it names."""
    copies_document: float | None = Field(0.7, gt=0, le=1)
    """Refuse a text when at least this share of its runs of five words stands in one of its documents."""
    copies_seed: float | None = Field(0.7, gt=0, le=1)
    """The same for all seeds, and for the shots of its prompt (counted as `copies_shot`)."""
    copies_test: float | None = Field(0.6, gt=0, le=1)
    """The same for all gold test rows: lower, because a leak flatters every score. Only rows written from now
    on are held against test rows that are added later."""
    label_leak: Literal["announced", "anywhere"] | None = "announced"
    """Refuse a text that announces a label, as in `Category: Sports`, or repeats a verbalizer of four words
    or more; with `anywhere` also one in which the name of its own label stands. A headline about films may
    well say `film`: that is why words alone are not refused by default."""
    repetition: float | None = Field(0.3, gt=0, le=1)
    """Refuse a text with at least this share of its runs of three words being said before in it."""
    near_duplicates: float | None = Field(0.7, ge=0.5, le=1)
    """Of examples at least this similar the dataset keeps the first: the share of words and pairs of words
    that two have in common, estimated. Changing it needs no new run, but turning it on or off does. 0.7 finds
    most headlines of eleven words with one exchanged; of real texts written apart none come near it."""

    @field_validator("language")
    @classmethod
    def _known(cls, language: str | None) -> str | None:
        if language is None or language == "auto" or language in LANGUAGES:
            return language
        code = language.lower().replace("_", "-").split("-")[0]
        if code not in LANGUAGES:
            raise ValueError(f"{language} is no language that can be told; give a code such as en, de or zh")
        return code

    def identity(self) -> dict[str, Any]:
        """What of the filters determines a row of the ledger; how near is too near is judged on all rows."""
        signed = {"near_duplicates": self.near_duplicates is not None}
        return self.model_dump(mode="json", exclude={"near_duplicates"}) | signed

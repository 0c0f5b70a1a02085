"""Whether a text is in the language wanted: by its script, or by a detector when a language is named."""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Any

from synth.task import Task

LOOK = 1000
"""Characters at the start of a text that are looked at."""
FEW = 0.1
"""Share of letters from which on a script of the seeds belongs to the task."""
SURE = 0.8
"""Probability of another language, from which on a text is taken to be in it."""
FEWEST_LETTERS = 16
"""With fewer letters no language can be told."""
_SEEDS = 200
_NONE = "zxx"
"""What the detector says of texts in no language."""
_KIN = (frozenset(("nb", "nn", "no")), frozenset(("bs", "hr", "sr")), frozenset(("id", "ms")))
"""Languages that no detector tells apart in a short text."""
_NAMED = {
    "chinese": "CJK",
    "mandarin": "CJK",
    "cantonese": "CJK",
    "japanese": "CJK KANA",
    "korean": "HANGUL",
    "russian": "CYRILLIC",
    "ukrainian": "CYRILLIC",
    "bulgarian": "CYRILLIC",
    "serbian": "CYRILLIC",
    "macedonian": "CYRILLIC",
    "kazakh": "CYRILLIC",
    "mongolian": "CYRILLIC",
    "greek": "GREEK",
    "arabic": "ARABIC",
    "persian": "ARABIC",
    "farsi": "ARABIC",
    "urdu": "ARABIC",
    "pashto": "ARABIC",
    "hebrew": "HEBREW",
    "yiddish": "HEBREW",
    "hindi": "DEVANAGARI",
    "marathi": "DEVANAGARI",
    "nepali": "DEVANAGARI",
    "sanskrit": "DEVANAGARI",
    "bengali": "BENGALI",
    "bangla": "BENGALI",
    "punjabi": "GURMUKHI",
    "gujarati": "GUJARATI",
    "tamil": "TAMIL",
    "telugu": "TELUGU",
    "kannada": "KANNADA",
    "malayalam": "MALAYALAM",
    "sinhala": "SINHALA",
    "thai": "THAI",
    "lao": "LAO",
    "khmer": "KHMER",
    "burmese": "MYANMAR",
    "georgian": "GEORGIAN",
    "armenian": "ARMENIAN",
    "amharic": "ETHIOPIC",
}


def scripts(text: str) -> Counter[str]:
    """Count the letters of a text's beginning by script."""
    found: Counter[str] = Counter()
    for sign, count in Counter(text[:LOOK]).items():
        if (script := _script(sign)) is not None:
            found[script] += count
    return found


def scripts_of(task: Task) -> frozenset[str]:
    """Return the scripts that texts of a task may be in; none when nothing tells."""
    if task.seeds:
        return _shared(text for seed in task.seeds[:_SEEDS] for text in seed.fields.values())
    settings = task.settings
    told = [settings.instruction, settings.text_type, settings.style or "", *settings.labels.values()]
    words = " ".join(told).casefold().replace(",", " ").replace(".", " ").split()
    named = {script for word in words for script in _NAMED.get(word, "").split()}
    return _shared(told) | named


def _shared(texts: Iterable[str]) -> frozenset[str]:
    found: Counter[str] = Counter()
    for text in texts:
        found += scripts(text)
    return frozenset(script for script, count in found.items() if count >= FEW * found.total())


def in_scripts(text: str, wanted: frozenset[str]) -> bool:
    """Say whether most letters at the start of a text are of a script wanted, if there are any."""
    head = text[:LOOK]
    if "LATIN" in wanted and (head.isascii() or 2 * len(head.encode("ascii", "ignore")) > len(head)):
        # Signs and spaces count for Latin here: what is left for other scripts is no majority.
        return True
    found = scripts(head)
    return not found or found.most_common(1)[0][0] in wanted


def in_language(text: str, wanted: str) -> bool:
    """Say whether a text may be in a language: true, too, when that cannot be told."""
    head = text[:LOOK]
    if sum(map(str.isalpha, head)) < FEWEST_LETTERS and not _dense(head):
        return True
    found, sure = _detector().classify(head)
    return found in (wanted, _NONE) or sure < SURE or any([found in kin and wanted in kin for kin in _KIN])


def _dense(head: str) -> bool:
    """Say whether a few signs of a text tell more than letters do."""
    return not head.isascii() and sum(_script(sign) in ("CJK", "KANA", "HANGUL") for sign in head) >= 6


@lru_cache(maxsize=20_000)
def _script(sign: str) -> str | None:
    """Return the script of a letter by its Unicode name, None for any other sign."""
    if not sign.isalpha():
        return None
    name = unicodedata.name(sign, "").partition(" ")[0]
    return "KANA" if name in ("HIRAGANA", "KATAKANA") else name


@cache
def _detector() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

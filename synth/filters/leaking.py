"""Whether a text gives its label away in words about the label instead of by what it says."""

import re
from collections.abc import Collection, Sequence

from synth.filters.reading import Reading
from synth.task import Task

PHRASE = 4
"""Words from which on a verbalizer is no phrase that a text comes upon by itself."""
HEAD = 200
"""Characters at the start and the end of a text, and before a colon, in which a label is announced."""
_OPENINGS = frozenset(b"sure certainly okay ok of here heres this".split())
_KIND = re.compile(
    r"(?<!\w)(?:label|labels|category|class|classification|topic|sentiment|polarity|genre|tag|tags|emotion|intent|"
    r"kategorie|klasse|thema|etikett|catégorie|étiquette|sujet|categoría|etiqueta|tema|categoria|etichetta|"
    r"категория|метка|тема|标签|类别|分类|主题|情感|ラベル|カテゴリ|カテゴリー|레이블|범주|주제)[*_\"'` ]*\Z",
    re.IGNORECASE,
)
_OPEN, _CLOSE = r"[\[(<【*_]", r"[\])>】*_]"


class Leaks:
    """What gives the labels of a task away."""

    def __init__(self, task: Task, anywhere: bool) -> None:
        settings = task.settings
        names = sorted({*settings.labels, *settings.labels.values()}, key=len, reverse=True)
        either = _either(names)
        # What is only a number stands in brackets for many reasons.
        named = _either([name for name in names if any(map(str.isalpha, name))])
        # `Category: Sports`, in any of the marks that Markdown may put around it. The search begins at the
        # colon, for there are few; what stands before it is looked at then.
        self._marked = re.compile(rf"[:=：][*_\"'`\[(<: ]{{0,8}}{either}", re.IGNORECASE)
        # `[Sports] …`, `**Sports**: …`, and the same at the end.
        self._first = re.compile(rf"\s*{_OPEN}+\s*{named}\s*:?{_CLOSE}", re.IGNORECASE)
        self._last = re.compile(rf"{_OPEN}\s*{named}\s*{_CLOSE}[.\s]*\Z", re.IGNORECASE)
        kind = rf"(?:{re.escape(settings.text_type)}|text|example|article|headline|review|sentence)"
        self._told = re.compile(
            # `Here is a headline about sports:` and `This is a positive review`.
            rf"\W*(?:(?:sure|certainly|okay|ok|of course)\W+)?(?:here(?:'s|’s| is| are)\b[^\n:]{{0,160}}"
            rf"(?<!\w){named}[^\n:]{{0,80}}:|this is an? (?:\w+ )?{named} {kind}\b)",
            re.IGNORECASE,
        )
        words = {name: b" ".join(Reading(name).words) for name in names}
        self._phrases = [b" %b " % phrase for phrase in words.values() if phrase.count(b" ") >= PHRASE - 1]
        self._own = {
            label: [b" %b " % words[name] for name in (label, phrase) if words.get(name)]
            for label, phrase in settings.labels.items()
            if anywhere
        }

    def found(self, reading: Reading, labels: Collection[str]) -> bool:
        """Say whether a text of these labels gives a label away."""
        text = reading.text
        if (reading.words[:1] or [b""])[0] in _OPENINGS and self._told.match(text[:HEAD]):
            return True
        if (":" in text or "=" in text or "：" in text) and any(
            [_KIND.search(text[max(0, at.start() - HEAD) : at.start()]) for at in self._marked.finditer(text)]
        ):
            return True
        if not text[:1].isalnum() and self._first.match(text[:HEAD]):
            return True
        if not text[-1:].isalnum() and self._last.search(text[-HEAD:]):
            return True
        if not self._phrases and not self._own:
            return False
        said = b" %b " % b" ".join(reading.words)
        own = [name for label in labels for name in self._own.get(label, ())]
        return any([phrase in said for phrase in (*self._phrases, *own)])


def _either(names: Sequence[str]) -> str:
    """Return a pattern for any of some names, whole; one that nothing fits without names."""
    found = [re.escape(name.strip()) for name in names if name.strip()]
    return rf"(?:{'|'.join(found)})(?!\w)" if found else r"(?!)"

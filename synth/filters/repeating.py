"""Whether a text says the same again and again."""

from synth.filters.reading import Reading

RUN = 3
FEWEST = 8
"""Runs of words below which repeating is a figure of speech."""
LONG, KINDS = 60, 8
"""Bytes of a word, and distinct ones in it, from and up to which it is one sign held down."""
WIDE = 10
"""Characters to a word, spaces included, that few texts reach without such a word."""


def repeats(reading: Reading, most: float) -> bool:
    """Say whether at least such a share of a text's runs of three words stood in it before."""
    words = reading.words
    count = len(words) - RUN + 1
    # Of a run that stood before, so did the first word: most texts are done with after counting words.
    if count >= FEWEST and len(words) - len(set(words)) >= most * count:
        runs = set(zip(words, words[1:], words[2:], strict=False))
        if count - len(runs) >= most * count:
            return True
    if len(reading.text) < max(LONG, WIDE * len(reading.words)):
        return False
    longest = max(reading.words, key=len, default=b"")
    return len(longest) >= LONG and len(set(longest)) <= KINDS

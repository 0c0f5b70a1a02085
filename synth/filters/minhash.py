"""MinHash signatures: 64 bytes that tell how much two examples have in common.

What is compared are the words of a text and its pairs of neighbouring words: in a headline of eleven words
with one exchanged, three quarters of them stay; single words alone would not heed their order, and longer
runs or runs of characters leave too little of a short text. Scripts without spaces count sign by sign.
Slots are the low bytes of 64 minima ("b-bit minwise hashing", Li and König 2010), by `rensa`.
"""

from collections.abc import Sequence
from itertools import pairwise
from struct import Struct

from rensa import RMinHash

from synth.filters.reading import Reading

SLOTS = 64
_SEED = 1
_MINIMA = Struct(f"<{SLOTS}I")


def signature(fields: Sequence[Reading]) -> bytes | None:
    """Return the signature of an example with these fields, None when it has no words.

    It is the same in every process and on every machine with the pinned version of `rensa`; a test holds it.
    """
    minima = RMinHash(SLOTS, _SEED)
    for reading in fields:
        words = reading.words
        minima.update([*words, *map(b" ".join, pairwise(words))])
    if not any([reading.words for reading in fields]):
        return None
    # Of each little-endian minimum the first byte, which is the low one.
    return _MINIMA.pack(*minima.digest())[::4]

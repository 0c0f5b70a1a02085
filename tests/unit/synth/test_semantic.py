"""Semantic near-duplicates: the verdicts of lots are those of a naive comparison, row by row."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from synth import semantic
from synth.curation_settings import SemanticSettings
from synth.planner import Planner
from synth.quota import Candidate, Place, Quota
from synth.records import Item, make_item
from synth.semantic import HalfVectors, KeptMeanings, alike
from tests.unit.synth.plans import settled_of, slots_of

LABELS = [("a",), ("b",), ("c",), ("a", "b")]


def vectors_of(seed: int, rows: int, dimension: int = 8, crowds: int = 4) -> HalfVectors:
    """Unit vectors in a few crowds, some of them equal."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(crowds, dimension))
    made = centres[random.integers(crowds, size=rows)] + random.normal(size=(rows, dimension)) * 0.4
    made[random.random(rows) < 0.2] = made[0]
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made.astype(np.float16)


def cosine_reaches(left: NDArray[np.float16], right: NDArray[np.float16], similarity: float) -> bool:
    """Compare without any rounding of sums."""
    one, other = ([Fraction(float(x)) for x in each] for each in (left, right))
    dot = sum(x * y for x, y in zip(one, other, strict=True))
    lengths = float(sum(x * x for x in one)) ** 0.5 * float(sum(y * y for y in other)) ** 0.5
    return float(dot) >= similarity * lengths - 1e-9


def naive(
    vectors: HalfVectors, labels: Sequence[Sequence[str]], similarity: float, across: bool, barred: set[int]
) -> list[int]:
    """Return the rows kept; barred ones are left out for another reason."""
    kept: list[int] = []
    for row in range(len(vectors)):
        rivals = [other for other in kept if across or set(labels[row]) & set(labels[other])]
        twin = any(cosine_reaches(vectors[row], vectors[other], similarity) for other in rivals)
        if not twin and row not in barred:
            kept.append(row)
    return kept


def in_lots(
    vectors: HalfVectors,
    labels: Sequence[Sequence[str]],
    similarity: float,
    across: bool,
    barred: set[int],
    size: int,
) -> list[int]:
    meanings, kept = KeptMeanings(similarity, across), []
    for start in range(0, len(vectors), size):
        lot = meanings.lot(vectors[start : start + size], labels[start : start + size])
        for number in range(len(vectors[start : start + size])):
            if not lot.twin(number) and start + number not in barred:
                lot.keep(number)
                kept.append(start + number)
        lot.close()
    return kept


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 60),
    similarity=st.sampled_from([0.5, 0.8, 0.9, 0.95, 1.0]),
    across=st.booleans(),
    size=st.integers(1, 70),
    chunk=st.integers(1, 20),
)
def test_lots_of_any_size_judge_as_a_naive_comparison_does(
    seed: int, rows: int, similarity: float, across: bool, size: int, chunk: int
) -> None:
    random = np.random.default_rng(seed)
    vectors = vectors_of(seed, rows)
    labels = [LABELS[n] for n in random.integers(len(LABELS), size=rows)]
    barred = set(np.flatnonzero(random.random(rows) < 0.2).tolist())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semantic, "_CHUNK", chunk)
        patch.setattr(semantic, "_PAIRS", 7)
        found = in_lots(vectors, labels, similarity, across, barred, size)
    assert found == naive(vectors, labels, similarity, across, barred)


def test_pairs_at_the_border_are_told_apart_exactly() -> None:
    # Cosines from 0.9 - 1e-6 to 0.9 + 1e-6: closer together than single precision tells.
    random = np.random.default_rng(1)
    vectors = random.normal(size=(200, 384))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    for row in (3, 50, 199):
        exact = [Fraction(float(x)) for x in vectors[0]], [Fraction(float(x)) for x in vectors[row]]
        dot = float(sum(x * y for x, y in zip(*exact, strict=True)))
        lengths = [float(sum(x * x for x in each)) ** 0.5 for each in exact]
        cosine = dot / lengths[0] / lengths[1]
        for shift in (-1e-7, 1e-7):
            found = alike(vectors[:1], vectors, cosine + shift)[0, row]
            assert found == (shift < 0)
            # In other company, too.
            assert alike(vectors[:1], vectors[row : row + 1], cosine + shift)[0, 0] == found


def test_equal_vectors_are_alike_at_any_similarity_and_empty_ones_never() -> None:
    vectors = vectors_of(3, 40, dimension=384)
    assert alike(vectors, vectors, 1.0).diagonal().all()
    nothing = np.zeros((1, 384), np.float16)
    assert not alike(nothing, nothing, 0.1).any() and not alike(vectors, nothing, 0.1).any()


def test_a_crowd_of_equal_rows_takes_little_memory() -> None:
    vectors = np.repeat(vectors_of(5, 1, dimension=64), 600, axis=0)
    assert in_lots(vectors, [("a",)] * 600, 1.0, False, set(), 600) == [0]


def test_settings_are_off_limits_outside_the_cosines() -> None:
    encoder = {"model": "x", "preset": "minilm"}
    assert SemanticSettings.model_validate({"encoder": encoder}).similarity == 0.95
    for wrong in (0, 1.01):
        with pytest.raises(ValueError, match="similarity"):
            SemanticSettings.model_validate({"encoder": encoder, "similarity": wrong})


class World:
    """A plan with a reply for every item; the text hashes of what says the same have one remainder."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.targets = {"a": random.randint(0, 12), "b": random.randint(1, 12)}
        asked = [random.choice(("a", "b")) for _ in range(600)]
        self.items = [make_item("key", 0, n, (label,), draw=n) for n, label in enumerate(asked)]
        self.replies = {item.id: self._reply(item) for item in self.items}

    def _reply(self, item: Item) -> list[Candidate]:
        rows = self.random.choice((0, 1, 1, 1, 2))
        return [Candidate(item.labels, self.random.randrange(100)) for _ in range(rows)]

    def choose(self, settled: Mapping[str, Sequence[Candidate]]) -> tuple[list[Place], frozenset[Place], int]:
        """Return the rows kept, the twins, and how many rows lack."""
        quota, meant, kept, twins = Quota(self.targets), set[tuple[str, int]](), [], set()
        for item in self.items:
            for number, row in enumerate(settled.get(item.id, ())):
                meaning = (row.labels[0], row.text_hash % 40)
                verdict = quota.judge(Candidate(row.labels, row.text_hash, twin=meaning in meant))
                if verdict == "kept":
                    meant.add(meaning)
                    kept.append((0, item.position, number))
                elif verdict == "semantic_duplicate":
                    twins.add((0, item.position, number))
        return kept, frozenset(twins), sum(self.targets.values()) - len(kept)

    def turn(self, settled: dict[str, list[Candidate]], twins: frozenset[Place], spare: int) -> bool:
        """Generate for one turn, in any order; False when it broke off."""
        known = [(item, settled[item.id]) for item in self.items if item.id in settled]
        more = dict.fromkeys(self.targets, spare)
        planner = Planner(slots_of(self.items), self.targets, settled_of(known), 1e6, 0, None, twins, more)
        planner.catch_up()
        aloft: list[Item] = []
        while not planner.done():
            while self.random.random() < 0.8 and (item := planner.next_item()) is not None:
                aloft.append(item)
            if not aloft:
                continue
            if self.random.random() < 0.01:
                return False
            item = aloft.pop(self.random.randrange(len(aloft)))
            settled[item.id] = self.replies[item.id]
            planner.settle(item.id, self.replies[item.id])
        return True


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_rows_do_not_depend_on_turns_timing_and_crashes(seed: int) -> None:
    world = World(Random(seed))
    ideal, _, lack = world.choose(world.replies)
    assert lack == 0
    settled: dict[str, list[Candidate]] = {}
    twins, spare, count = frozenset[Place](), 0, -1
    while True:
        if not world.turn(settled, twins, spare):
            twins, spare, count = frozenset(), 0, -1
            continue
        before, count = count, len(settled)
        if count == before:
            break
        kept, found, lack = world.choose(settled)
        if found == twins:
            break
        twins, spare = found, world.random.randint(0, lack)
    assert kept == ideal

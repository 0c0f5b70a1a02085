import math
from dataclasses import replace

import numpy as np
import pytest

from retrieval.layout import RowNumbers
from retrieval.manifest import Structure
from retrieval.rank import NO_ROW
from retrieval.settings import IndexSettings
from retrieval.structure import choose, for_depth, train, training_rows, tune
from retrieval.vectors import Vectors
from tests.vector_layouts import clustered, small

GB = 10**9


@pytest.mark.parametrize(
    ("rows", "dimension", "memory", "kind", "lists", "code_bytes"),
    [
        (1, 384, GB, "exact", 0, 0),
        (500_000, 768, GB, "exact", 0, 0),
        (1_000_000, 384, GB, "ivf_sq", 4_096, 384),
        (1_000_000, 384, GB // 5, "ivf_pq", 4_096, 96),
        (1_000_000, 384, GB // 10, "ivf_pq", 4_096, 48),
        (1_000_000, 384, GB // 1000, "ivf_pq", 4_096, 12),
        (30_000_000, 768, 32 * GB, "ivf_sq", 16_384, 768),
        (30_000_000, 768, 8 * GB, "ivf_pq", 16_384, 192),
        (10_000_000_000, 768, 8 * GB, "ivf_pq", 65_536, 24),
    ],
)
def test_size_and_memory_choose_the_structure(
    rows: int, dimension: int, memory: int, kind: str, lists: int, code_bytes: int
) -> None:
    chosen = choose(IndexSettings(), rows, dimension, memory)
    assert (chosen.kind, chosen.lists, chosen.code_bytes) == (kind, lists, code_bytes)
    if kind == "ivf_pq":
        assert dimension % chosen.code_bytes == 0


@pytest.mark.parametrize("kind", ["exact", "ivf_sq", "ivf_pq"])
@pytest.mark.parametrize("rows", [1, 50, 3_000])
@pytest.mark.parametrize("dimension", [1, 7, 30, 384])
def test_a_structure_that_is_asked_for_fits_any_index(kind: str, rows: int, dimension: int) -> None:
    chosen = choose(IndexSettings(structure=kind), rows, dimension, 8 * GB)
    assert chosen.kind == kind
    if kind != "exact":
        assert 1 <= chosen.lists <= max(1, rows / 32)
        assert 1 <= chosen.probes <= chosen.lists
        assert dimension % chosen.code_bytes == 0
        assert len(train(clustered(rows, dimension), replace(chosen, lists=min(chosen.lists, 8)), 0)) > 0


def test_training_depends_on_the_seed_alone() -> None:
    structure = small("ivf_pq", lists=16, code_bytes=4)
    sample = clustered(training_rows(structure), 16)
    first = train(sample, structure, 1)
    assert train(sample, structure, 1, threads=2) == first
    assert train(sample, structure, 2) != first


def test_lists_are_looked_into_for_the_rows_that_are_wanted() -> None:
    structure = small("ivf_sq", lists=1_000, code_bytes=8, probes=10)
    assert for_depth(structure, 100_000, 50).probes == 10
    assert for_depth(structure, 100_000, 2_000).probes == 40
    assert for_depth(structure, 100_000, 10**6).probes == 1_000
    assert for_depth(Structure(), 100, 10) == Structure()


class _Made:
    """An index of which every probe finds one more in each 64 of the true rows, at a known place."""

    def __init__(self, spread: int, blind: float = 0.0) -> None:
        self.spread = spread
        self.blind = blind
        self.probed: list[int] = []

    def find(self, structure: Structure, queries: Vectors, count: int) -> RowNumbers:
        truth = np.tile(np.arange(1_000), (len(queries), 1))
        if structure.kind == "exact":
            return truth[:, :count]
        self.probed.append(structure.probes)
        found = np.full((len(queries), count), NO_ROW)
        share = min(structure.probes / 64, 1 - self.blind)
        known = round(share * 51)
        places = np.arange(known) * self.spread
        found[:, places[places < count]] = truth[:, :known][:, places < count]
        return found


QUERIES = np.zeros((4, 16), dtype=np.float32)
OWN = np.zeros(4, dtype=np.int64)


def test_the_cheapest_setting_that_reaches_the_recall_is_taken() -> None:
    index = _Made(spread=3)
    tuned = tune(small("ivf_pq", lists=256, code_bytes=8), 100_000, 0.7, QUERIES, OWN, index.find)
    assert (tuned.probes, tuned.oversample) == (48, 3)
    assert 0.7 <= tuned.recall <= 0.8
    assert tuned.name == "ivf_pq-test"
    assert max(index.probed) <= 96


def test_a_recall_out_of_reach_gives_the_best_there_is() -> None:
    index = _Made(spread=1, blind=0.5)
    tuned = tune(small("ivf_pq", lists=256, code_bytes=8), 100_000, 0.95, QUERIES, OWN, index.find)
    assert tuned.recall == pytest.approx(0.5, abs=0.03)
    assert (tuned.probes, tuned.oversample) == (32, 1)


def test_a_query_does_not_find_itself() -> None:
    index = _Made(spread=1)
    own = np.arange(4)
    tuned = tune(small("ivf_pq", lists=64, code_bytes=8), 1_000, 1.0, QUERIES, own, index.find)
    assert (tuned.probes, tuned.recall) == (64, 1.0)


def test_tuning_on_an_index_of_one_document() -> None:
    def find(structure: Structure, queries: Vectors, count: int) -> RowNumbers:
        return np.zeros((len(queries), 1), dtype=np.int64)

    tuned = tune(small("ivf_sq", lists=1, code_bytes=16), 1, 0.95, QUERIES[:1], OWN[:1], find)
    assert (tuned.probes, tuned.recall) == (1, 1.0)
    assert math.isfinite(tuned.oversample)

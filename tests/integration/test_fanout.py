from pathlib import Path

import numpy as np
import pytest

from cluster.errors import DataError
from retrieval.fanout import ClusterSearch
from retrieval.manifest import Structure
from retrieval.rank import Filter
from retrieval.shards import search_shards
from retrieval.structure import tune
from retrieval.vectors import sample_vectors
from tests.vector_layouts import build, clustered, lay_out, small

pytestmark = pytest.mark.usefixtures("ray_local")


def test_a_search_over_the_cluster_equals_one_in_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = clustered(3_000, 16)
    store, layout = lay_out(tmp_path, vectors, 100, 250)
    assert len(layout.shards) > 4
    structure = small("ivf_pq", lists=16, code_bytes=8, probes=4, oversample=4)
    build(store, layout, structure, vectors)
    search = ClusterSearch(store, layout)
    # So few that the queries take several turns.
    monkeypatch.setattr("retrieval.fanout._CANDIDATES", 600)
    for each in (Structure(), structure):
        for allowed in (Filter(), Filter((0, 900), {"topic": ("film",)}), Filter(tokens=(10**6, 10**7))):
            ours = search.rank(each, vectors[:30], 20, allowed)
            here = search_shards(store, layout.shards, each, vectors[:30], 20, allowed)
            for mine, theirs in zip(ours, here, strict=True):
                np.testing.assert_array_equal(mine, theirs)
    own, queries = sample_vectors(store, layout.parts, 50, 0)
    tuned = tune(structure, layout.rows, 0.9, queries, own, search.find)
    assert tuned.recall >= 0.9
    with pytest.raises(DataError, match="vectors of 16 dimensions, the encoder makes 3"):
        search.rank(structure, vectors[:2, :3], 5, Filter())
    assert search.rank(structure, vectors[:0], 5, Filter())[0].shape == (0, 0)

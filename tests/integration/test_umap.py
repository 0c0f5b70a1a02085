"""TarGEN's diversity in two dimensions, beside UMAP itself, which compiles for half a minute."""

import warnings

import numpy as np
import pytest

from synth.metrics.meaning import Meaning
from tests.unit.synth.test_meaning import pairs_of_two
from tests.unit.synth.vectors_given import ENCODER, given_vectors, random_vectors


def test_two_dimensions_are_umaps_own() -> None:
    vectors = random_vectors(40, 12)
    found = Meaning(encoder=ENCODER, umap=True, umap_seed=3).measure(given_vectors(rows=vectors))["umap"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import umap

        points = umap.UMAP(random_state=3).fit_transform(vectors)
    assert points.shape == (40, 2)
    assert found["mean_cosine"] == pytest.approx(np.mean(pairs_of_two(points)), abs=2e-6)
    same = given_vectors(rows=np.repeat(vectors[:1], 40, axis=0))
    assert "same vector" in Meaning(encoder=ENCODER, umap=True).measure(same)["umap"]["not_computed"]

"""Self-diversification: what is kept does not depend on order, is real, and is one of each cluster."""

import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from training.incubation.diversify import Texts, distinct, diversified, joined, nearest, too_few
from training.incubation.diversity import distinct_2, diversity, mean_distance
from training.incubation.settings import DiversifySettings

LABELS = ("a", "b")
CLUSTERS = 4


def settings(clusters: int = CLUSTERS, **given: float) -> DiversifySettings:
    return DiversifySettings.model_validate({"clusters": clusters, "restarts": 3, **given})


def samples(groups: int = CLUSTERS, each: int = 10) -> list[dict[str, str]]:
    """Return dictionaries in groups: those of group g are near one another for `encoded`."""
    return [{"a": f"{g} {n}", "b": f"{g} {n * 7 % 10} b"} for g in range(groups) for n in range(each)]


def encoded(dictionaries: Sequence[Texts]) -> npt.NDArray[np.float32]:
    """Return a vector of any length for every text: its group's direction and a little of its own."""
    vectors = np.zeros((sum(map(len, dictionaries)), 12), np.float32)
    for row, text in enumerate(text for texts in dictionaries for text in texts):
        group, number = (int(word) for word in text.split()[:2])
        vectors[row, group] = 10.0
        vectors[row, 6:] = np.random.default_rng([group, number]).normal(size=6) * 0.5
    return vectors


def test_one_of_each_cluster_is_kept_and_it_was_really_sampled() -> None:
    found = distinct(samples(), LABELS)
    selection = diversified(found, encoded(found), settings())
    assert len(selection.kept) == CLUSTERS
    assert set(selection.kept) <= set(found)
    assert {texts[0].split()[0] for texts in selection.kept} == {"0", "1", "2", "3"}


@pytest.mark.parametrize("shuffle", range(3))
def test_the_order_of_sampling_changes_nothing(shuffle: int) -> None:
    given = samples()
    mixed = random.Random(shuffle).sample(given, len(given))
    first, second = distinct(given, LABELS), distinct(mixed + mixed[:5], LABELS)
    assert first == second
    assert diversified(first, encoded(first), settings()) == diversified(second, encoded(second), settings())


def test_kept_is_the_sample_nearest_to_the_centre_of_its_cluster() -> None:
    found = distinct(samples(), LABELS)
    whole = joined(encoded(found), len(found))
    chosen = nearest(whole, CLUSTERS, 3, 0)
    groups = np.array([int(texts[0].split()[0]) for texts in found])
    for place in chosen:
        mine = np.flatnonzero(groups == groups[place])
        away = np.linalg.norm(whole[mine] - whole[mine].mean(axis=0), axis=1)
        assert mine[away.argmin()] == place


def test_chosen_samples_are_always_different_ones() -> None:
    rng = np.random.default_rng(3)
    for clusters in (1, 2, 7, 30):
        chosen = nearest(rng.normal(size=(30, 4)).astype(np.float32), clusters, 2, 0)
        assert len(set(chosen)) == len(chosen) == clusters


def test_vectors_that_are_all_alike_give_fewer() -> None:
    vectors = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    assert len(nearest(vectors, 8, 2, 0)) == 3


def test_a_label_with_long_vectors_counts_no_more_than_another() -> None:
    vectors = np.array([[3.0, 0.0], [0.0, 0.5], [0.0, 100.0], [0.5, 0.0]], np.float32)
    expected = np.array([[1, 0, 0, 1], [0, 1, 1, 0]], np.float32)
    assert joined(vectors, 2) == pytest.approx(expected)
    assert joined(np.zeros((4, 2), np.float16), 2).tolist() == [[0.0] * 4] * 2


def test_too_few_distinct_dictionaries_keep_none_and_say_why() -> None:
    found = distinct(samples(groups=1) * 3, LABELS)
    selection = diversified(found, encoded(found), settings())
    assert (selection.kept, selection.distinct, selection.before) == ((), 10, None)
    assert selection.skipped == "10 distinct dictionaries; 4 clusters want 16"
    assert too_few(found, settings(clusters=2)) is None


def test_what_is_kept_is_more_diverse_where_samples_crowd() -> None:
    crowded = samples(groups=1, each=60) + samples(groups=CLUSTERS, each=2)
    found = distinct(crowded, LABELS)
    selection = diversified(found, encoded(found), settings())
    assert selection.before is not None and selection.after is not None
    assert selection.before.dictionaries == selection.after.dictionaries == CLUSTERS
    assert selection.after.distance > selection.before.distance


def test_measures_of_diversity() -> None:
    assert mean_distance(np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)) == pytest.approx(1.0)
    assert mean_distance(np.array([[1.0, 0.0], [5.0, 0.0]], np.float32)) == pytest.approx(0.0)
    assert mean_distance(np.ones((1, 2), np.float32)) == 0.0
    assert distinct_2(["a b c", "a b d"]) == pytest.approx(3 / 4)
    assert distinct_2(["a"]) == 0.0
    found = diversity([("a b", "x y"), ("a b", "z y")], np.eye(2, dtype=np.float32))
    assert (found.dictionaries, found.distance, found.distinct_2) == (2, 1.0, 0.75)

import json
from typing import Any

import faiss
import mauve
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc
from threadpoolctl import threadpool_limits

from synth.metrics.mauve import Mauve, area, cycled, mauve_scores
from synth.metrics.metric import NotComputed, Texts
from synth.metrics.vectors import Vectors, unit
from tests.unit.synth.vectors_given import ENCODER, given_vectors, random_vectors

NEAR = random_vectors(150, 24, seed=1), random_vectors(200, 24, seed=2)
APART = random_vectors(150, 24, seed=1, centre=0.6), random_vectors(200, 24, seed=2, centre=-0.1)
REPEATED = np.tile(APART[0][:9], (20, 1)), APART[1]
UNSCALED = 3 * NEAR[0], 7 * NEAR[1]
WIDE = random_vectors(60, 200, seed=3), random_vectors(55, 200, seed=4, centre=0.5)
histograms = st.integers(1, 12).flatmap(
    lambda size: st.tuples(*2 * [st.lists(st.integers(0, 9), min_size=size, max_size=size)])
)


def published(p: Vectors, q: Vectors, seed: int, **arguments: Any) -> float:
    """What the authors' package gives."""
    faiss.omp_set_num_threads(1)
    with threadpool_limits(1):
        return float(mauve.compute_mauve(p_features=p, q_features=q, seed=seed, **arguments).mauve)


@pytest.mark.parametrize("sides", [NEAR, APART, REPEATED, UNSCALED, WIDE])
@pytest.mark.parametrize(("buckets", "scaling"), [("auto", 5), (30, 1), (2, 3)])
def test_it_is_what_the_authors_package_gives(
    sides: tuple[Vectors, Vectors], buckets: Any, scaling: float
) -> None:
    p, q = sides
    metric = Mauve(encoder=ENCODER, buckets=buckets, scaling=scaling, seeds=3)
    found = metric.measure(given_vectors(rows=q, gold=p))
    expected = [published(p, q, seed, num_buckets=buckets, mauve_scaling_factor=scaling) for seed in range(3)]
    assert mauve_scores(p, q, found["buckets"], scaling, range(3)) == pytest.approx(expected, abs=1e-12)
    assert found["scores"] == pytest.approx(expected, abs=1e-6)
    assert found["mean"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert found["std"] == pytest.approx(np.std(expected, ddof=1), abs=1e-6)


@given(histograms, st.floats(0.1, 10))
@settings(max_examples=200, deadline=None)
def test_the_area_is_that_under_the_sorted_curve_read_both_ways(
    counts: tuple[list[int], list[int]], scaling: float
) -> None:
    p, q = (np.array(each, float) for each in counts)
    if not p.sum() or not q.sum():
        return
    p, q = p / p.sum(), q / q.sum()
    curve = [(1.0, 0.0), (0.0, 1.0)]
    for weight in np.linspace(1e-6, 1 - 1e-6, 25):
        r = weight * p + (1 - weight) * q
        apart = [sum(a * np.log(a / b) for a, b in zip(side, r, strict=True) if a) for side in (q, p)]
        curve.append((np.exp(-scaling * apart[0]), np.exp(-scaling * apart[1])))
    by_x = sorted(curve, key=lambda point: (point[0], -point[1]))
    by_y = sorted(curve, key=lambda point: (point[1], -point[0]))
    both = (auc([x for x, _ in by_x], [y for _, y in by_x]), auc([y for _, y in by_y], [x for x, _ in by_y]))
    assert area(p, q, scaling) == pytest.approx(np.mean(both), abs=1e-7)
    assert area(q, p, scaling) == pytest.approx(area(p, q, scaling), abs=1e-9)
    assert area(p[::-1], q[::-1], scaling) == pytest.approx(area(p, q, scaling), abs=1e-9)
    assert area(p, p, scaling) == pytest.approx(1)


def test_the_same_texts_score_1_and_texts_far_apart_little() -> None:
    same = Mauve(encoder=ENCODER).measure(given_vectors(rows=NEAR[0], gold=NEAR[0]))
    assert same["mean"] == 1
    there = random_vectors(150, 24, centre=2)
    far = Mauve(encoder=ENCODER, buckets=2).measure(given_vectors(rows=there, gold=-there))
    assert far["mean"] == round(area(np.array([1.0, 0.0]), np.array([0.0, 1.0]), 5), 6) < 0.01


def test_threads_do_not_matter() -> None:
    def scores(threads: int) -> list[float]:
        with threadpool_limits(threads):
            return mauve_scores(*APART, 20, 5, range(4))

    assert scores(1) == scores(2)


def test_a_preset_fills_what_is_not_named_and_survives_being_written_down() -> None:
    assert (Mauve().buckets, Mauve().scaling, Mauve().cycle) == ("auto", 5, False)
    there = Mauve.model_validate({"preset": "synthesizrr", "buckets": 12})
    assert (there.buckets, there.scaling, there.cycle) == (12, 1, True)
    assert Mauve.model_validate(there.model_dump(mode="json")) == there
    assert Mauve.model_validate(there) == there


def test_gold_is_repeated_label_by_label_up_to_the_rows() -> None:
    rows = _labelled("aaaaaaabbcc")
    gold = _labelled("baabaxx")
    places = cycled(rows, gold)
    assert [gold.labels[place] for place in places] == [("a",)] * 7 + [("b",)] * 2
    a = np.random.RandomState(42).permutation([1, 2, 4]).tolist()
    assert places[:7] == (a * 3)[:7]
    with pytest.raises(NotComputed, match="cycle"):
        cycled(rows, _labelled("xy"))


def test_repeated_gold_is_what_is_measured() -> None:
    rows, gold = APART[1], APART[0][:20]
    labels, gold_labels = [("a",), ("b",)] * 100, [("b",), ("a",)] * 10
    data = given_vectors(rows=rows, gold=gold, labels=labels, gold_labels=gold_labels)
    found = Mauve(encoder=ENCODER, preset="synthesizrr", seeds=2).measure(data)
    places = cycled(data.rows, data.gold)
    assert sorted(places) == sorted([*range(20)] * 10)
    expected = [
        published(gold[places], rows, seed, num_buckets=30, mauve_scaling_factor=1) for seed in (0, 1)
    ]
    assert found["scores"] == pytest.approx(expected, abs=1e-6)
    assert (found["n"], found["gold_n"], found["buckets"]) == (200, 20, 30)


def test_figures_can_be_written_and_name_what_they_rest_on_and_what_speaks_against_them() -> None:
    data = given_vectors(rows=NEAR[1], gold=NEAR[0][:20], labels=[("a",)] * 199 + [("z",)])
    found = Mauve(encoder=ENCODER, buckets=30, seeds=1, cycle=True).measure(data)
    assert found["featuriser"] == ENCODER.model
    assert found["std"] is None
    assert [warning.split(":")[0] for warning in found["warnings"]] == [
        "fewer than 1,000 rows or gold rows",
        "more buckets than rows or gold rows",
        "no gold row has these labels",
    ]
    assert found["warnings"][2].endswith(": z")
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_gold_is_cut_to_the_sample_too() -> None:
    found = Mauve(encoder=ENCODER, sample=100, buckets=5).measure(
        given_vectors(rows=NEAR[1][:100], gold=NEAR[0])
    )
    assert (found["n"], found["gold_n"]) == (100, 100)
    assert found["scores"] == pytest.approx(
        mauve_scores(NEAR[0][:100], NEAR[1][:100], 5, 5, range(5)), abs=1e-6
    )


def test_what_is_missing_is_named() -> None:
    with pytest.raises(NotComputed, match=r"metrics\.mauve\.encoder or metrics\.mauve\.model"):
        Mauve().measure(given_vectors(rows=NEAR[0], gold=NEAR[1]))
    with pytest.raises(NotComputed, match=r"task\.test"):
        Mauve(encoder=ENCODER).measure(given_vectors(rows=NEAR[0]))
    with pytest.raises(NotComputed, match="2 rows at least"):
        Mauve(encoder=ENCODER).measure(given_vectors(rows=NEAR[0][:1], gold=NEAR[1]))
    with pytest.raises(NotComputed, match=r"30 buckets for 8 texts; lower metrics\.mauve\.buckets"):
        Mauve(encoder=ENCODER, buckets=30).measure(given_vectors(rows=NEAR[0][:4], gold=NEAR[1][:4]))
    same = np.repeat(unit(NEAR[0][:1]), 60, axis=0)
    with pytest.raises(NotComputed, match="same vector"):
        Mauve(encoder=ENCODER).measure(given_vectors(rows=same, gold=same))


@pytest.mark.parametrize(("rows", "gold"), [(2, 1), (3, 2), (2, 400), (50, 1)])
def test_few_rows_give_a_figure_with_a_warning(rows: int, gold: int) -> None:
    data = given_vectors(rows=random_vectors(rows, 8), gold=random_vectors(gold, 8, seed=5))
    found = Mauve(encoder=ENCODER, buckets=2).measure(data)
    assert 0 < found["mean"] <= 1
    assert found["warnings"]
    # A tenth of so few as buckets would call any two sets the same.
    with pytest.raises(NotComputed, match=rf"{min(rows, gold)} rows or gold rows.*metrics\.mauve\.buckets"):
        Mauve(encoder=ENCODER).measure(data)


def test_a_language_model_stands_in_for_the_encoder() -> None:
    metric = Mauve(encoder=ENCODER, model="gpt2-xl", max_tokens=99)
    features = [feature for features in metric.features().values() for feature in features]
    assert [(feature.model, feature.max_tokens) for feature in features] == [("gpt2-xl", 99)] * 2
    found = metric.measure(given_vectors(rows=NEAR[1], gold=NEAR[0]))
    assert found["featuriser"] == "gpt2-xl"
    assert Mauve().features() == {}


def _labelled(labels: str) -> Texts:
    ids = tuple(map(str, range(len(labels))))
    return Texts(ids, ids, tuple((label,) for label in labels))

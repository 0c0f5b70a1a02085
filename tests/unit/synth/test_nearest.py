import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from threadpoolctl import threadpool_limits

from synth.metrics import nearest as module
from synth.metrics.metric import NotComputed
from synth.metrics.nearest import Nearest, nearest
from synth.metrics.vectors import Vectors, unit
from tests.unit.synth.vectors_given import ENCODER, given_vectors, random_vectors

some_vectors = arrays.arrays(
    np.float32, st.tuples(st.integers(2, 25), st.just(3)), elements=st.integers(-4, 4).map(float)
)


def measured(**sides: Any) -> Any:
    return Nearest(encoder=ENCODER, **sides.pop("settings", {})).measure(given_vectors(**sides))


def all_cosines(rows: Vectors, others: Vectors) -> Any:
    products = rows.astype(np.float64) @ others.astype(np.float64).T
    lengths = [np.linalg.norm(each.astype(np.float64), axis=1) for each in (rows, others)]
    return products / np.outer(*lengths)


@given(some_vectors, some_vectors, st.integers(1, 7), st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_it_finds_what_looking_at_all_pairs_finds_whatever_the_blocks(
    rows: Vectors, others: Vectors, rows_at_once: int, others_at_once: int
) -> None:
    rows, others = (unit(each + np.float32(0.5)) for each in (rows, others))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ROWS", rows_at_once)
        patch.setattr(module, "_OTHERS", others_at_once)
        for compared, expected in ((others, all_cosines(rows, others)), (None, all_cosines(rows, rows))):
            if compared is None:
                np.fill_diagonal(expected, -np.inf)
            places, cosines = nearest(rows, compared)
            assert cosines == pytest.approx(expected.max(axis=1), abs=1e-6)
            assert expected[np.arange(len(rows)), places] == pytest.approx(cosines, abs=1e-6)


def test_more_than_one_block_of_both_gives_the_same_on_any_number_of_threads() -> None:
    rows, others = random_vectors(1_300, 16), random_vectors(9_000, 16, seed=1)
    expected = all_cosines(rows, others)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(nearest(rows, others))
    assert (found[0][0] == expected.argmax(axis=1)).all()
    assert found[0][1] == pytest.approx(expected.max(axis=1), abs=1e-6)
    assert all((one == other).all() for one, other in zip(*found, strict=True))


def test_each_side_has_its_figures() -> None:
    rows, gold, seeds = (random_vectors(count, 12, seed=count) for count in (40, 15, 6))
    gold[3] = rows[7]
    found = measured(rows=rows, gold=gold, seeds=seeds)
    assert found["n"] == 40
    expected = {
        "gold": all_cosines(rows, gold),
        "seeds": all_cosines(rows, seeds),
        "rows": all_cosines(rows, rows),
    }
    np.fill_diagonal(expected["rows"], -np.inf)
    for side, cosines in expected.items():
        best = cosines.max(axis=1)
        assert found[side]["n"] == cosines.shape[1]
        assert found[side]["mean"] == pytest.approx(best.mean(), abs=1e-6)
        assert found[side]["share_alike"] == pytest.approx((best >= 0.95).mean())
        levels = np.quantile(best, [0.5, 0.9, 0.99])
        assert list(found[side]["quantiles"].values()) == pytest.approx(levels.tolist(), abs=2e-6)
        assert len(found[side]["pairs"]) == 10
        shown = [pair["cosine"] for pair in found[side]["pairs"]]
        assert shown == sorted(shown, reverse=True)
        assert shown[0] == pytest.approx(best.max(), abs=1e-6)
    assert found["gold"]["pairs"][0] == {"row": "r7", "other": "g3", "cosine": 1}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_two_rows_nearest_to_each_other_are_one_pair() -> None:
    vectors = random_vectors(8, 64, centre=0)
    vectors[5] = vectors[2]
    pairs = measured(rows=vectors)["rows"]["pairs"]
    assert pairs[0] == {"row": "r2", "other": "r5", "cosine": 1}
    assert len({frozenset((pair["row"], pair["other"])) for pair in pairs}) == len(pairs) < 8


def test_equal_rows_are_all_alike() -> None:
    vectors = np.repeat(random_vectors(1, 384), 30, axis=0)
    found = measured(rows=vectors, gold=vectors[:1], settings={"alike": 1})
    for side in ("rows", "gold"):
        assert (found[side]["mean"], found[side]["share_alike"]) == (1, 1)
    assert all(pair["row"] != pair["other"] for pair in found["rows"]["pairs"])


def test_examples_show_the_first_rows_of_each_label_beside_their_nearest_gold_row() -> None:
    rows, gold = random_vectors(9, 8), random_vectors(5, 8, seed=1)
    labels = [("b",), ("a",), ("a", "b"), ("b",), ("a",), (), ("c",), ("a",), ("b",)]
    found = measured(rows=rows, gold=gold, labels=labels, settings={"shown": 2})["examples"]
    assert [(each["label"], each["row"]) for each in found] == [
        ("a", "r1"),
        ("a", "r2"),
        ("b", "r0"),
        ("b", "r2"),
        ("c", "r6"),
    ]
    cosines = all_cosines(rows, gold)
    for each in found:
        row, other = int(each["row"][1:]), int(each["other"][1:])
        assert other == cosines[row].argmax()
        assert each["cosine"] == pytest.approx(cosines[row].max(), abs=1e-6)


def test_what_is_missing_is_named_in_its_place() -> None:
    rows = random_vectors(4, 5)
    with pytest.raises(NotComputed, match=r"metrics\.nearest\.encoder"):
        Nearest().measure(given_vectors(rows=rows))
    with pytest.raises(NotComputed, match="1 rows at least"):
        measured(rows=rows[:0])
    found = measured(rows=rows)
    assert "task.seeds" in found["seeds"]["not_computed"]
    assert "task.test" in found["gold"]["not_computed"]
    assert found["examples"] == []
    one = measured(rows=rows[:1], gold=rows[1:])
    assert "2 rows at least" in one["rows"]["not_computed"]
    assert one["gold"]["n"] == 3

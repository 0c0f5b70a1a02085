import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from cluster.errors import SettingsError
from cluster.settings import validate
from synth.metrics.linguistics import Tokens
from synth.metrics.metric import NotComputed
from synth.metrics.self_bleu import SelfBleu, self_bleu
from tests.unit.synth.measuring import measure, some

ROOT = Path(__file__).parents[3]
TEXTS = [
    "The cat sat on the mat near the door.",
    "The cat sat on the mat near the window.",
    "A dog barks at the moon.",
    "Nothing rhymes with orange.",
    "The dog sat on the cat.",
    "The cat sat on the mat near the door.",
]
words = st.lists(st.lists(st.sampled_from("abcd"), max_size=9), min_size=2, max_size=8)


def lists(texts: list[list[str]]) -> pa.ListArray:
    return pa.array(texts, pa.list_(pa.string()))


def by_nltk(texts: list[list[str]], highest: int = 5) -> np.ndarray[Any, Any]:
    """Scores of every text and order as NLTK has them."""
    weights = [(1 / order,) * order for order in range(1, highest + 1)]
    smooth = SmoothingFunction().method1
    others = [texts[:place] + texts[place + 1 :] for place in range(len(texts))]
    scores = [
        sentence_bleu(rest, text, weights, smoothing_function=smooth)
        for text, rest in zip(texts, others, strict=True)
    ]
    return np.array(scores, np.float64)


@given(words)
@settings(max_examples=300, deadline=None)
def test_every_score_is_that_of_nltk(texts: list[list[str]]) -> None:
    np.testing.assert_allclose(self_bleu(lists(texts)), by_nltk(texts), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "texts",
    [
        ["", "a b", "a b c"],
        ["", ""],
        ["a", "b"],
        ["a", "a"],
        ["a a a a", "a a", "a a"],
        ["a b c d", "a b", "a b c d e f"],  # the shorter of two lengths that are as close
        ["a b c d e f g", "h", "a"],
    ],
)
def test_short_and_strange_texts_score_as_with_nltk(texts: list[str]) -> None:
    split = [text.split() for text in texts]
    np.testing.assert_allclose(self_bleu(lists(split)), by_nltk(split), rtol=0, atol=1e-12)


def test_real_texts_score_as_with_nltk() -> None:
    with gzip.open(ROOT / "jobs/recipes/demo/test.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for _, line in zip(range(40), file, strict=False)]
    tokens = Tokens().read(texts)
    found = self_bleu(tokens)
    np.testing.assert_allclose(found, by_nltk(tokens.to_pylist()), rtol=0, atol=1e-12)
    assert 0 < found[:, 4].mean() < found[:, 0].mean() < 1


@given(words, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_of_texts_does_not_matter(texts: list[list[str]], chance: Any) -> None:
    order = chance.sample(range(len(texts)), len(texts))
    mixed = self_bleu(lists([texts[place] for place in order]))
    assert (mixed == self_bleu(lists(texts))[order]).all()


@given(words, st.integers(1, 7))
@settings(max_examples=100, deadline=None)
def test_lower_orders_do_not_depend_on_the_highest(texts: list[list[str]], highest: int) -> None:
    assert (self_bleu(lists(texts), highest) == self_bleu(lists(texts), 7)[:, :highest]).all()


def test_a_slice_of_tokens_is_scored_by_itself() -> None:
    split = [text.split() for text in TEXTS]
    assert (self_bleu(lists(split)[1:5]) == self_bleu(lists(split[1:5]))).all()


def test_a_very_long_text_is_scored() -> None:
    split = [[f"w{number % 977}" for number in range(100_000)], ["w1", "w2", "w3"], ["w2", "x"]]
    np.testing.assert_allclose(self_bleu(lists(split), 2), by_nltk(split, 2), rtol=0, atol=1e-12)


def test_the_metric_gives_means_and_the_most_repeated_rows() -> None:
    rows = some(TEXTS)
    found = measure(SelfBleu(), rows)
    expected = by_nltk(Tokens().read(list(rows.texts)).to_pylist())
    assert found["n"] == 6
    assert found["self_bleu"] == pytest.approx(
        {str(order): expected[:, order - 1].mean() for order in range(1, 6)}, abs=1e-12
    )
    assert {each["id"] for each in found["most_repeated"][:2]} == {"000000", "000005"}
    assert [each["score"] for each in found["most_repeated"]] == pytest.approx(sorted(expected[:, 4])[:0:-1])
    assert json.loads(json.dumps(found)) == found


def test_gold_is_measured_as_a_whole_and_on_equal_numbers() -> None:
    rows, gold = some(TEXTS), some(TEXTS[:3])
    found = measure(SelfBleu(orders=(2,)), rows, gold)
    assert found["gold"] == measure(SelfBleu(orders=(2,)), gold)["self_bleu"]
    assert found["gold_n"] == 3
    fewer = measure(SelfBleu(orders=(2,)), rows.first(3))["self_bleu"]
    assert found["gold_same_n"] == {"n": 3, "rows": fewer, "gold": found["gold"]}
    assert fewer != found["self_bleu"]


def test_a_sample_is_measured_by_itself() -> None:
    rows = some(TEXTS)
    assert measure(SelfBleu(sample=3), rows) == measure(SelfBleu(), rows.first(3))


def test_gold_that_cannot_be_measured_has_a_reason() -> None:
    rows = some(TEXTS)
    assert "task.test" in measure(SelfBleu(), rows)["gold"]["not_computed"]
    assert "there are 1" in measure(SelfBleu(), rows, some(["one"]))["gold"]["not_computed"]
    assert "token" in measure(SelfBleu(), rows, some(["", " "]))["gold"]["not_computed"]


def test_rows_that_cannot_be_measured_have_a_reason() -> None:
    with pytest.raises(NotComputed, match="2 rows"):
        measure(SelfBleu(), some(["one"]))
    with pytest.raises(NotComputed, match="token"):
        measure(SelfBleu(), some(["", " \n"]))


def test_emoji_and_equal_rows_are_measured() -> None:
    assert measure(SelfBleu(), some(["😀 😀 🎉 👍 ☕ ☕"] * 3))["self_bleu"]["5"] == pytest.approx(1)
    assert measure(SelfBleu(), some(["😀", "🎉"]))["self_bleu"]["1"] == 0


def test_orders_must_be_named() -> None:
    for orders in ([], [0], [2, -1]):
        with pytest.raises(SettingsError):
            validate(SelfBleu, {"orders": orders}, "metrics.self_bleu")

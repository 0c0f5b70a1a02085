"""The profile of a dataset, against counts by hand, numpy and scipy."""

import json
import random
import unicodedata
import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, wasserstein_distance

from synth.metrics.characters import character_shares
from synth.metrics.linguistics import Tokens
from synth.metrics.metric import NotComputed, Texts
from synth.metrics.profile import BINS, Profile, histogram, variety
from synth.metrics.readability import Readable, capitals, readable, sentences, syllables
from tests.unit.synth.measuring import measure, some

TEXTS = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.lists(st.sampled_from(["The", "cat", "sat.", "42", "the", "🙂", "don't!"]), max_size=30).map(
            " ".join
        ),
    ),
    min_size=1,
    max_size=8,
)


def test_a_sentence_by_hand() -> None:
    text = "The cat sat on the mat. It was happy!"
    # 9 words, 2 sentences; hap-py has two syllables, all others one.
    assert readable(text) == Readable(words=9, sentences=2, syllables=10)
    result = measure(Profile(), some([text]))["rows"]
    assert result["words"]["mean"] == 9
    assert result["sentences"]["mean"] == 2
    assert result["tokens"]["mean"] == 11
    assert result["characters"]["mean"] == len(text)
    assert result["flesch_ease"]["mean"] == pytest.approx(206.835 - 1.015 * 4.5 - 84.6 * 10 / 9)
    assert result["flesch_grade"]["mean"] == pytest.approx(0.39 * 4.5 + 11.8 * 10 / 9 - 15.59)
    assert result["punctuation"]["mean"] == pytest.approx(2 / 29)
    assert result["digits"]["mean"] == 0.0
    assert result["capitals"]["mean"] == pytest.approx(2 / 9)
    # The and the are one type.
    assert result["variety"]["mean"] == pytest.approx(10 / 11)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "the be make makes asked called rule rules eye played queue rhythm I lies whole changed"),
        (2, "table tables handled little boxes wanted houses reading being people idle café well-known"),
        (3, "beautiful government banana media recently"),
        (4, "information photography"),
    ],
)
def test_syllables_of_common_words(count: int, words: str) -> None:
    assert {word: syllables(word) for word in words.split()} == dict.fromkeys(words.split(), count)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("👍 ...", 0),
        ("No full stop", 1),
        ("It costs 3.50 at example.com today.", 1),
        ('He said: "Go!" Then he went…', 2),
        ("A title\n\nA text. Another", 3),
        ("今日は。元気ですか？はい", 3),
        ("Really?!?! Yes.", 2),
    ],
)
def test_sentences_end_at_full_stops_and_empty_lines(text: str, count: int) -> None:
    assert sentences(text) == count


def test_texts_without_latin_words_have_no_readability() -> None:
    assert readable("今日は 42 👍") is None
    result = measure(Profile(), some(["今日は。", "👍", "", "A cat."]))["rows"]
    assert result["flesch_ease"]["n"] == 1
    assert result["tokens"]["n"] == 4
    assert "not_computed" in measure(Profile(), some(["今日は。"]))["rows"]["flesch_ease"]


def test_capitals_are_of_words_in_letters() -> None:
    assert capitals("The 3 Big cats, don't You?") == pytest.approx(3 / 5)
    assert np.isnan(capitals("42 👍"))


@settings(deadline=None)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=10))
def test_shares_of_characters_are_those_of_counting_one_by_one(texts: list[str]) -> None:
    digits, punctuation = character_shares(texts)
    for place, text in enumerate(texts):
        seen = [sign for sign in text if not sign.isspace()]
        if not seen:
            assert np.isnan(digits[place])
            continue
        assert digits[place] == sum(unicodedata.category(sign) == "Nd" for sign in seen) / len(seen)
        assert punctuation[place] == sum(unicodedata.category(sign)[0] == "P" for sign in seen) / len(seen)


def test_shares_of_more_texts_than_a_lot_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a1", "b!", "", "2222", "c"]
    whole = character_shares(texts)
    monkeypatch.setattr("synth.metrics.characters._LOT", 2)
    np.testing.assert_array_equal(character_shares(texts), whole)


@settings(deadline=None)
@given(TEXTS)
def test_variety_is_distinct_tokens_over_tokens(texts: list[str]) -> None:
    tokens = Tokens().read(texts)
    wanted = [
        len({each.casefold() for each in row}) / len(row) if row else np.nan for row in tokens.to_pylist()
    ]
    np.testing.assert_allclose(variety(tokens), wanted)


@settings(deadline=None, max_examples=60)
@given(TEXTS, TEXTS)
def test_summaries_and_distances_are_those_of_numpy_and_scipy(mine: list[str], theirs: list[str]) -> None:
    rows, gold = some(mine), some(theirs)
    result = measure(Profile(), rows, gold)
    lengths, others = (
        np.array([len(row) for row in Tokens().read(list(side.texts))]) for side in (rows, gold)
    )
    told = result["rows"]["tokens"]
    assert told["mean"] == pytest.approx(lengths.mean())
    assert told["std"] == pytest.approx(lengths.std())
    assert [told[f"q{q:02}"] for q in (5, 25, 50, 75, 95)] == pytest.approx(
        np.quantile(lengths, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist()
    )
    assert result["distance"]["wasserstein"] == pytest.approx(wasserstein_distance(lengths, others))
    with warnings.catch_warnings():
        # Of its p for a row on each side, which is not used.
        warnings.simplefilter("ignore", RuntimeWarning)
        assert result["distance"]["ks"] == pytest.approx(ks_2samp(lengths, others, method="asymp").statistic)
    assert sum(result["histogram"]["rows"]) == len(mine)
    assert sum(result["histogram"]["gold"]) == len(theirs)
    json.dumps(result, allow_nan=False)


@settings(deadline=None)
@given(TEXTS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(texts: list[str], rng: random.Random) -> None:
    one, other = (measure(Profile(), some(rows)) for rows in (texts, rng.sample(texts, len(texts))))
    for trait, told in one["rows"].items():
        assert other["rows"][trait] == pytest.approx(told)
    assert one["histogram"] == other["histogram"]


@settings(deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=200), st.lists(st.integers(0, 100_000), min_size=1))
def test_a_histogram_has_few_bins_and_every_text(mine: list[int], theirs: list[int]) -> None:
    made = histogram({"rows": np.array(mine, float), "gold": np.array(theirs, float)})
    edges = made["edges"]
    assert 1 <= len(edges) - 1 <= BINS
    assert len(made["rows"]) == len(made["gold"]) == len(edges) - 1
    assert (sum(made["rows"]), sum(made["gold"])) == (len(mine), len(theirs))
    assert all(low < high for low, high in pairwise(edges))


def test_one_text_beyond_all_others_does_not_squeeze_the_histogram() -> None:
    made = histogram({"rows": np.array([*range(1, 41)] * 10 + [100_000], float)})
    assert len(made["edges"]) - 1 >= 20
    assert made["edges"][-1] == 100_000


def by_labels() -> Texts:
    return Texts(("1", "2", "3"), ("one", "one two", "one two three"), (("a",), ("a", "b"), ("b",)))


def test_a_row_counts_for_each_of_its_labels() -> None:
    labels = measure(Profile(), by_labels())["labels"]
    assert [labels[label]["tokens"]["mean"] for label in "ab"] == [1.5, 2.5]
    assert [labels[label]["tokens"]["n"] for label in "ab"] == [2, 2]


def test_without_gold_rows_there_is_no_distance() -> None:
    result = measure(Profile(), by_labels())
    assert "task.test" in result["distance"]["not_computed"]
    assert "task.test" in result["gold"]["not_computed"]
    assert result["histogram"].keys() == {"edges", "rows"}
    with pytest.raises(NotComputed):
        measure(Profile(), some([]))


@pytest.mark.parametrize("texts", [[""], ["👍🏽" * 50] * 3, ["same words"] * 4, ["word " * 100_000, "short"]])
def test_odd_data_has_figures_that_are_numbers(texts: list[str]) -> None:
    result: Any = measure(Profile(), some(texts), some(texts))
    json.dumps(result, allow_nan=False)
    assert result["distance"] == {"wasserstein": 0.0, "ks": 0.0}

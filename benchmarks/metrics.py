"""Speed and memory of Self-BLEU, beside NLTK's.

python -m benchmarks.metrics [--corpus FILE.jsonl.zst ...] [--json FILE]

Texts are the distinct `text`s of the files, in their order, and are tokenised before any clock runs. NLTK
scores some of 2,000 texts against all the others, all orders in one call; Self-BLEU scores all of them; both
are timed by the seconds of their processor. With 100,000 texts or more Self-BLEU also scores so many, in a
process of its own, by the clock on the wall; with fewer, those claims are left out.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.claims import Claim, write_claims

COMPARED, LARGE = 2_000, 100_000
HYPOTHESES = 50
RUNS = 7
ORDERS = 5
_DEMO = Path(__file__).parents[1] / "jobs" / "recipes" / "demo" / "corpus.jsonl.gz"


def main() -> None:
    """Compare with NLTK, score the large sample in a child process, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--corpus", nargs="+", type=Path, default=[_DEMO])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--score", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.score is not None:
        print(json.dumps(_score(options.score)))
        return
    from synth.metrics.linguistics import Tokens

    texts = _read(options.corpus)
    started = time.perf_counter()
    tokens = Tokens().read(texts)
    took = time.perf_counter() - started
    found = _compare(tokens[:COMPARED])
    name = "self_bleu over NLTK, per hypothesis"
    claims = {name: Claim(found["nltk_s_per_text"] / found["ours_s_per_text"], 3_000)}
    details: dict[str, Any] = {"corpus": [f"{path.parent.name}/{path.name}" for path in options.corpus]}
    details |= {
        "texts_read": len(texts),
        "texts_tokenised_per_s": round(len(texts) / took),
        "compared": found,
    }
    if len(texts) == LARGE:
        details["large"] = large = _large(tokens)
        claims[f"seconds for {LARGE} texts"] = Claim(large["seconds"], 15, "lower")
        claims[f"peak memory in GB for {LARGE} texts"] = Claim(large["peak_gb"], 2, "lower")
    else:
        print(f"{len(texts)} texts: those on {LARGE} are left out; name more with --corpus")
    print(json.dumps(details, indent=1))
    write_claims("metrics", claims, details, options.json)


def _read(corpora: Sequence[Path]) -> list[str]:
    from cluster.jsonl import read_jsonl

    texts: dict[str, None] = {}
    for path in corpora:
        for _, row in read_jsonl(path):
            texts[row["text"]] = None
            if len(texts) == LARGE:
                return list(texts)
    if len(texts) < COMPARED:
        raise SystemExit(f"{len(texts)} distinct texts, and it takes {COMPARED}; name more with --corpus")
    return list(texts)


def _compare(tokens: pa.ListArray) -> dict[str, Any]:
    """Time both on the same texts; NLTK on some of them, with its scores beside ours."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    from synth.metrics.self_bleu import self_bleu

    texts, smooth = tokens.to_pylist(), SmoothingFunction().method1
    weights = [(1 / order,) * order for order in range(1, ORDERS + 1)]
    ours = []
    for _ in range(RUNS):
        started = time.process_time()
        scores = self_bleu(tokens, ORDERS)
        ours.append(time.process_time() - started)
    seconds, farthest = 0.0, 0.0
    for place in range(0, len(texts), len(texts) // HYPOTHESES):
        others = texts[:place] + texts[place + 1 :]
        started = time.process_time()
        theirs = sentence_bleu(others, texts[place], weights, smoothing_function=smooth)
        seconds += time.process_time() - started
        farthest = max(farthest, *(abs(scores[place] - theirs)).tolist())
    return {
        "texts": len(texts),
        "tokens_per_text": len(tokens.flatten()) / len(texts),
        "nltk_hypotheses": HYPOTHESES,
        "nltk_s_per_text": seconds / HYPOTHESES,
        "ours_s_per_text": statistics.median(ours) / len(texts),
        "ours_s_of_all": ours,
        "largest_difference": farthest,
        "means": scores.mean(axis=0).tolist(),
    }


def _large(tokens: pa.ListArray) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.arrow"
        table = pa.table({"tokens": tokens})
        with pa.ipc.new_file(str(path), table.schema) as file:
            file.write_table(table)
        command = [sys.executable, "-m", "benchmarks.metrics", "--score", str(path)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _score(path: Path) -> dict[str, Any]:
    from synth.metrics.self_bleu import self_bleu

    with pa.OSFile(str(path)) as file:
        tokens = pa.ipc.open_file(file).read_all()["tokens"].combine_chunks()
    before, started = _peak_gb(), time.perf_counter()
    means = self_bleu(tokens, ORDERS).mean(axis=0).tolist()
    seconds = time.perf_counter() - started
    return {
        "texts": len(tokens),
        "tokens_per_text": len(tokens.flatten()) / len(tokens),
        "seconds": seconds,
        "peak_gb": _peak_gb(),
        "peak_before_gb": before,
        "means": means,
    }


def _peak_gb() -> float:
    # Not ru_maxrss: that one also tells of the process this one was started from.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e9
    raise SystemExit("/proc/self/status has no VmHWM: memory can be measured on Linux only")


if __name__ == "__main__":
    main()

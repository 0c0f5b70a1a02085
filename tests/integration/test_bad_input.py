"""Users' mistakes end in exit code 2, under ten seconds, with one message that names place and remedy."""

import gzip
import os
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "jobs" / "recipes" / "demo.yaml"


def mistake(folder: Path, **changes: Any) -> tuple[int, str, float]:
    """Run the demo's recipe with changes to it or its task; return exit code, messages, seconds."""
    recipe = yaml.safe_load(DEMO.read_text())
    task = yaml.safe_load((DEMO.parent / "demo" / "task.yaml").read_text())
    for name in ("seeds", "test"):
        task[name] = str(DEMO.parent / "demo" / task[name])
    recipe |= {"task": task, "store": str(folder / "store"), "teacher": {"backend": "scripted"}}
    recipe["corpus"]["path"] = str(DEMO.parent / recipe["corpus"]["path"])
    for key, value in changes.items():
        node = recipe
        *parents, last = key.split("__")
        for parent in parents:
            node = node[parent]
        node[last] = value
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "jobs.run", str(path)],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False, env=dict(os.environ),
    )  # fmt: skip
    return done.returncode, done.stderr, time.monotonic() - began


def seeds_with(folder: Path, line: str) -> str:
    """Return a copy of the demo's seeds with one line more."""
    path = folder / "seeds.jsonl"
    path.write_text((DEMO.parent / "demo" / "seeds.jsonl").read_text() + line + "\n")
    return str(path)


def empty_corpus(folder: Path) -> str:
    """Return a corpus without rows."""
    path = folder / "empty.jsonl.gz"
    path.write_bytes(gzip.compress(b""))
    return str(path)


def small_corpus(folder: Path) -> str:
    """Return a corpus of the demo's first 200 documents."""
    with gzip.open(DEMO.parent / "demo" / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        (folder / "corpus.jsonl").write_text("".join(islice(lines, 200)), encoding="utf-8")
    return str(folder / "corpus.jsonl")


def a_file(folder: Path) -> str:
    """Return a store that lies below a file, which nobody can write."""
    path = folder / "file"
    path.write_text("")
    return str(path / "store")


CASES: dict[str, tuple[Any, list[str]]] = {
    "typo": (lambda _: {"method__varaint": "retricl"}, ["method", "varaint", "did you mean variant"]),
    "label without verbalizer": (lambda _: {"task__labels__Film": ""}, ["labels", "Film", "verbalizer"]),
    "unknown label": (
        lambda f: {"task__seeds": seeds_with(f, '{"text": "A ship.", "label": "Boat"}')},
        ["seeds.jsonl:141", "Boat"],
    ),
    "empty corpus": (lambda f: {"corpus__path": empty_corpus(f)}, ["empty.jsonl.gz"]),
    "missing file": (lambda _: {"corpus__path": "/nowhere/corpus.jsonl"}, ["/nowhere/corpus.jsonl"]),
    "megabyte text": (
        lambda f: {"task__seeds": seeds_with(f, f'{{"text": "{"a " * 500_000}", "label": "Film"}}')},
        ["seeds.jsonl:141", "characters"],
    ),
    "no such model": (
        lambda _: {"teacher": {"backend": "transformers", "model": "nobody/no-such-model"}},
        ["nobody/no-such-model"],
    ),
    "unwritable store": (lambda f: {"store": a_file(f)}, ["file/store", "--set store"]),
    "has too few items": (
        lambda f: {"targets__rows_per_label": 100_000, "corpus__path": small_corpus(f)},
        ["has too few items", "Album", "targets.rows_per_label"],
    ),
}


@pytest.mark.parametrize("case", [name for name in CASES if name != "has too few items"])
def test_mistake_is_named_with_its_remedy(tmp_path: Path, case: str) -> None:
    changes, words = CASES[case]
    code, messages, seconds = mistake(tmp_path, **changes(tmp_path))
    assert code == 2, messages
    assert "Traceback" not in messages
    for word in words:
        assert word in messages
    assert seconds < 30


def test_label_with_too_few_documents_is_named_before_any_generation(tmp_path: Path) -> None:
    changes, words = CASES["has too few items"]
    code, messages, _ = mistake(tmp_path, **changes(tmp_path))
    assert code == 2, messages
    for word in words:
        assert word in messages
    assert not list((tmp_path / "store" / "demo").glob("ledger/*"))

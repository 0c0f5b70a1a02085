"""Users' mistakes end in exit code 2, under ten seconds, with one message that names place and remedy."""

import gzip
import json
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


def write_recipe(folder: Path, **changes: Any) -> Path:
    """Write the demo's recipe with changes to it or its task."""
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
    return path


def mistake(folder: Path, **changes: Any) -> tuple[int, str, float]:
    """Run such a recipe in a process of its own; return exit code, messages, seconds."""
    path = write_recipe(folder, **changes)
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
        lambda f: {
            "targets__rows_per_label": 100_000,
            "corpus__path": small_corpus(f),
            # Counting what there is takes no encoder.
            "index": {"name": "demo"},
            "retriever": {"kind": "random"},
        },
        ["has too few items", "Album", "targets.rows_per_label"],
    ),
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, float]]:
    """How each mistake ended: exit code, messages, seconds. One process makes them all."""
    paths = {}
    for case in TOGETHER:
        folder = tmp_path_factory.mktemp("mistake")
        paths[case] = write_recipe(folder, **CASES[case][0](folder))
    done = subprocess.run(
        [sys.executable, "-c", ONE_BY_ONE, *map(str, paths.values())],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=240, check=True, env=dict(os.environ),
    )  # fmt: skip
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        case: (code, said, float(seconds)) for case, (code, said, seconds) in zip(paths, told, strict=True)
    }


ALONE = "typo"
TOGETHER = [name for name in CASES if name not in (ALONE, "has too few items")]
# A process of its own is mostly imports: one is enough to show its exit code and its time from the start.
ONE_BY_ONE = """
import json, sys, time
from click.testing import CliRunner
from jobs.run import main

for path in sys.argv[1:]:
    began = time.monotonic()
    done = CliRunner().invoke(main, [path])
    trace = "" if done.exception is None or isinstance(done.exception, SystemExit) else "Traceback"
    print(json.dumps([done.exit_code, done.stderr + trace, time.monotonic() - began]))
"""


@pytest.mark.parametrize("case", [ALONE, *TOGETHER])
def test_mistake_is_named_with_its_remedy(tmp_path: Path, request: pytest.FixtureRequest, case: str) -> None:
    changes, words = CASES[case]
    if case == ALONE:
        code, messages, seconds = mistake(tmp_path, **changes(tmp_path))
    else:
        code, messages, seconds = request.getfixturevalue("ended")[case]
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

"""A method of the user's own, run whole: replicas get its code, the run is recorded and taken up again."""

import re
from pathlib import Path

import yaml
from click.testing import CliRunner

from cluster.rundir import read_metrics
from cluster.storage import LocalStore
from jobs.cli import main

DOCS = Path(__file__).parents[2] / "docs" / "methods.md"
TASK = {"name": "t", "instruction": "Say what it is about.", "labels": {"sea": "the sea", "city": "a city"}}


def test_the_documented_method_fills_a_dataset_and_goes_on(tmp_path: Path, ray_local: str) -> None:
    (tmp_path / "haiku.py").write_text(re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)[0])
    recipe = tmp_path / "recipe.yaml"
    settings = {
        "run": "own",
        "store": str(tmp_path / "runs"),
        "task": TASK,
        "method": {"name": "haiku", "file": "haiku.py"},
        "teacher": {"backend": "scripted", "model": "any"},
    }
    for rows in (4, 6):
        recipe.write_text(yaml.safe_dump(settings | {"targets": {"rows_per_label": rows}}))
        done = CliRunner().invoke(main, ["synthesize", str(recipe), "--address", ray_local])
        assert done.exit_code == 0, done.output
        metrics = read_metrics(LocalStore(tmp_path / "runs" / "own"))
        assert metrics["dataset"]["per_label"] == {"sea": rows, "city": rows}

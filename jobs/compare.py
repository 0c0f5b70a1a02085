"""Compare methods on tasks at equal rows or for equal tokens, beside gold rows, seeds and the teacher itself.

nightshift compare methods.yaml, or: ray job submit --working-dir . -- python -m jobs.compare methods.yaml
"""

import json
from collections.abc import Mapping
from pathlib import Path

from cluster.errors import NightshiftError
from cluster.progress import Progress
from cluster.rundir import owned
from cluster.session import connected
from cluster.storage import Store
from jobs.comparing import Entry, baseline_entries, cell, failed, significance
from jobs.comparison_settings import Comparison, baseline_of, load_comparison
from jobs.evaluate import run as evaluate
from jobs.job import job, show
from jobs.report.comparison import worded, write_comparison
from jobs.run import run as make
from jobs.stage import Plan, check, opened, store_of
from jobs.teacher_baseline import ask_teacher
from jobs.train import run as train

FAILED, STOPPED_BY_LIMIT = 1, 3
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
        tasks[task] += _measured(comparison, plan)
    result = {
        "comparison": comparison.comparison,
        "equal": {"rows_per_label": comparison.rows_per_label, "tokens": comparison.tokens},
        "tasks": {
            task: {
                "test_rows": len(baselines[task].test),
                "entries": [entry.told() for entry in entries],
                "significance": significance(entries),
            }
            for task, entries in tasks.items()
        },
    }
    folder.write(RESULT, json.dumps(result, ensure_ascii=False, indent=1).encode())
    page = write_comparison(folder, result)
    for line in worded(result):
        progress.say(line)
    progress.step("compared", f"Comparison: {page}", page=page)
    return FAILED if FAILED in codes else max(codes)


def _made(task: str, method: str, plan: Plan) -> tuple[Entry, int]:
    """Make a run, or find it made; one that fails is told in its place, and the others go on."""
    try:
        with opened(plan, None) as stage:
            code = make(stage)
            return cell(stage, method), code
    except NightshiftError as error:
        return failed(method, plan.recipe.run, str(error)), FAILED


def _measured(comparison: Comparison, plan: Plan) -> list[Entry]:
    """Train and score what methods are held against."""
    with opened(plan, None) as stage:
        if plan.recipe.students:
            train(stage)
            evaluate(stage)
        entries = baseline_entries(stage)
        if comparison.teacher is not None and plan.recipe.method.asks_teacher:
            entries += [ask_teacher(stage, comparison.teacher, shots) for shots in comparison.teacher.shots]
        return entries


main = job("compare", run, reads=True)

if __name__ == "__main__":
    main()

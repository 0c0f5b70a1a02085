"""The whole night from one recipe: index, tune, synthesize, train, evaluate, report.

nightshift run recipe.yaml, or: ray job submit --working-dir . -- python -m jobs.run recipe.yaml
"""

from collections.abc import Mapping
from typing import Any

from cluster.rundir import read_metrics
from jobs.evaluate import run as evaluate
from jobs.index import run as index
from jobs.job import job
from jobs.report.job import run as report
from jobs.stage import Stage
from jobs.synthesize import run as synthesize
from jobs.train import run as train
from jobs.tune import run as tune


def run(stage: Stage) -> int:
    """Run every stage; each finds its own finished work and goes on from there."""
    if stage.recipe.index is not None:
        index(stage)
    if stage.recipe.tune is not None or stage.recipe.incubation is not None:
        tune(stage)
    code = synthesize(stage)
    if read_metrics(stage.run)["dataset"]["rows"]:
        if stage.recipe.students:
            train(stage)
        evaluate(stage)
    elif stage.recipe.students or stage.recipe.asks:
        stage.progress.say("No rows were made: no student is trained")
    report(stage)
    for line in accuracies(read_metrics(stage.run)):
        stage.progress.say(line)
    return code


def accuracies(metrics: dict[str, object]) -> list[str]:
    """Return one line per student and baseline: accuracy on the gold test rows."""
    students, baselines = metrics.get("students"), metrics.get("baselines")
    if not isinstance(students, dict) or not isinstance(baselines, dict):
        return []
    lines = [f"  {name:<28} {_scored(scores)}" for name, scores in students.items()]
    majority = baselines["majority"]["accuracy"]
    return ["Accuracy on the gold test rows:", *lines, f"  {'majority class':<28} {majority:.1%}"]


def _scored(scores: Mapping[str, Any]) -> str:
    """Word the accuracy of a student, mean and spread of its runs, and its rows."""
    runs, said = scores.get("runs"), f"{scores['accuracy']:.1%}  "
    if runs:
        said += f"{runs['mean']:.1%} ± {100 * runs['std']:.1f} in {len(runs['accuracies'])} runs  "
    return f"{said}({scores['rows']} {scores['trained_on']} rows)"


main = job("run", run)

if __name__ == "__main__":
    main()

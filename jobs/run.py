"""The whole night from one recipe: index, synthesize, train, evaluate, report.

nightshift run recipe.yaml, or: ray job submit --working-dir . -- python -m jobs.run recipe.yaml
"""

from cluster.rundir import read_metrics
from jobs.evaluate import run as evaluate
from jobs.index import run as index
from jobs.job import job
from jobs.report.job import run as report
from jobs.stage import Stage
from jobs.synthesize import run as synthesize
from jobs.train import run as train


def run(stage: Stage) -> int:
    """Run every stage; each finds its own finished work and goes on from there."""
    if stage.recipe.index is not None:
        index(stage)
    code = synthesize(stage)
    if stage.recipe.students and not read_metrics(stage.run)["dataset"]["rows"]:
        stage.progress.say("No rows were made: no student is trained")
    elif stage.recipe.students:
        train(stage)
        evaluate(stage)
    report(stage)
    for line in accuracies(read_metrics(stage.run)):
        stage.progress.say(line)
    return code


def accuracies(metrics: dict[str, object]) -> list[str]:
    """Return one line per student and baseline: accuracy on the gold test rows."""
    students, baselines = metrics.get("students"), metrics.get("baselines")
    if not isinstance(students, dict) or not isinstance(baselines, dict):
        return []
    lines = [
        f"  {name:<28} {scores['accuracy']:.1%}  ({scores['rows']} {scores['trained_on']} rows)"
        for name, scores in students.items()
    ]
    majority = baselines["majority"]["accuracy"]
    return ["Accuracy on the gold test rows:", *lines, f"  {'majority class':<28} {majority:.1%}"]


main = job("run", run)

if __name__ == "__main__":
    main()

"""The `nightshift` command: one verb per job, each imported only when it is called."""

import importlib

import click

VERBS = {
    "run": ("jobs.run", "The whole night: index, tune, synthesize, train, evaluate, report."),
    "index": ("jobs.index", "Embed a corpus and build its index."),
    "search": ("jobs.search", "Show the documents nearest to a query."),
    "tune": ("jobs.tune", "Fine-tune the teacher."),
    "synthesize": ("jobs.synthesize", "Let the teacher write the dataset."),
    "train": ("jobs.train", "Fine-tune the students."),
    "evaluate": ("jobs.evaluate", "Measure the dataset and score the students."),
    "compare": ("jobs.compare", "Compare methods at equal rows or for equal tokens."),
    "predict": ("jobs.predict", "Classify a large corpus with a student."),
    "mine": ("jobs.mine", "Find the texts of a corpus that meet a condition over students."),
    "report": ("jobs.report.job", "Write the report and the dataset card."),
    "status": ("jobs.status", "Show how far a run is, from any terminal."),
    "explain": ("jobs.explain", "Tell all that is known of one row."),
}

WATCHERS = ("status", "explain")
"""Verbs that look at a run from outside: they take its name in place of a recipe, and need no cluster."""


class Verbs(click.Group):
    """Knows the names and purposes of all verbs without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(VERBS[cmd_name][0]).main
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, purpose) for verb, (_, purpose) in VERBS.items()])


@click.command(cls=Verbs)
@click.version_option(package_name="nightshift")
def main() -> None:
    """Describe a text classifier; get a synthetic dataset, fine-tuned students and a report.

    \b
    nightshift run jobs/recipes/demo.yaml
    nightshift run jobs/recipes/demo.yaml --set targets.rows_per_label=50
    """


if __name__ == "__main__":
    main()

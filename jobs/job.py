"""The command factory: every verb has the same options, errors and exit codes."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from cluster.errors import NightshiftError, SettingsError

Run = Callable[..., int]
WRITERS = ("run", "synthesize")
"""Verbs that need the teacher."""


def job(
    verb: str, run: Run, *extra: click.Parameter, owns: bool = True, reads: bool = False
) -> click.Command:
    """Return the click command of a verb; run(stage, **extra) returns the exit code.

    A verb that does not own the run only looks: it writes nothing there, and others may work meanwhile.
    With reads, it is run(path, assignments, dry_run, address), which reads another file than a recipe.
    """
    parameters: list[click.Parameter] = [
        click.Argument(["recipe"], type=click.Path(path_type=Path)),
        *extra,
        click.Option(
            ["--set", "assignments"], multiple=True, metavar="KEY=VALUE", help="Override a recipe key."
        ),
        click.Option(
            ["--dry-run"], is_flag=True, help="Check every input, print the resolved recipe, do nothing."
        ),
        click.Option(["--address"], help="Ray cluster to join, for example ray://head:10001 or auto."),
        click.Option(["--submit"], help="Job server to send this command to, for example http://head:8265."),
    ]

    def callback(**given: Any) -> None:
        sys.exit(guarded(lambda: _start(verb, run, given, extra, owns, reads)))

    module = sys.modules[run.__module__]
    return click.Command(verb, callback=callback, params=parameters, help=module.__doc__)


def guarded(work: Callable[[], int]) -> int:
    """Run work and turn errors into messages and exit codes; users' mistakes show no traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return work()
    except NightshiftError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except KeyboardInterrupt:
        click.echo("\nstopped; what was finished is kept: the same command resumes", err=True)
        return 1


def _interrupt(*_: object) -> None:
    # Job servers stop a job with SIGTERM: end as on Ctrl-C, with everything finished written.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So a shell starts what is to run in the background.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.kill(os.getpid(), signal.SIGINT)


def _start(
    verb: str,
    run: Run,
    given: dict[str, Any],
    extra: Sequence[click.Parameter],
    owns: bool,
    reads: bool,
) -> int:
    path, assignments = given.pop("recipe"), given.pop("assignments")
    dry_run, address, submit = given.pop("dry_run"), given.pop("address"), given.pop("submit")
    if submit is not None:
        if address is not None or dry_run:
            raise SettingsError("--submit: goes with neither --address nor --dry-run")
        words = [word for each in extra for word in _words(each, given[str(each.name)])]
        return _submit(verb, submit, path, assignments, words)
    from cluster.session import prepare_environment

    prepare_environment()
    if reads:
        return run(path, assignments, dry_run, address)
    from jobs.recipe import load_recipe
    from jobs.stage import check, looking, opened

    plan = check(load_recipe(path, assignments), teacher=verb in WRITERS)
    if dry_run:
        return show([plan.recipe])
    with opened(plan, address) if owns else looking(plan, address) as stage:
        return run(stage, **given)


def _words(parameter: click.Parameter, value: Any) -> list[str]:
    """Return what gives a parameter its value on a command line."""
    if value is None or value is False:
        return []
    if isinstance(parameter, click.Argument):
        return [str(value)]
    option = parameter.opts[0]
    if isinstance(value, tuple):
        return [word for each in value for word in (option, str(each))]
    return [option] if value is True else [option, str(value)]


def show(recipes: Sequence[Any]) -> int:
    """Print resolved recipes, for a dry run."""
    import yaml

    for number, recipe in enumerate(recipes):
        text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        click.echo(f"---\n{text}" if number else text, nl=False)
    said = "the recipe and its" if len(recipes) == 1 else f"{len(recipes)} recipes and their"
    click.echo(f"dry run: {said} inputs are in order; nothing was done", err=True)
    return 0


def _submit(verb: str, address: str, path: Path, assignments: tuple[str, ...], words: list[str]) -> int:
    from cluster.session import ROOT, submit

    try:
        inside = path.resolve().relative_to(ROOT.resolve()).as_posix()
    except ValueError as error:
        raise SettingsError(f"{path}: only recipes below {ROOT} travel with a submitted job") from error
    changes = [word for assignment in assignments for word in ("--set", assignment)]
    return submit(address, f"jobs.{verb}", [inside, *changes, *words])

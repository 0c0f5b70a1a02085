"""Finding the folder of a run from outside: by its place, by its name in a store, or by its recipe."""

from pathlib import Path

import click

from cluster.errors import SettingsError, StorageError
from cluster.settings import read_yaml
from cluster.storage import LocalStore, Store, check_reach, place

RUN = click.Argument(["run"], metavar="RUN")
STORE = click.Option(["--store"], metavar="PLACE", help="Where runs are kept, for a name.  [default: runs]")
AS_JSON = click.Option(["--json", "as_json"], is_flag=True, help="Print JSON.")
SHOWN = 8


def find_run(run: str, store: str | None) -> Store:
    """Return the store of a run's folder, which is only read.

    run is a folder or URL, a recipe file, or a name in a store (`runs` by default). SettingsError names what
    was looked at when there is no run.
    """
    if "://" in run:
        return _checked([place(run)], run)
    path = Path(run)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        recipe = read_yaml(path)
        if not isinstance(recipe.get("run"), str):
            raise SettingsError(
                f"{path}: names no run; give the run's folder, or its name with --store PLACE"
            )
        return _checked([_inside(store or str(recipe.get("store", "runs")), recipe["run"])], run)
    places: list[Store] = [LocalStore(path)] if store is None else []
    if path.name == run and run not in (".", ".."):
        places.append(_inside(store or "runs", run))
    return _checked(places or [LocalStore(path)], run)


def _inside(store: str, name: str) -> Store:
    return place(store, Path.cwd()).within(name)


def _checked(places: list[Store], run: str) -> Store:
    """Return the first of some places that holds a run."""
    for each in places:
        check_reach(each)
        if each.exists("run.json") or each.exists("lease"):
            return each
    looked = " and ".join(each.url for each in places)
    raise SettingsError(f"{run}: there is no run in {looked}{_others(places[-1])}")


def _others(missing: Store) -> str:
    """Name the runs beside one that is not there, or say what to give."""
    if isinstance(missing, LocalStore):
        try:
            found = sorted(path.parent.name for path in missing.root.parent.glob("*/run.json"))
        except OSError as error:
            raise StorageError(f"{missing.root.parent}: cannot be read ({error.strerror})") from error
        if found:
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            return f"; there are {', '.join(found[:SHOWN])}{more}"
    return "; give its folder or URL, its recipe, or its name with --store PLACE"

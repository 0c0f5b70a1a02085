"""A comparison's settings: one recipe for each method and task, what is equal, what stands beside."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import SettingsError
from cluster.settings import flatten
from jobs.cli import main
from jobs.comparison_settings import Comparison, _merged, baseline_of, load_comparison
from jobs.recipe import Recipe

ROOT = Path(__file__).parents[3]
SHIPPED = sorted((ROOT / "jobs" / "recipes" / "comparisons").glob("*.yaml"))
TASK = {"name": "t", "instruction": "Sort.", "labels": {"a": "an a", "b": "a b"}}
STUDENTS = [{"name": "small", "base": "b", "runs": 2}, {"name": "large", "base": "c"}]


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """Give the process its handler back: a verb sets one."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def written(folder: Path, **changes: Any) -> Path:
    """A small comparison of two methods on two tasks, with some keys changed."""
    data: dict[str, Any] = {
        "comparison": "c",
        "store": str(folder / "runs"),
        "rows_per_label": 3,
        "base": {"teacher": {"backend": "scripted", "words": 5}, "metrics": None},
        "tasks": {"one": {"task": TASK}, "two": {"task": TASK | {"name": "u"}}},
        "methods": {"few": {"method": {"name": "fewgen"}}, "simple": {"method": {"name": "simprompt"}}},
    }
    path = folder / "comparison.yaml"
    path.write_text(yaml.safe_dump(data | changes, sort_keys=False))
    return path


def loaded(
    folder: Path, *assignments: str, **changes: Any
) -> tuple[Comparison, dict[tuple[str, str], Recipe]]:
    return load_comparison(written(folder, **changes), assignments)


def cell(folder: Path, **changes: Any) -> Recipe:
    """The recipe of the first method on the first task."""
    return loaded(folder, **changes)[1]["one", "few"]


def message(folder: Path, **changes: Any) -> str:
    with pytest.raises(SettingsError) as error:
        loaded(folder, **changes)
    assert error.value.exit_code == 2
    return str(error.value)


def test_there_is_a_recipe_for_each_method_on_each_task(tmp_path: Path) -> None:
    comparison, recipes = loaded(tmp_path)
    assert list(recipes) == [("one", "few"), ("one", "simple"), ("two", "few"), ("two", "simple")]
    assert [recipe.run for recipe in recipes.values()] == [
        "c-one-few",
        "c-one-simple",
        "c-two-few",
        "c-two-simple",
    ]
    assert {recipe.store for recipe in recipes.values()} == {comparison.store} == {str(tmp_path / "runs")}
    assert [recipe.method.name for recipe in recipes.values()] == ["fewgen", "simprompt"] * 2
    assert {recipe.targets.rows_per_label for recipe in recipes.values()} == {3}
    # Seeds alone are a baseline of the comparison, not of each run.
    assert not any(recipe.seeds_only for recipe in recipes.values())


def test_parts_are_laid_over_one_another_at_every_depth(tmp_path: Path) -> None:
    recipe = cell(
        tmp_path,
        base={
            "teacher": {"backend": "scripted", "words": 5, "seats": 4, "refuse": 0.5},
            "limits": {"prices": {"gpu_hour": 1.0}, "tokens": 900},
            "method": {"shots": 7},
        },
        tasks={"one": {"task": TASK, "teacher": {"seats": 8, "refuse": 0.25}, "limits": {"tokens": 800}}},
        methods={"few": {"method": {"name": "fewgen"}, "teacher": {"refuse": 0.0}, "limits": {"money": 2.0}}},
    )
    teacher = recipe.teacher.model_dump()
    assert (teacher["words"], teacher["seats"], teacher["refuse"]) == (5, 8, 0.0)
    limits = recipe.limits.model_dump()
    assert (limits["tokens"], limits["money"], limits["prices"]["gpu_hour"]) == (800, 2.0, 1.0)
    assert recipe.method.model_dump()["shots"] == 7


def test_lists_and_null_take_the_place_of_what_they_are_laid_over(tmp_path: Path) -> None:
    recipe = cell(
        tmp_path,
        base={"teacher": {"backend": "scripted"}, "students": STUDENTS, "judge": {"attempts": 2}},
        methods={"few": {"method": {"name": "fewgen"}, "students": STUDENTS[1:], "judge": None}},
    )
    assert [student.name for student in recipe.students] == ["large"]
    assert recipe.judge is None


NESTED = st.recursive(
    st.none() | st.integers() | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
MAPPINGS = st.dictionaries(st.sampled_from("abc"), NESTED, max_size=3)


@given(MAPPINGS, MAPPINGS)
def test_what_is_laid_over_wins_and_the_rest_shows_through(
    under: dict[str, Any], over: dict[str, Any]
) -> None:
    before = json.dumps([under, over])
    merged = _merged(under, over)
    assert json.dumps([under, over]) == before
    assert _merged({}, over) == over and _merged(under, {}) == under
    assert merged.keys() == under.keys() | over.keys()
    leaves = flatten(merged)
    assert all(leaves[path] == value for path, value in flatten(over).items() if value != {})
    assert _merged(merged, over) == merged


def test_one_task_or_method_alone_differs_where_it_says_so(tmp_path: Path) -> None:
    _, recipes = loaded(
        tmp_path,
        tasks={"one": {"task": TASK}, "two": {"task": TASK, "license": "mit"}},
        methods={
            "few": {"method": {"name": "fewgen"}},
            "again": {"method": {"name": "fewgen", "shots": 9}, "curation": {"semantic": None}},
        },
    )
    assert [recipe.license for recipe in recipes.values()] == ["unknown", "unknown", "mit", "mit"]
    assert [recipe.method.model_dump()["shots"] for recipe in recipes.values()][1::2] == [9, 9]


def test_paths_start_at_the_comparison(tmp_path: Path) -> None:
    recipe = cell(
        tmp_path, tasks={"one": {"task": "tasks/one.yaml"}, "two": {"task": TASK | {"seeds": "s.jsonl"}}}
    )
    assert recipe.task == tmp_path / "tasks/one.yaml"


def test_no_part_can_give_a_run_another_name_or_place(tmp_path: Path) -> None:
    recipe = cell(tmp_path, methods={"few": {"method": {"name": "fewgen"}, "run": "mine", "store": "there"}})
    assert (recipe.run, recipe.store) == ("c-one-few", str(tmp_path / "runs"))


def test_values_can_be_set_on_the_command_line(tmp_path: Path) -> None:
    comparison, recipes = loaded(tmp_path, "rows_per_label=9", "methods.few.method.shots=2", "teacher=null")
    assert comparison.teacher is None
    assert recipes["two", "few"].targets.rows_per_label == 9
    assert recipes["one", "few"].method.model_dump()["shots"] == 2


def test_equal_tokens_are_a_limit_that_no_number_of_rows_ends(tmp_path: Path) -> None:
    recipe = cell(tmp_path, rows_per_label=None, tokens=40_000)
    assert recipe.limits.tokens == 40_000
    assert recipe.targets.quotas(["a", "b"])["a"] >= 1_000_000


@pytest.mark.parametrize("given", [{}, {"tokens": 5}, {"rows_per_label": None}])
def test_exactly_one_thing_is_equal_for_all_methods(tmp_path: Path, given: dict[str, Any]) -> None:
    if given:
        assert "give exactly one of rows_per_label and tokens" in message(tmp_path, **given)
    else:
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"methods": {"a b": {"method": {"name": "fewgen"}}}}, ["'a b' cannot be a name", "letters, digits"]),
        ({"methods": {"../up": {"method": {"name": "fewgen"}}}}, ["'../up' cannot be a name"]),
        ({"tasks": {"<b>": {"task": TASK}}}, ["'<b>' cannot be a name"]),
        ({"methods": {"baselines": {"method": {"name": "fewgen"}}}}, ["'baselines' cannot be a name"]),
        ({"comparison": "a/b"}, ["comparison: "]),
        ({"comparison": ""}, ["comparison: "]),
        ({"methods": {}}, ["methods: "]),
        ({"tasks": {}}, ["tasks: "]),
        ({"rows_per_label": 0}, ["rows_per_label: "]),
        ({"rows_per_label": None, "tokens": 0}, ["tokens: "]),
        ({"mehtods": {}}, ["mehtods: unknown key; did you mean methods?"]),
        ({"teacher": {"shots": [0], "rows": 0}}, ["teacher.rows: "]),
        ({"methods": {"few": {"method": {"name": "fewgne"}}}}, ["fewgne", "method few on task one"]),
        (
            {"tasks": {"one": {"task": TASK}, "two": {"corpus": {"path": "x"}, "task": TASK}}},
            ["corpus: add index", "method few on task two"],
        ),
        ({"base": {}}, ["teacher: is required and missing", "method few on task one"]),
        ({"tasks": {"one": {"license": "mit"}}}, ["task: is required and missing", "method few on task one"]),
        (
            {"methods": {"few": {"method": {"name": "fewgen"}, "targets": {"rows": 4}}}},
            ["exactly one of rows_per_label and rows", "method few on task one"],
        ),
    ],
)
def test_a_mistake_is_named_with_the_file_and_the_cell(
    tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    said = message(tmp_path, **changes)
    assert said.startswith(f"{tmp_path / 'comparison.yaml'}: ")
    assert all(word in said for word in words), said


def test_shots_are_not_fewer_than_none(tmp_path: Path) -> None:
    assert "teacher.shots" in message(tmp_path, teacher={"shots": [-1]})


def test_no_two_runs_have_one_name(tmp_path: Path) -> None:
    said = message(
        tmp_path,
        tasks={"a": {"task": TASK}, "a-b": {"task": TASK}},
        methods={"c": {"method": {"name": "fewgen"}}, "b-c": {"method": {"name": "simprompt"}}},
    )
    assert "run c-a-b-c would be both a and b-c and a-b and c" in said


def test_what_is_equal_for_all_is_not_for_a_method_to_change(tmp_path: Path) -> None:
    said = message(
        tmp_path, methods={"few": {"method": {"name": "fewgen"}, "targets": {"rows_per_label": 99}}}
    )
    assert "method few on task one" in said


@pytest.mark.parametrize(
    ("changes", "seeds", "gold", "names"),
    [
        ({}, True, True, ["gold-small", "gold-large", "seeds-small", "seeds-large"]),
        ({}, True, False, ["seeds-small", "seeds-large"]),
        ({}, False, True, ["gold-small", "gold-large"]),
        ({"gold": False}, True, True, ["seeds-small", "seeds-large"]),
        ({"seeds": False, "gold": False}, True, True, []),
    ],
)
def test_baselines_learn_from_gold_rows_and_seeds_alone(
    tmp_path: Path, changes: dict[str, Any], seeds: bool, gold: bool, names: list[str]
) -> None:
    base = {"teacher": {"backend": "scripted"}, "students": STUDENTS}
    comparison, recipes = loaded(tmp_path, base=base, **changes)
    baseline = baseline_of(comparison, "one", recipes["one", "simple"], seeds, gold)
    assert baseline.run == "c-one-baselines"
    assert [student.name for student in baseline.students] == names
    for student in baseline.students:
        source, _, name = student.name.partition("-")
        assert student.rows.sources == (source,) and student.rows.kind == source
        (own,) = (each for each in recipes["one", "simple"].students if each.name == name)
        assert (student.base, student.runs, student.identity()) == (own.base, own.runs, own.identity())
    assert baseline.metrics is None and not baseline.seeds_only
    assert baseline.store == comparison.store


def test_nothing_else_is_asked_of_baselines(tmp_path: Path) -> None:
    asked = {"student": {"base": "b"}}
    base = {"teacher": {"backend": "scripted"}, "information": asked, "cartography": asked, "oracle": asked}
    comparison, recipes = loaded(tmp_path, base=base)
    assert recipes["one", "few"].asks
    assert not baseline_of(comparison, "one", recipes["one", "few"], True, True).asks


def test_the_budget_of_a_method_is_not_that_of_the_baselines(tmp_path: Path) -> None:
    comparison, recipes = loaded(tmp_path, rows_per_label=None, tokens=100)
    assert baseline_of(comparison, "one", recipes["one", "few"], True, True).limits.tokens is None


def test_for_equal_tokens_a_method_of_so_many_items_may_have_targets_of_its_own(tmp_path: Path) -> None:
    few = {"method": {"name": "fewgen"}, "targets": {"rows_per_label": 3}}
    _, recipes = loaded(
        tmp_path,
        rows_per_label=None,
        tokens=100,
        methods={"few": few, "open": {"method": {"name": "simprompt"}}},
    )
    assert {name: recipe.targets.rows_per_label for (_, name), recipe in recipes.items()} == {
        "few": 3,
        "open": 1_000_000,
    }
    assert {recipe.limits.tokens for recipe in recipes.values()} == {100}


def compare(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["compare", *arguments])


def test_a_dry_run_prints_every_recipe_and_does_nothing(tmp_path: Path) -> None:
    result = compare(str(written(tmp_path)), "--dry-run", "--set", "rows_per_label=7")
    assert result.exit_code == 0, result.output
    printed = list(yaml.safe_load_all(result.stdout))
    assert [each["run"] for each in printed] == [
        "c-one-few",
        "c-one-simple",
        "c-two-few",
        "c-two-simple",
        "c-one-baselines",
        "c-two-baselines",
    ]
    assert {each["targets"]["rows_per_label"] for each in printed} == {7}
    assert "6 recipes and their inputs are in order; nothing was done" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_what_is_printed_is_a_recipe_again(tmp_path: Path) -> None:
    printed = yaml.safe_load_all(compare(str(written(tmp_path)), "--dry-run").stdout)
    assert next(Recipe.model_validate(each).run for each in printed) == "c-one-few"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokens": 5}, "exactly one of rows_per_label and tokens"),
        ({"tasks": {"one": {"task": "absent.yaml"}}}, "absent.yaml"),
        ({"base": {"teacher": {"backend": "scripted"}, "students": STUDENTS}}, "task.test: names no file"),
        ({"base": {"teacher": {"backend": "none"}}}, "teacher.backend: none writes nothing"),
    ],
)
def test_a_mistake_ends_before_anything_begins(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    result = compare(str(written(tmp_path, **changes)))
    assert result.exit_code == 2, result.output
    assert words in result.stderr and "Traceback" not in result.output
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_comparison_loads(path: Path) -> None:
    comparison, recipes = load_comparison(path, ())
    assert len(recipes) == len(comparison.tasks) * len(comparison.methods)


@pytest.mark.parametrize("name", ["demo", "production"])
def test_the_comparisons_that_are_shipped_can_be_read(name: str) -> None:
    path = Path(__file__).parents[3] / "jobs" / "recipes" / "comparisons" / f"{name}.yaml"
    comparison, recipes = load_comparison(path, ())
    assert len(recipes) == len(comparison.tasks) * len(comparison.methods) >= 3

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.errors import ModelError, SettingsError
from cluster.models import resolve_model
from jobs.recipe import load_recipe
from jobs.stage import check
from jobs.targets import Targets
from synth.task import load_task

ROOT = Path(__file__).parents[3]
RECIPES = sorted((ROOT / "jobs" / "recipes").glob("*.yaml"))
PRODUCTION = sorted((ROOT / "jobs" / "recipes" / "production").glob("*.yaml"))
TASK = {"name": "t", "instruction": "Sort.", "labels": {"a": "an a", "b": "a b"}}
INDEX = {"encoder": {"model": "m", "preset": "minilm"}}


def written(folder: Path, **changes: Any) -> Path:
    """A small recipe with some keys changed."""
    data: dict[str, Any] = {
        "run": "r",
        "task": TASK,
        "method": {"name": "fewgen"},
        "teacher": {"backend": "scripted"},
        "targets": {"rows_per_label": 2},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(data | changes, allow_unicode=True), encoding="utf-8")
    return path


def test_there_are_recipes() -> None:
    assert RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads_and_its_files_are_there(path: Path) -> None:
    recipe = load_recipe(path)
    load_task(recipe.task, path.parent)
    assert recipe.corpus is None or Path(recipe.corpus.path).exists()
    # It needs no model that is not in a package.
    check(recipe, teacher=False)


@pytest.mark.parametrize("path", PRODUCTION, ids=lambda path: path.stem)
def test_every_production_recipe_fits_its_task(path: Path) -> None:
    recipe = load_recipe(path)
    given = {"file": recipe.task} if isinstance(recipe.task, Path) else recipe.task
    # The gold rows that a recipe names are its user's.
    task = load_task({**given, "seeds": None, "test": None}, path.parent)
    recipe.targets.quotas(task.labels)
    assert recipe.teacher.backend in (("vllm", "transformers") if recipe.method.asks_teacher else ("none",))
    assert recipe.limits.model_fields_set


def test_every_method_has_a_recipe_for_a_small_machine_and_one_for_a_cluster() -> None:
    shipped = {path.stem for path in (ROOT / "synth" / "methods").glob("[a-z]*.py")}
    assert shipped == {path.stem for path in RECIPES} - {"demo"}
    assert shipped - {"simprompt"} == {path.stem for path in PRODUCTION}


def test_paths_start_at_the_recipe_and_the_store_at_the_working_directory(tmp_path: Path) -> None:
    corpus = {"path": "../docs.jsonl"}
    recipe = load_recipe(written(tmp_path, task="t.yaml", corpus=corpus, index=INDEX, store="out"))
    assert recipe.corpus is not None
    assert (recipe.task, recipe.corpus.path) == (
        tmp_path / "t.yaml",
        str(tmp_path / "../docs.jsonl"),
    )
    assert recipe.store == "out"


def test_absolute_paths_stay(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, task="/t.yaml", corpus={"path": "/docs"}, index=INDEX))
    assert recipe.corpus is not None
    assert (recipe.task, recipe.corpus.path) == (Path("/t.yaml"), "/docs")


def test_a_given_value_wins_over_the_preset_of_its_method(tmp_path: Path) -> None:
    method = {"name": "synthesizrr", "preset": "published_code", "document_tokens": 77}
    path = written(tmp_path, method=method, corpus={"path": "docs"}, index=INDEX)
    dump = load_recipe(path, ("method.pieces=first",)).method.model_dump()
    assert (dump["document_tokens"], dump["pieces"], dump["shot_similarity"]) == (77, "first", (0.5, 0.9))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus": {"path": "docs"}}, "corpus: add index"),
        (
            {"corpus": {"path": "docs"}, "index": {"name": "n"}},
            "index.encoder: retriever.kind dense needs one",
        ),
        ({"method": {"name": "synthesizrr"}}, "method synthesizrr retrieves; add corpus and index"),
        ({"method": {"name": "fewgen", "preset": "best"}}, "preset: 'best' is unknown; known: "),
        (
            {"students": [{"name": "s", "preset": "minilm"}, {"name": "s", "preset": "distilbert"}]},
            "students: two have the same name",
        ),
        (
            {"students": [{"name": "s", "preset": "minilm", "cartography": True}]},
            "students: s: cartography needs the recipe's own key cartography, which says what is kept",
        ),
        ({"students_at_once": 0}, "students_at_once: "),
        ({"oracle": {"gird": 1}}, "oracle.gird: unknown key"),
        ({"run": "a/b"}, "run: "),
        ({"run": ""}, "run: "),
        ({"targets": {"rows_per_label": 1, "ceiling": 0.5}}, "targets.ceiling: "),
        ({"targets": {}}, "targets: give exactly one of rows_per_label and rows; neither is"),
        ({"targets": {"rows_per_label": 1, "rows": 2}}, "exactly one of rows_per_label and rows; both are"),
        ({"targets": {"rows_per_label": 1, "distribution": {"a": 1}}}, "distribution: shares out rows"),
        ({"targets": {"rows": 2, "distribution": {"a": 0}}}, "distribution: gives no label a share"),
        ({"targets": {"rows": 2, "distribution": {"a": -1}}}, "targets.distribution.a: Input should be"),
        ({"targets": {"rows_per_label": {"a": -1}}}, "targets.rows_per_label: a: -1 is no number of rows"),
        ({"targets": {"rows_per_label": {"a": 0}}}, "targets.rows_per_label: wants no rows at all"),
        ({"limits": {"money": 5}}, "limits: money: needs a price"),
        ({"limits": {"deadline": "dawn"}}, "limits.deadline: is no moment"),
        ({"task": 5}, "task"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_file(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(SettingsError) as error:
        load_recipe(path)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)


@pytest.mark.parametrize("key", ["run", "task", "method", "teacher", "targets"])
def test_what_a_recipe_can_not_do_without_is_named(tmp_path: Path, key: str) -> None:
    path = written(tmp_path)
    data = yaml.safe_load(path.read_text())
    del data[key]
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(SettingsError, match=f"{key}: is required and missing"):
        load_recipe(path)


def test_a_model_folder_is_found_from_any_folder_and_other_names_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights").mkdir()
    monkeypatch.chdir(tmp_path)
    index = {"encoder": {"model": "weights", "preset": "minilm"}}
    teacher = {"backend": "vllm", "model": "weights"}
    recipe = load_recipe(written(tmp_path, corpus={"path": "docs"}, index=index, teacher=teacher))
    assert recipe.index is not None
    assert recipe.teacher.model == recipe.index.encoder.model == str(tmp_path / "weights")
    for name in ("org/model", "package:some/file.gguf", "s3://bucket/weights"):
        assert load_recipe(written(tmp_path, teacher=teacher | {"model": name})).teacher.model == name


def test_the_model_folder_of_a_student_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights").mkdir()
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(written(tmp_path, students=[{"name": "s", "base": "weights"}]))
    assert recipe.students[0].base == str(tmp_path / "weights")


def test_what_is_trained_beside_the_students_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    trained = {"student": {"base": "weights"}}
    path = written(
        tmp_path / "sub",
        task=TASK | {"train": "gold.jsonl"},
        tune={"rows": "pairs.jsonl", "base": "weights"},
        incubation={"datasets": ["sets/one.yaml", TASK | {"seeds": "rows.jsonl"}]},
        **{key: trained for key in ("cartography", "oracle", "information")},
    )
    recipe, folder, weights = load_recipe(path), tmp_path / "sub", str(tmp_path / "weights")
    assert recipe.tune and recipe.incubation and recipe.cartography and recipe.oracle and recipe.information
    assert isinstance(recipe.task, dict) and recipe.task["train"] == str(folder / "gold.jsonl")
    assert (recipe.tune.rows, recipe.tune.base) == (str(folder / "pairs.jsonl"), weights)
    first, second = recipe.incubation.datasets
    assert first == folder / "sets/one.yaml"
    assert isinstance(second, dict) and second["seeds"] == str(folder / "rows.jsonl")
    examiners = (recipe.cartography, recipe.oracle, recipe.information)
    assert [each.student.base for each in examiners] == [weights] * 3
    assert recipe.asks and not load_recipe(written(tmp_path)).asks


@pytest.mark.parametrize("use", [resolve_model, "recipe"])
def test_a_model_name_that_the_file_system_refuses_is_the_users_mistake(tmp_path: Path, use: Any) -> None:
    name = "x" * 300
    with pytest.raises(ModelError, match=name) as error:
        if use == "recipe":
            resolve_model(
                load_recipe(written(tmp_path, teacher={"backend": "vllm", "model": name})).teacher.model
            )
        else:
            resolve_model(name)
    assert error.value.exit_code == 2


def quotas(labels: str, **given: Any) -> dict[str, int]:
    return Targets.model_validate(given).quotas(list(labels))


@pytest.mark.parametrize(
    ("given", "rows"),
    [
        ({"rows_per_label": 7}, [7, 7, 7]),
        ({"rows_per_label": {"c": 1, "a": 5, "b": 0}}, [5, 0, 1]),
        ({"rows": 9}, [3, 3, 3]),
        ({"rows": 10}, [4, 3, 3]),
        ({"rows": 11}, [4, 4, 3]),
        ({"rows": 100, "distribution": {"a": 0.7, "b": 0.2, "c": 0.1}}, [70, 20, 10]),
        ({"rows": 3, "distribution": {"a": 1, "b": 0, "c": 1}}, [2, 0, 1]),
        ({"rows": 1000, "distribution": {"a": 1, "b": 1e-3, "c": 1e-3}}, [998, 1, 1]),
    ],
)
def test_rows_are_shared_out_in_the_order_of_the_task(given: dict[str, Any], rows: list[int]) -> None:
    assert list(quotas("abc", **given).items()) == list(zip("abc", rows, strict=True))


def test_a_label_with_a_share_gets_a_row() -> None:
    with pytest.raises(SettingsError, match=r"targets.rows: 10 leaves no row for c; raise it"):
        quotas("abc", rows=10, distribution={"a": 70, "b": 26, "c": 4})


@pytest.mark.parametrize(
    "given", [{"rows_per_label": {"a": 1, "x": 2}}, {"rows": 5, "distribution": {"a": 1, "x": 2}}]
)
def test_labels_of_targets_are_those_of_the_task(given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"the task has no label x; b missing; .* its labels are a, b"):
        quotas("ab", **given)


def test_one_label_can_be_set_on_the_command_line(tmp_path: Path) -> None:
    path = written(tmp_path, targets={"rows_per_label": {"a": 3, "b": 4}})
    recipe = load_recipe(path, ("targets.rows_per_label.b=0", "limits.tokens=1000"))
    assert recipe.targets.quotas(["a", "b"]) == {"a": 3, "b": 0}
    assert recipe.limits.tokens == 1000
    recipe = load_recipe(path, ("targets.rows_per_label=null", "targets.rows=8"))
    assert recipe.targets.quotas(["a", "b"]) == {"a": 4, "b": 4}

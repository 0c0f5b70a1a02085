"""The measures of the house: sizes, names, forbidden calls, light imports, one version."""

import ast
import importlib
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("cluster", "jobs", "retrieval", "synth", "training")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DRAWERS = {"utils", "util", "common", "helpers", "misc"}
LIGHT = ("jobs.cli", "synth.task", "synth.records", "synth.method", "cluster.settings", "cluster.errors")
HEAVY = ("ray", "torch", "vllm", "faiss", "transformers")


def place(path: Path, node: ast.stmt | ast.expr | ast.excepthandler | None = None) -> str:
    line = "" if node is None else f":{node.lineno}"
    return f"{path.relative_to(ROOT)}{line}"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def nodes() -> Iterator[tuple[Path, ast.AST]]:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path, node


def function_sizes() -> dict[str, int]:
    return {
        f"{place(path, node)} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path, node in nodes()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_all_five_packages_exist() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(PACKAGES)


def test_no_file_is_longer_than_400_lines_and_the_median_is_at_most_150() -> None:
    lengths = {place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > 400} == {}
    assert statistics.median(lengths.values()) <= 150


def test_no_function_is_longer_than_60_lines_and_nine_in_ten_are_at_most_30() -> None:
    sizes = function_sizes()
    assert {name: size for name, size in sizes.items() if size > 60} == {}
    assert sorted(sizes.values())[int(len(sizes) * 0.9)] <= 30


def test_no_module_is_a_drawer() -> None:
    assert [place(path) for path in FILES if DRAWERS & {*path.parent.parts, path.stem}] == []


def test_no_bare_except_and_no_code_or_pickle_is_executed() -> None:
    assert [place(path, node) for path, node in nodes() if (risk := forbidden(node)) and node is risk] == []


def forbidden(node: ast.AST) -> ast.expr | ast.excepthandler | None:
    """The node itself when it is a bare except, eval, exec or an unpickling."""
    if isinstance(node, ast.ExceptHandler):
        return node if node.type is None else None
    if not isinstance(node, ast.Call):
        return None
    called = ast.unparse(node.func)
    return node if called in {"eval", "exec"} or re.fullmatch(r"(cloud)?pickle\.loads?", called) else None


@pytest.mark.parametrize("code", ["eval('1')", "exec('1')", "pickle.load(f)", "cloudpickle.loads(b)"])
def test_the_measure_sees_forbidden_calls(code: str) -> None:
    assert any(forbidden(node) for node in ast.walk(ast.parse(code)))


def test_every_init_is_one_docstring() -> None:
    for path in FILES:
        if path.name == "__init__.py":
            body = ast.parse(path.read_text(encoding="utf-8")).body
            assert len(body) == 1, f"{place(path)}: a docstring and nothing else"
            assert ast.get_docstring(ast.Module(body, [])), f"{place(path)}: a docstring and nothing else"


def test_every_folder_with_modules_is_a_package() -> None:
    assert [place(path.parent) for path in FILES if not (path.parent / "__init__.py").exists()] == []


@pytest.mark.parametrize("name", [module_name(path) for path in FILES if path.stem != "__main__"])
def test_every_module_imports(name: str) -> None:
    importlib.import_module(name)


def test_the_contract_for_training_names_every_module_of_synth() -> None:
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    (contract,) = [each for each in contracts if each.get("source_modules") == ["training"]]
    modules = {f"synth.{path.stem}" for path in (ROOT / "synth").iterdir() if path.stem[0] not in "_."}
    assert set(contract["forbidden_modules"]) == modules - {"synth.task", "synth.records"}


def test_light_modules_leave_the_heavy_libraries_alone() -> None:
    code = f"import sys, {', '.join(LIGHT)}; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_changelog_names_the_version() -> None:
    newest = re.search(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest, "CHANGELOG.md: no heading of the form ## [version]"
    assert newest.group(1) == PYPROJECT["project"]["version"]

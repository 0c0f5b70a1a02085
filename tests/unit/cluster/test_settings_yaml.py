"""YAML files as users write them, and what is said of those that will not do."""

from pathlib import Path

import pytest

from cluster.errors import SettingsError
from cluster.settings import override, read_yaml


def written(tmp_path: Path, text: str) -> Path:
    """A recipe with this text."""
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_mapping_is_read_with_its_types(tmp_path: Path) -> None:
    path = written(tmp_path, "a: 1\nb: {c: [x, 2.5]}\nd: Zürich\ne: 1e-3\nf: on\n")
    assert read_yaml(path) == {"a": 1, "b": {"c": ["x", 2.5]}, "d": "Zürich", "e": "1e-3", "f": True}


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: 1\nb: [1\nc: 2\n", 3), ("a: 1\n\tb: 2\n", 2), ("a: b: c\n", 1), ("a: 1\nb: *nobody\n", 2)],
)
def test_bad_yaml_is_named_by_file_and_line(tmp_path: Path, text: str, line: int) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as error:
        read_yaml(path)
    assert str(error.value).startswith(f"{path}: is not valid YAML") and f"line {line}" in str(error.value)


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object:builtins.object {}",
        "!!python/object/apply:pathlib.Path.touch [OWNED]",
        "!!python/object/new:os.system [touch OWNED]",
        "!!python/name:os.system",
        "!!python/module:os",
        "!include other.yaml",
    ],
)
def test_a_tag_that_would_run_code_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, f"a: 1\nb: {tag}\n")
    with pytest.raises(SettingsError, match=r"is not valid YAML.*(?s:.)*line 2"):
        read_yaml(path)
    assert [each.name for each in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize(("text", "kind"), [("", "NoneType"), ("- a\n", "list"), ("just words\n", "str")])
def test_a_file_that_holds_no_mapping_is_refused(tmp_path: Path, text: str, kind: str) -> None:
    with pytest.raises(SettingsError, match=f"must hold a mapping of keys to values, found {kind}"):
        read_yaml(written(tmp_path, text))


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("a: Zürich".encode("latin-1"))
    for name, message in (
        ("none.yaml", "No such file"),
        (".", "Is a directory"),
        ("latin.yaml", "not UTF-8"),
    ):
        with pytest.raises(SettingsError, match=message):
            read_yaml(tmp_path / name)


def test_a_date_in_a_file_is_the_text_that_was_written(tmp_path: Path) -> None:
    assert override(read_yaml(written(tmp_path, "run: 2026-10-17\n")), []) == {"run": "2026-10-17"}


def test_a_date_in_a_set_is_the_text_that_was_written() -> None:
    assert override({}, ["run=2026-10-17"]) == {"run": "2026-10-17"}


def test_an_impossible_date_in_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"recipe\.yaml"):
        read_yaml(written(tmp_path, "run: 2026-02-30\n"))


def test_an_impossible_date_in_a_set_is_refused() -> None:
    with pytest.raises(SettingsError, match="--set run=2026-02-30"):
        override({}, ["run=2026-02-30"])


def test_a_date_as_a_key_is_taken_or_refused(tmp_path: Path) -> None:
    try:
        assert override(read_yaml(written(tmp_path, "2026-10-17: x\n")), []) == {"2026-10-17": "x"}
    except SettingsError:
        return


def test_a_mapping_that_holds_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        override(read_yaml(written(tmp_path, "a: &a {b: *a}\n")), [])


def test_a_set_below_a_single_value_of_a_list_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"--set stop\.0\.x=1"):
        override({"stop": ["END"]}, ["stop.0.x=1"])

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import create_model

from cluster.errors import SettingsError
from cluster.registry import one_of
from cluster.settings import Settings, validate

MEMBER = """
from typing import Literal
from {package}_base import Shape

class {name}(Shape):
    kind: Literal["{kind}"] = "{kind}"
    {field}: int = 1
"""


Family = Callable[..., type[Settings]]


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    """Make a package with one module for each (kind, field), and settings with a field of that family."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(package: str, *members: tuple[str, str]) -> type[Settings]:
        base = "from cluster.settings import Settings\n\nclass Shape(Settings):\n    kind: str\n"
        (tmp_path / f"{package}_base.py").write_text(base)
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text('"""Shapes."""\n')
        for kind, field in members:
            text = MEMBER.format(package=package, name=kind.title(), kind=kind, field=field)
            (tmp_path / package / f"{kind}.py").write_text(text)
        shape = __import__(f"{package}_base").Shape
        shapes: Any = one_of(shape, package, "kind")
        return create_model("Drawing", __base__=Settings, shape=(shapes, ...))

    return make


def test_every_module_of_the_package_adds_a_member_told_apart_by_the_key(family: Family) -> None:
    drawing = family("shapes_many", ("circle", "radius"), ("square", "side"))
    for kind, field in (("circle", "radius"), ("square", "side")):
        made = validate(drawing, {"shape": {"kind": kind, field: 5}}, "d.yaml")
        assert type(made.model_dump()["shape"]) is dict
        assert made.model_dump() == {"shape": {"kind": kind, field: 5}}


def test_the_only_member_of_a_family_needs_its_own_key_still(family: Family) -> None:
    drawing = family("shapes_one", ("circle", "radius"))
    assert validate(drawing, {"shape": {"kind": "circle"}}, "d.yaml").model_dump()["shape"]["radius"] == 1
    with pytest.raises(SettingsError, match="circle"):
        validate(drawing, {"shape": {"kind": "square"}}, "d.yaml")


def test_an_unknown_member_is_refused_with_those_there_are(family: Family) -> None:
    drawing = family("shapes_unknown", ("circle", "radius"), ("square", "side"))
    with pytest.raises(SettingsError, match=r"'circle'.*'square'") as error:
        validate(drawing, {"shape": {"kind": "cirle"}}, "d.yaml")
    assert "d.yaml: shape: " in str(error.value)


def test_a_key_of_another_member_is_refused(family: Family) -> None:
    drawing = family("shapes_keys", ("circle", "radius"), ("square", "side"))
    with pytest.raises(SettingsError, match="side: unknown key"):
        validate(drawing, {"shape": {"kind": "circle", "side": 2}}, "d.yaml")

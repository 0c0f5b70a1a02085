from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from cluster.errors import SettingsError
from cluster.settings import Settings, digest, flatten, override, validate

KEYS = st.text("abcdefgh_", min_size=1, max_size=6)
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
JSON = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)
)


class Sampling(Settings):
    temperature: float = Field(0.9, ge=0)
    max_tokens: int = 200


class Chef(Settings):
    kind: Literal["chef"] = "chef"
    knives: int = 1


class Baker(Settings):
    kind: Literal["baker"] = "baker"
    ovens: int = 1


class Meal(Settings):
    name: str
    sampling: Sampling = Sampling()
    cook: Chef | Baker | None = Field(None, discriminator="kind")
    guests: tuple[str, ...] = ()


def meal(*assignments: str, **data: Any) -> Meal:
    """A meal from a mapping and `--set` values."""
    return validate(Meal, override({"name": "m"} | data, assignments), "meal.yaml")


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("a=1", 1),
        ("a=1.5", 1.5),
        ("a=", None),
        ("a=text", "text"),
        ("a=b=c", "b=c"),
        ("a=[1, x]", [1, "x"]),
        ("a={b: true}", {"b": True}),
        ("a=package:some/file.gguf", "package:some/file.gguf"),
    ],
)
def test_a_set_value_is_read_as_yaml(assignment: str, value: object) -> None:
    merged = override({}, [assignment])
    assert merged == {"a": value}
    assert type(merged["a"]) is type(value)


def test_set_reaches_nested_keys_and_list_positions_and_leaves_the_rest() -> None:
    data = {"a": {"b": 1, "c": 2}, "list": [{"x": 1}, {"x": 2}], "none": None}
    merged = override(data, ["a.b=9", "list.1.x=7", "none.deep=1", "new.key.path=3", "a.b=10"])
    assert merged == {
        "a": {"b": 10, "c": 2},
        "list": [{"x": 1}, {"x": 7}],
        "none": {"deep": 1},
        "new": {"key": {"path": 3}},
    }
    assert data == {"a": {"b": 1, "c": 2}, "list": [{"x": 1}, {"x": 2}], "none": None}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("a", "write it as key.path=value"),
        ("=1", "write it as key.path=value"),
        ("a=[1", "the value is not valid YAML"),
        ("a=!!python/object/apply:os.getpid []", "the value is not valid YAML"),
        ("name.x=1", "name is a single value and has no keys below it"),
        ("guests.2=x", "2 is not a position in a list of 1"),
        ("guests.first=x", "first is not a position in a list of 1"),
    ],
)
def test_a_set_that_makes_no_sense_is_refused_by_its_own_words(assignment: str, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        override({"name": "m", "guests": ["x"]}, [assignment])
    assert f"--set {assignment}: " in str(error.value) and message in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"gests": []}, "meal.yaml: gests: unknown key; did you mean guests?"),
        ({"sampling": {"temprature": 1}}, "sampling.temprature: unknown key; did you mean temperature?"),
        ({"cook": {"kind": "baker", "oven": 2}}, "oven: unknown key; did you mean ovens?"),
        ({"zzz": 1}, "zzz: unknown key; remove it"),
        ({"name": None}, "name: Input should be a valid string"),
        (
            {"sampling": {"temperature": -1}},
            "sampling.temperature: Input should be greater than or equal to 0",
        ),
        ({"guests": [5]}, "guests.0: Input should be a valid string (found '5')"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_place_and_the_nearest_key(
    data: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError) as error:
        meal(**data)
    assert message in str(error.value)


def test_everything_wrong_is_told_at_once_with_the_file() -> None:
    with pytest.raises(SettingsError) as error:
        validate(Meal, {"gests": 1, "sampling": {"max_tokens": []}}, "meal.yaml")
    lines = str(error.value).splitlines()
    assert len(lines) == 3 and all(line.startswith("meal.yaml: ") for line in lines)
    assert "meal.yaml: name: is required and missing" in lines


def test_settings_are_frozen() -> None:
    one = meal("cook={kind: chef}")
    for settings, field in ((one, "name"), (one.sampling, "max_tokens"), (one.cook, "knives")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(settings, field, 1)


@given(st.dictionaries(KEYS, JSON, max_size=5), st.randoms(use_true_random=False))
def test_a_digest_does_not_depend_on_the_order_of_keys(data: dict[str, Any], random: Any) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            keys = random.sample(sorted(value), len(value))
            return {key: shuffled(value[key]) for key in keys}
        return [shuffled(each) for each in value] if isinstance(value, list) else value

    assert digest(shuffled(data)) == digest(data)
    assert digest(data | {"zz": 1}) != digest(data | {"zz": 2}) != digest(data | {"zz": "2"})


def test_digests_stay_what_they_are() -> None:
    assert digest({"b": [1, "é"], "a": None}) == "bccb46da7f8860c9492baa4b6352ae16"
    assert digest([1, 2]) != digest([2, 1])


def test_flattened_keys_are_paths_and_lists_stay_whole() -> None:
    assert flatten({"a": {"b": 1, "c": {}}, "d": [{"e": 1}]}) == {"a.b": 1, "a.c": {}, "d": [{"e": 1}]}

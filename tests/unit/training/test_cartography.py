"""Data maps: their three figures by hand, and which rows each filter keeps."""

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from cluster.errors import DataError, RunError
from training.cartography import data_map, filtered, map_summary
from training.knowledge_settings import CartographySettings, InformationSettings, OracleSettings

BASE = {"student": {"base": "b"}}


def settings(**values: object) -> CartographySettings:
    return CartographySettings.model_validate(BASE | values)


def dynamics(probabilities: dict[str, list[float]], labels: dict[str, str] | None = None) -> pa.Table:
    """Return what a student writes, with the rows of every second epoch in reverse order."""
    rows = []
    for epoch in range(len(next(iter(probabilities.values())))):
        ids = sorted(probabilities, reverse=epoch % 2 == 1)
        rows += [
            {
                "id": name,
                "label": (labels or {}).get(name, "a"),
                "epoch": epoch + 1,
                "probability": probabilities[name][epoch],
                "correct": probabilities[name][epoch] > 0.5,
            }
            for name in ids
        ]
    return pa.Table.from_pylist(rows)


def kept(mapped: pa.Table) -> set[str]:
    return set(mapped.filter(mapped["kept"])["id"].to_pylist())


def test_the_figures_are_those_of_2009_10795() -> None:
    mapped = data_map(dynamics({"x": [0.2, 0.6, 1.0], "y": [0.1, 0.1, 0.1]}), settings(fraction=0.5))
    x, y = sorted(mapped.to_pylist(), key=lambda row: row["id"])
    # Population variance of 0.2, 0.6, 1.0 is 0.32 / 3.
    assert (x["confidence"], x["variability"]) == pytest.approx((0.6, (0.32 / 3) ** 0.5))
    assert (y["confidence"], y["variability"]) == pytest.approx((0.1, 0.0))
    assert (x["correctness"], y["correctness"]) == pytest.approx((2 / 3, 0.0))
    assert (x["kept"], y["kept"]) == (True, False)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"axis": "variability"}, {"d", "c"}),
        ({"axis": "variability", "side": "bottom"}, {"a", "b"}),
        ({"axis": "confidence"}, {"a", "b"}),
        ({"axis": "confidence", "side": "bottom"}, {"c", "d"}),
        ({"axis": "confidence", "apply": "label"}, {"a", "c"}),
        ({"axis": "correctness", "side": "bottom"}, {"c", "d"}),
        # All four of the same correctness but one: ties go to the smaller ids.
        ({"axis": "correctness", "fraction": 0.25}, {"a"}),
    ],
)
def test_axis_side_and_label_choose_the_rows(values: dict[str, object], expected: set[str]) -> None:
    seen = {"a": [0.9, 0.9], "b": [0.8, 0.7], "c": [0.3, 0.5], "d": [0.5, 0.1]}
    labels = {"a": "one", "b": "one", "c": "two", "d": "two"}
    chosen = settings(**{"fraction": 0.5} | values)
    assert kept(data_map(dynamics(seen, labels), chosen)) == expected


@pytest.mark.parametrize(
    ("rows", "fraction", "count"), [(50, 0.83, 42), (5, 0.5, 3), (3, 0.01, 1), (7, 1, 7)]
)
def test_the_share_is_rounded_to_the_nearest_row_halves_up(rows: int, fraction: float, count: int) -> None:
    seen = {f"{number:02d}": [0.5, 0.5] for number in range(rows)}
    found = kept(data_map(dynamics(seen), settings(fraction=fraction)))
    assert found == {f"{number:02d}" for number in range(count)}


def test_both_presets_are_reported_and_differ() -> None:
    random = np.random.default_rng(0)
    seen = {f"{n:03d}": sorted(random.uniform(0, 1, 4).tolist()) for n in range(100)}
    labels = {name: "one" if int(name) < 30 else "two" for name in seen}
    told = map_summary(data_map(dynamics(seen, labels), settings(preset="paper")), settings())
    assert (told["rows"], told["kept"]) == (100, 83)
    assert sum(told["dropped_per_label"].values()) == 17
    # Per label: 24.9 of 30 and 58.1 of 70.
    code = map_summary(data_map(dynamics(seen, labels), settings(preset="published_code")), settings())
    assert code["kept_per_label"] == {"one": 25, "two": 58}
    assert told["presets"] == code["presets"]
    presets = told["presets"]
    assert presets["published_code"]["mean_confidence"] > presets["paper"]["mean_confidence"]
    assert 66 <= presets["kept_by_both"] < 83


def test_filtering_leaves_rows_that_are_not_on_the_map() -> None:
    mapped = data_map(dynamics({"x": [0.2, 1.0], "y": [0.5, 0.5]}), settings(fraction=0.5))
    rows = pa.table({"id": ["seed", "y", "x"], "text": ["s", "why", "ex"]})
    assert filtered(rows, mapped)["text"].to_pylist() == ["s", "ex"]


def test_dynamics_that_do_not_fit_are_refused() -> None:
    fine = dynamics({"x": [0.2, 1.0], "y": [0.5, 0.5]})
    with pytest.raises(DataError, match=r"two rows have the id '[xy]'"):
        data_map(pa.concat_tables([fine, fine]), settings())
    with pytest.raises(RunError, match="epoch 1 observed other rows"):
        data_map(fine.slice(1), settings())
    several = fine.set_column(1, "label", pa.array([["one", "two"]] * 4))
    assert data_map(several, settings())["label"].to_pylist() == [["one", "two"]] * 2
    with pytest.raises(DataError, match="set apply: overall"):
        data_map(several, settings(preset="published_code"))


def test_settings_start_from_the_papers_and_refuse_what_cannot_be() -> None:
    assert CartographySettings().student.base == "distilbert/distilbert-base-uncased"
    assert CartographySettings().student.epochs == 6
    assert CartographySettings.model_validate({"student": {"epochs": 9}}).student.epochs == 9
    assert (CartographySettings(preset="published_code").apply, settings().axis) == ("label", "variability")
    assert InformationSettings().student.batch_size == 3
    assert InformationSettings.model_validate({"student": {"preset": "minilm"}}).student.batch_size == 16
    assert OracleSettings().choose == "validation"
    assert OracleSettings(preset="published_code").choose == "test"
    with pytest.raises(ValidationError, match="nothing varies in one epoch"):
        CartographySettings.model_validate({"student": {"epochs": 1}})
    with pytest.raises(ValidationError, match="runs is for the recipe's students"):
        OracleSettings.model_validate({"student": {"runs": 3}})

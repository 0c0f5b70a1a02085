import pytest

from cluster.errors import SettingsError
from cluster.settings import validate
from training.optimisation import OptimisationSettings


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"patience": 2}, "patience: needs a validation split"),
        ({"keep": "best"}, "keep: needs a validation split"),
        ({"offload": "all", "zero": 2}, "offload: all needs zero: 3"),
        ({"offload": "optimizer", "zero": 0}, "offload: is DeepSpeed's"),
        ({"workers": 0}, "workers: give a number from 1"),
        ({"workers": [2, 1]}, "workers: give a number from 1"),
        ({"zero": 4}, "zero: "),
        ({"validation": 0.9}, "validation: "),
        ({"schedule": "step"}, "schedule: "),
    ],
)
def test_what_does_not_fit_together_is_named(data: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        validate(OptimisationSettings, data, "recipe")


def test_settings_survive_a_round_trip() -> None:
    given = {"workers": [1, 4], "zero": 3, "offload": "all", "validation": 0.1, "patience": 2}
    settings = validate(OptimisationSettings, given, "recipe")
    assert settings.workers == (1, 4)
    assert settings.most_workers == 4
    assert validate(OptimisationSettings, settings.model_dump(mode="json"), "run.json") == settings
    assert [OptimisationSettings(workers=n).most_workers for n in (None, 3)] == [1, 3]


def test_what_determines_no_weights_is_a_setting() -> None:
    assert OptimisationSettings.not_in_weights <= set(OptimisationSettings.model_fields)

import pytest

from cluster.errors import SettingsError
from cluster.settings import validate
from training.settings import PRESETS, StudentSettings


def test_preset_gives_base_and_schedule() -> None:
    student = validate(StudentSettings, {"name": "large", "preset": "deberta_v3_large"}, "recipe")
    assert (student.base, student.learning_rate, student.batch_size, student.epochs) == (
        "microsoft/deberta-v3-large",
        2e-5,
        32,
        6,
    )
    assert (student.weight_decay, student.adam_epsilon, student.warmup_ratio) == (1e-4, 1e-6, 0.06)
    assert (student.max_tokens, student.dropout) == (512, 0.0)


def test_given_values_win_over_the_preset() -> None:
    student = validate(StudentSettings, {"name": "s", "preset": "distilbert", "epochs": 2}, "recipe")
    assert (student.epochs, student.learning_rate) == (2, 5e-5)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid(preset: str) -> None:
    assert validate(StudentSettings, {"name": "s", "preset": preset}, "recipe").preset == preset


def test_settings_survive_a_round_trip() -> None:
    student = validate(StudentSettings, {"name": "s", "preset": "minilm", "seed": 3}, "recipe")
    assert validate(StudentSettings, student.model_dump(mode="json"), "run.json") == student


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "s"}, "base: is required"),
        ({"name": "s", "preset": "bert"}, "preset: "),
        ({"name": "s", "base": "b", "learning_rat": 1}, "did you mean learning_rate?"),
        ({"name": "../s", "base": "b"}, "name: "),
        ({"name": "s", "base": "b", "batch_size": 0}, "batch_size: "),
    ],
)
def test_mistakes_are_named(data: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message.replace("?", r"\?")):
        validate(StudentSettings, data, "recipe")


def test_name_and_workers_do_not_make_another_student() -> None:
    one = StudentSettings(name="one", base="b", workers=1)
    two = StudentSettings(name="two", base="b", workers=2, checkpoint_seconds=0)
    assert one.identity() == two.identity()
    assert one.identity() != one.model_copy(update={"seed": 1}).identity()

import pytest

from cluster.errors import SettingsError
from cluster.settings import validate
from training.presets import PRESETS
from training.settings import RowShares, StudentSettings


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
        ({"name": "s", "base": "b", "mix_seeds": True}, "mix_seeds: unknown key"),
        ({"name": "s", "base": "b", "rows": "silver"}, "rows.silver: unknown key"),
        ({"name": "s", "base": "b", "rows": {"synthetics": 1}}, "did you mean synthetic?"),
        ({"name": "s", "base": "b", "rows": {"gold": 1.5}}, "rows.gold: "),
        ({"name": "s", "base": "b", "rows": {"gold": 0}}, "rows: gives no source a share; name one of"),
        ({"name": "s", "base": "b", "rows": []}, "rows: gives no source a share"),
        ({"name": "s", "base": "b", "runs": 0}, "runs: "),
        ({"name": "s", "base": "b", "instruction": "Sort."}, "only a student of kind causal reads one"),
        ({"name": "s", "base": "b", "kind": "causal", "onnx": True}, "onnx: only an encoder is exported"),
        ({"name": "s", "base": "b", "rows": "gold", "cartography": True}, "cartography: keeps rows of the"),
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


@pytest.mark.parametrize(
    ("rows", "shares", "kind"),
    [
        ("gold", {"gold": 1.0}, "gold"),
        ("seeds", {"seeds": 1.0}, "seeds"),
        (["synthetic", "seeds"], {"synthetic": 1.0, "seeds": 1.0}, "mixed"),
        ({"synthetic": 1, "gold": 0.1}, {"synthetic": 1.0, "gold": 0.1}, "mixed"),
        ({"seeds": 1, "gold": 0.5}, {"seeds": 1.0, "gold": 0.5}, "gold"),
        ({"synthetic": 0.5}, {"synthetic": 0.5}, "synthetic"),
    ],
)
def test_rows_are_named_or_shared_out(rows: object, shares: dict[str, float], kind: str) -> None:
    student = validate(StudentSettings, {"name": "s", "base": "b", "rows": rows}, "recipe")
    assert (student.rows, student.rows.kind) == (RowShares(**shares), kind)


def test_what_a_student_learns_from_and_how_often_is_not_what_it_is() -> None:
    one = StudentSettings(name="one", base="b")
    changed = {"rows": RowShares(gold=1.0), "runs": 5, "rerun_spread": None, "onnx": True}
    assert one.identity() == one.model_copy(update=changed).identity()
    assert one.identity() != StudentSettings(name="one", base="b", kind="causal").identity()


def test_the_presets_of_papers_hold_their_constants() -> None:
    incubator = StudentSettings.model_validate({"name": "s", "preset": "incubator_roberta_large"})
    assert (incubator.base, incubator.epochs, incubator.batch_size) == ("FacebookAI/roberta-large", 16, 4)
    assert (incubator.schedule, incubator.warmup_ratio, incubator.weight_decay) == ("constant", 0.0, 0.0)
    zerogen = StudentSettings.model_validate({"name": "s", "preset": "zerogen_distilbert"})
    assert (zerogen.validation, zerogen.patience, zerogen.keep) == (0.1, 3, "best")
    assert StudentSettings.model_validate({"name": "s", "preset": "targen_pythia"}).kind == "causal"

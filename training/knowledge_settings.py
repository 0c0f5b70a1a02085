"""Settings of what a student knows: data map, label-preservation oracle, V-information."""

from functools import partial
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, field_validator, model_validator

from cluster.settings import Settings
from training.settings import StudentSettings

CartographyPreset = Literal["paper", "published_code"]
_RECIPES_OWN = ("rows", "cartography", "runs", "rerun_spread", "onnx")
"""Keys of a student that the recipe alone decides on."""

# SynthesizRR (2405.10040): the paper drops the 17 % of lowest variability, its code sorts by confidence.
CARTOGRAPHY_PRESETS: dict[CartographyPreset, dict[str, Any]] = {
    "paper": {"axis": "variability", "side": "top", "fraction": 0.83, "apply": "overall"},
    "published_code": {"axis": "confidence", "side": "top", "fraction": 0.83, "apply": "label"},
}
_NOTHING = "\u200b"
_PRESETS = {
    "cartography": "cartography_distilbert",
    "oracle": "oracle_deberta",
    "information": "pvi_bert",
    "feedback": "progen_distilbert",
}


def default_examiner(name: str) -> StudentSettings:
    return StudentSettings.model_validate({"name": name, "preset": _PRESETS[name]})


def named_examiner(given: Any, name: str) -> Any:
    """Complete what was said of a student; one with a base or preset of its own takes nothing from ours."""
    if not isinstance(given, dict):
        return given
    own_base = "base" in given or "preset" in given
    return {"name": name} | ({} if own_base else {"preset": _PRESETS[name]}) | given


def _fits(student: StudentSettings) -> StudentSettings:
    for key in _RECIPES_OWN:
        if getattr(student, key) != StudentSettings.model_fields[key].default:
            raise ValueError(f"{key} is for the recipe's students; remove it")
    if student.kind == "causal":
        raise ValueError("kind: what looks at the rows is an encoder; remove it")
    return student


Examiner = Annotated[StudentSettings, AfterValidator(_fits)]
"""A student that is trained to look at the rows rather than to be kept."""


class CartographySettings(Settings):
    """How rows are mapped by a student's training dynamics, and which of them are kept (2009.10795)."""

    preset: CartographyPreset | None = None
    """A named filter to start from: `paper` (also the defaults) or `published_code`, both of SynthesizRR."""
    student: Examiner = Field(default_factory=partial(default_examiner, "cartography"))
    """The student whose epochs draw the map (SynthesizRR: DistilBERT, 6 epochs)."""
    axis: Literal["confidence", "variability", "correctness"] = "variability"
    """What rows are sorted by: mean or standard deviation, over the epochs, of the probability of the row's
    label, or the share of epochs in which it was predicted."""
    side: Literal["top", "bottom"] = "top"
    """Keep the rows with the highest or with the lowest values."""
    fraction: float = Field(default=0.83, gt=0, le=1)
    """Share of the rows to keep, rounded to the nearest row (halves up), at least one (SynthesizRR: 0.83)."""
    apply: Literal["overall", "label"] = "overall"
    """Take the share of all rows together, or of each label's rows."""

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("preset") in get_args(CartographyPreset):
            return CARTOGRAPHY_PRESETS[data["preset"]] | data
        return data

    @model_validator(mode="after")
    def _can_vary(self) -> "CartographySettings":
        if self.axis == "variability" and self.student.epochs == 1:
            raise ValueError("axis: nothing varies in one epoch; give the student more, or another axis")
        if self.student.validation:
            raise ValueError("student: validation keeps rows off the map; remove it")
        return self

    @field_validator("student", mode="before")
    @classmethod
    def _named(cls, student: Any) -> Any:
        return named_examiner(student, "cartography")


class OracleSettings(Settings):
    """How the judge of label preservation is trained on gold rows and chosen (SynthesizRR 2405.10040)."""

    preset: Literal["published_code"] | None = None
    """`published_code`: the final model is the one with the best accuracy on the gold test rows."""
    student: Examiner = Field(default_factory=partial(default_examiner, "oracle"))
    """What is fine-tuned (SynthesizRR: DeBERTa-v3-large); the grid sets learning rate and batch size."""
    learning_rates: tuple[float, ...] = Field(default=(2e-5, 5e-5, 1e-4), min_length=1)
    """Learning rates of the grid (SynthesizRR)."""
    batch_sizes: tuple[int, ...] = Field(default=(8, 32, 128), min_length=1)
    """Rows per step of the grid (SynthesizRR's published code: 4 rows, 2, 8 or 32 times accumulated)."""
    models: int = Field(default=3, ge=1)
    """Models trained with the best point of the grid, of which one judges (SynthesizRR: 3)."""
    validation: float = Field(default=0.2, gt=0, lt=1)
    """Share of the gold training rows, of every label, that only validate (SynthesizRR: 20 %)."""
    split_seed: int = Field(default=42, ge=0)
    """Seed of that split (SynthesizRR: 42)."""
    choose: Literal["validation", "test"] = "validation"
    """Rows whose accuracy chooses among the final models. `test` is what was published: it lets the gold test
    rows choose, so that the oracle's accuracy on them is no longer an honest one."""
    least_seeds: int = Field(default=20, ge=2)
    """Without gold training rows the seeds serve, where every label has so many of them."""

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("preset") == "published_code":
            return {"choose": "test"} | data
        return data

    @field_validator("student", mode="before")
    @classmethod
    def _named(cls, student: Any) -> Any:
        return named_examiner(student, "oracle")


class InformationSettings(Settings):
    """How much usable information the rows hold for a student (V-information, 2110.08420)."""

    student: Examiner = Field(default_factory=partial(default_examiner, "information"))
    """What is fine-tuned twice, on texts and on a null input (TarGEN: BERT-base, 2 epochs, batch 3, seed 1);
    more epochs overfit, and the figure grows for the wrong reason."""
    null_text: str = Field(default=_NOTHING, min_length=1)
    """What stands in place of every text for the null model. By default a zero-width space: as of TarGEN's
    plain space, which is refused as an empty text, nothing of it is left after BERT's tokenizer."""
    rows: Literal["synthetic", "gold"] = "synthetic"
    """Rows that both models learn from: the dataset, or the gold training rows to compare with."""
    measured_on: Literal["test", "held_out"] = "test"
    """Rows that are measured: the gold test rows, or a share of `rows` that neither model has seen."""
    held_out: float = Field(default=0.2, gt=0, lt=1)
    """That share, of every label, drawn by the student's seed."""

    @field_validator("student", mode="before")
    @classmethod
    def _named(cls, student: Any) -> Any:
        return named_examiner(student, "information")

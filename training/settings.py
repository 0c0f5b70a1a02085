"""Settings of students: what to fine-tune, on what, and how; values given beside `preset` win over it."""

from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from cluster.settings import Settings
from training.optimisation import OptimisationSettings
from training.presets import PRESETS, PresetName

SOURCES = ("seeds", "gold", "synthetic")
"""Where rows can come from, in the order in which a student is given them."""
TrainedOn = Literal["synthetic", "seeds", "gold", "mixed"]


class RowShares(Settings):
    """What share of each source a student learns from; or `synthetic`, `seeds`, `gold` or a list of them."""

    synthetic: float = Field(default=0.0, ge=0, le=1)
    """Share of the dataset's rows."""
    seeds: float = Field(default=0.0, ge=0, le=1)
    """Share of the gold seeds, `task.seeds` (2407.12813: even 100 raw rows mixed in help)."""
    gold: float = Field(default=0.0, ge=0, le=1)
    """Share of the gold training rows, `task.train`."""
    draw_seed: int = Field(default=42, ge=0)
    """Seed of the draw of shares below 1, which keeps every label's share; the same for all runs."""

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, data: Any) -> Any:
        names = [data] if isinstance(data, str) else data
        return dict.fromkeys(names, 1.0) if isinstance(names, list) else data

    @model_validator(mode="after")
    def _some(self) -> "RowShares":
        if not self.sources:
            raise ValueError(f"gives no source a share; name one of {', '.join(SOURCES)}")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources with a share, in the order of `SOURCES`."""
        return tuple(name for name in SOURCES if getattr(self, name))

    @property
    def kind(self) -> TrainedOn:
        """What the student is said to be trained on: `mixed` is the dataset with gold rows of any kind."""
        if "synthetic" not in self.sources:
            return "gold" if self.gold else "seeds"
        return "synthetic" if self.sources == ("synthetic",) else "mixed"


class StudentSettings(OptimisationSettings):
    """How one student is fine-tuned; values given beside `preset` win over the preset's."""

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$")
    """Name of the student and of its folder under `students/`."""
    preset: PresetName | None = None
    """A named set of values for `base` and the schedule, to start from."""
    kind: Literal["encoder", "causal"] = "encoder"
    """An encoder with a fresh head; or a causal model that reads instruction and text and is scored by how
    likely it holds each label (TarGEN)."""
    base: str = Field(min_length=1)
    """The model to fine-tune: a hub id, a folder, or `package:<import name>/<path>`."""
    instruction: str | None = None
    """What a causal student reads before each text; by default the task's instruction."""
    max_tokens: int = Field(default=512, ge=8)
    """Longer texts are cut after so many tokens (SynthesizRR: 512)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Every dropout of the model (SynthesizRR's published code: 0.0; its paper is silent)."""
    rows: RowShares = RowShares(synthetic=1.0)
    """What it learns from: shares of `synthetic`, `seeds` and `gold` rows, or the name of one of them."""
    cartography: bool = False
    """Of the dataset, learn only from the rows that the recipe's `cartography` keeps."""
    runs: int = Field(default=1, ge=1)
    """Trainings that differ in their seed (SynthesizRR: 5); mean and spread are reported, and the first,
    which has `seed`, is the student that is kept: the choice never depends on the gold test."""
    rerun_spread: float | None = Field(default=6.0, gt=0)
    """Train all runs anew, once and with other seeds, when their accuracies have a standard deviation of so
    many points (SynthesizRR: 6, a sign that one did not converge); null: never."""
    onnx: bool = False
    """Write `model.onnx` beside the weights too; needs the extra `onnx`."""

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("preset") in get_args(PresetName):
            return PRESETS[data["preset"]] | data
        return data

    @model_validator(mode="after")
    def _kinds(self) -> "StudentSettings":
        if self.instruction is not None and self.kind != "causal":
            raise ValueError(
                "instruction: only a student of kind causal reads one; remove it or set kind: causal"
            )
        if self.onnx and self.kind == "causal":
            raise ValueError("onnx: only an encoder is exported; remove it or set kind: encoder")
        if self.cartography and not self.rows.synthetic:
            raise ValueError("cartography: keeps rows of the dataset, of which `rows` takes none")
        return self

    def identity(self) -> dict[str, Any]:
        """What beside the rows determines the trained weights; name, workers and checkpoints do not."""
        # The rows, the base's revision and the wording of the task are looked at by themselves.
        outside = {"name", "preset", "base", "instruction", "rows", "cartography"}
        outside |= {"runs", "rerun_spread", "onnx"}
        return self.model_dump(mode="json", exclude=outside | self.not_in_weights)

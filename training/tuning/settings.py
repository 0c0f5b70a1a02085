"""Settings of teacher tuning: which rows, whole weights or LoRA, how rows become windows, how it is saved.

Where no paper of ours says how, the defaults are those of Stanford Alpaca's training script (3 epochs, 2e-5,
cosine, 3 % warm-up, no weight decay) and of QLoRA (2305.14314: 2e-4, all linear layers), or ours.
"""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from cluster.settings import Settings
from training.optimisation import OptimisationSettings, Schedule, ZeroStage

LORA_LEARNING_RATE = 2e-4


class LoraSettings(Settings):
    """Small matrices beside the frozen weights, learnt in their stead (2106.09685)."""

    rank: int = Field(default=16, ge=1)
    """Rank of the matrices (ours)."""
    alpha: int = Field(default=32, ge=1)
    """Their product counts alpha / rank times (ours: twice the rank)."""
    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Dropout of what goes into them (QLoRA, largest models: 0.05)."""
    targets: str | tuple[str, ...] = "all-linear"
    """Names of the layers that get them (QLoRA: every linear one)."""


class TuningSettings(OptimisationSettings):
    """How a teacher is tuned on pairs of a prompt and a reply; only the reply's tokens are learnt."""

    zero_by_default: ClassVar[ZeroStage] = 3

    name: str = Field(default="tuned", pattern=r"^[A-Za-z0-9][\w.-]*$")
    """Name of the tuned teacher and of its folder under `teachers/`."""
    base: str | None = Field(default=None, min_length=1)
    """What to tune: hub id, folder, `s3://…`, or `package:<import name>/<path>`; or `teacher.model`."""
    rows: str | None = Field(default=None, min_length=1)
    """JSONL (plain, .gz, .zst) or Parquet, local or `s3://…`, with `messages` or with `prompt` and `reply`.
    Relative to the recipe. Incubator makes its own rows."""
    lora: LoraSettings | None = None
    """Learn small matrices beside the weights, which takes far less memory; by default the whole weights."""
    merge: bool = True
    """Add LoRA's matrices to the weights when it is done, which teachers need; or save them by themselves."""
    render: Literal["chat", "raw"] = "chat"
    """Show a prompt through the model's chat template, or as it is; as `method.render` does in synthesis."""
    max_tokens: int = Field(default=1024, ge=16)
    """Longest row in tokens, prompt and reply together; a longer one is left out, for a cut reply would teach
    not to end. Also the length of a window (ours)."""
    packing: bool = True
    """Fill windows of max_tokens with several rows, none of which sees another; else a row is a window."""
    epochs: int = Field(default=3, ge=1)
    """Passes over the rows (Alpaca: 3)."""
    learning_rate: float = Field(default=2e-5, gt=0)
    """Peak learning rate (Alpaca: 2e-5); with lora 2e-4 unless given (QLoRA)."""
    batch_size: int = Field(default=16, ge=1)
    """Windows per optimiser step over all workers together: packed, some hundred short rows (ours)."""
    micro_batch: int | None = Field(default=4, ge=1)
    """Windows of one forward pass of a worker, whose gradients are summed."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's weight decay (Alpaca: 0)."""
    warmup_ratio: float = Field(default=0.03, ge=0, le=1)
    """Share of the steps in which the learning rate rises (Alpaca: 3 %)."""
    schedule: Schedule = "cosine"
    """How it falls then (Alpaca: cosine)."""
    adam_epsilon: float = Field(default=1e-8, gt=0)
    """AdamW's epsilon (torch's default, which Alpaca's script leaves alone)."""
    gradient_checkpointing: bool = True
    """Compute activations again in the backward pass, for memory."""
    checkpoint_seconds: float = Field(default=600.0, ge=0)
    """A checkpoint, which of a large teacher is large, is kept when the last is so old."""

    @model_validator(mode="before")
    @classmethod
    def _rate_of_lora(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("lora") is not None:
            return {"learning_rate": LORA_LEARNING_RATE} | data
        return data

    def identity(self) -> dict[str, Any]:
        """What beside rows and base determines the tuned weights."""
        return self.model_dump(mode="json", exclude=set(self.not_in_weights | {"name", "base", "rows"}))

"""How a model is optimised: settings that students and tuned teachers share."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from cluster.settings import Settings

ZeroStage = Literal[0, 1, 2, 3]
Precision = Literal["auto", "bf16", "fp32"]
Schedule = Literal["linear", "cosine", "constant"]
Offload = Literal["none", "optimizer", "all"]
Workers = int | tuple[int, int]


class OptimisationSettings(Settings):
    """Epochs, steps, learning rate, arithmetic and placement of a training."""

    zero_by_default: ClassVar[ZeroStage] = 1
    """ZeRO stage on two or more GPUs when `zero` is left out; teachers, which are larger, say 3."""
    not_in_weights: ClassVar[frozenset[str]] = frozenset(
        {"micro_batch", "gradient_checkpointing", "zero", "offload", "workers", "checkpoint_seconds"}
    )
    """Where and how it is computed: other values give the same weights but for rounding."""

    epochs: int = Field(default=6, ge=1)
    """Passes over the training rows (SynthesizRR: 6)."""
    learning_rate: float = Field(default=2e-5, gt=0)
    """Peak learning rate, reached after the warm-up (SynthesizRR, DeBERTa-v3-large: 2e-5)."""
    batch_size: int = Field(default=32, ge=1)
    """Rows per optimiser step over all workers together (SynthesizRR: 32)."""
    micro_batch: int | None = Field(default=None, ge=1)
    """Rows of one forward pass of a worker, whose gradients are summed; by default all its rows of a step."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """AdamW's weight decay (SynthesizRR: 1e-4)."""
    warmup_ratio: float = Field(default=0.06, ge=0, le=1)
    """Share of the steps in which the learning rate rises (SynthesizRR: 6 %)."""
    schedule: Schedule = "linear"
    """Whether it then falls to zero along a line or a half cosine, or stays (SynthesizRR: linear)."""
    adam_epsilon: float = Field(default=1e-6, gt=0)
    """AdamW's epsilon (SynthesizRR: 1e-6)."""
    gradient_norm: float = Field(default=1.0, gt=0)
    """Gradients longer than this are cut to it (the Hugging Face Trainer's default; no paper says)."""
    precision: Precision = "auto"
    """Arithmetic of forward and backward passes: `auto` is bf16 on a GPU and fp32 on a CPU."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: slower, and memory for larger models or batches."""
    zero: ZeroStage | None = None
    """DeepSpeed's ZeRO stage, 0 for plain torch; by default ZeRO on two or more GPUs where it can be had."""
    offload: Offload = "none"
    """Keep the optimiser's state, or with ZeRO-3 `all` the weights too, in the memory of the CPUs."""
    seed: int = Field(default=0, ge=0)
    """Seed of fresh weights, of the order of rows, and of dropout."""
    workers: Workers | None = None
    """Training processes, or [fewest, most]; by default one per GPU as long as each gets 4 rows of a batch,
    or 1 on CPU. Of a range as many run as find room: Ray starts more, or fewer, from the last checkpoint."""
    checkpoint_seconds: float = Field(default=60.0, ge=0)
    """A checkpoint is kept between steps when the last is so old; what a lost worker can cost."""
    validation: float = Field(default=0.0, ge=0, le=0.5)
    """Share of the training rows held out to watch the loss on, drawn by seed; gold test rows never are."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after so many epochs without a lower validation loss; by default all epochs are trained."""
    keep: Literal["last", "best"] = "last"
    """Weights that are kept: the last epoch's (SynthesizRR), or those of the lowest validation loss."""

    @property
    def most_workers(self) -> int:
        """The most training processes that are asked for; 1 when none are."""
        return self.workers[1] if isinstance(self.workers, tuple) else self.workers or 1

    @model_validator(mode="after")
    def _some_workers(self) -> "OptimisationSettings":
        if isinstance(self.workers, tuple):
            wrong = not 1 <= self.workers[0] <= self.workers[1]
        else:
            wrong = self.workers is not None and self.workers < 1
        if wrong:
            raise ValueError("workers: give a number from 1, or [fewest, most]")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> "OptimisationSettings":
        watching = [key for key, on in (("patience", self.patience), ("keep", self.keep == "best")) if on]
        if watching and not self.validation:
            raise ValueError(f"{watching[0]}: needs a validation split; set validation, for example to 0.1")
        if self.offload == "all" and self.zero not in (None, 3):
            raise ValueError("offload: all needs zero: 3; take offload: optimizer, or zero: 3")
        if self.offload != "none" and self.zero == 0:
            raise ValueError("offload: is DeepSpeed's; it needs zero: 1, 2 or 3")
        return self

"""Settings of influence and of weights; light, no torch."""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from cluster.settings import Settings


class InfluenceSettings(Settings):
    """How the influence of rows on a student's loss is estimated (ProGen 2210.12329).

    The constants are those of its published code, which needs no preset of its own.
    """

    not_in_influence: ClassVar[frozenset[str]] = frozenset({"derivative", "shards"})
    """Where and how it is computed: other values give the same but for rounding."""

    loss: Literal["reverse_cross_entropy", "cross_entropy"] = "reverse_cross_entropy"
    """Loss of the validation rows, which are synthetic: the reverse one bears with wrong labels (ProGen)."""
    scale: float = Field(default=1.0, gt=0, le=100)
    """Sharpness of reverse cross-entropy's targets, softmax(scale * one-hot) (ProGen: 1; SunGen: 10). It
    stretches the values and leaves their order."""
    most_rows: int = Field(default=10_000, ge=1)
    """Rows whose influence is estimated, drawn at random where there are more (ProGen: 10,000)."""
    parameters: Literal["all", "head"] = "all"
    """Weights that take part: all (ProGen), or the classification head alone: coarser, but fast, and for
    large students, of which `all` keeps some six copies beside the activations of a backward pass taken
    twice."""
    damping: float = Field(default=5e-3, ge=0, lt=1)
    """Share of the estimate of H^-1 v that each step forgets (ProGen: 5e-3). Together with `hessian_scale` it
    adds damping * hessian_scale, by default 50, to every eigenvalue of the Hessian."""
    hessian_scale: float = Field(default=1e4, gt=0)
    """What the Hessian is divided by, so that the recursion settles (ProGen: 1e4)."""
    weight_decay: float = Field(default=0.005, ge=0)
    """Weight decay of the loss that the Hessian is of (ProGen: 0.005)."""
    batch_size: int | None = Field(default=None, ge=1)
    """Rows of a step; by default a thousandth of the rows, from 1 to 128 (ProGen)."""
    depth: int | None = Field(default=None, ge=1)
    """Steps of the recursion; by default one pass over the rows, 1,000 at most (ProGen)."""
    runs: int = Field(default=1, ge=1)
    """Recursions, each over batches of its own, whose mean is taken (ProGen: 1)."""
    derivative: Literal["auto", "forward", "backward"] = "auto"
    """How a row's gradient is multiplied with the estimate: forward mode, or double backward where a model
    has an operation without it; `auto` tries."""
    shards: int | None = Field(default=None, ge=1)
    """Tasks that share the rows out; by default one per GPU, or without GPUs one per node."""

    def identity(self) -> dict[str, Any]:
        """What beside the rows and the student determines the influence."""
        return self.model_dump(mode="json", exclude=set(self.not_in_influence))


Normaliser = Literal["rows", "weights", "fixed_weights"]


class WeightSettings(Settings):
    """How rows are weighed so that a student does well on the set itself, noise left out (SunGen 2205.12679).

    The numbers are those of its published command. A small LSTM learns from the rows, the weights from it.
    """

    not_in_weights: ClassVar[frozenset[str]] = frozenset({"preset", "checkpoint_seconds"})
    """What the weights do not depend on."""

    preset: Literal["published_code"] | None = None
    """`published_code`: as SunGen's code has it, the sum of the weights divides and is held fixed, and a
    training is one epoch, however few steps that is."""
    outer_iterations: int = Field(default=100, ge=1)
    """Trainings of the LSTM, each followed by one step of the weights (SunGen: 100)."""
    outer_learning_rate: float = Field(default=0.25, gt=0)
    """Learning rate of Adam on theta, whose sigmoid the weights are (SunGen: 0.25)."""
    outer_rows: int = Field(default=50_000, ge=1)
    """Rows, drawn once by seed, whose reverse cross-entropy judges the weights (SunGen: 50,000)."""
    outer_share: float = Field(default=0.9, gt=0, le=1)
    """Of these only those count that are in this share of all rows with the highest weights (SunGen: 0.9)."""
    scale: float = Field(default=10.0, gt=0)
    """Steepness of the target of the reverse cross-entropy, softmax(scale * one-hot) (SunGen: 10)."""
    gradient_norm: float = Field(default=3.0, gt=0)
    """Gradients of theta longer than this are cut to it (SunGen: 3)."""
    normaliser: Normaliser = "rows"
    """What divides the weighted loss in the step that the weights are judged by: `rows`, their number, as in
    the training; `weights`, their sum, so that a row gains what others lose; or `fixed_weights`, the sum held
    fixed (SunGen's code)."""
    epochs: int = Field(default=1, ge=1)
    """Passes over the rows of a training (SunGen: 1, of a million rows)."""
    least_steps: int = Field(default=100, ge=0)
    """Epochs are added until a training has so many steps (ours; one epoch of few rows teaches nothing)."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of Adam on the LSTM, and of the step that the weights are judged by (SunGen: 1e-3)."""
    batch_size: int = Field(default=32, ge=1)
    """Rows of a step of a training (SunGen: 32)."""
    embedding: int = Field(default=100, ge=1)
    """Size of the word vectors (SunGen: 100)."""
    hidden: int = Field(default=300, ge=2, multiple_of=2)
    """Size of the LSTM's state, half of it for each direction (SunGen: 300)."""
    vocabulary: int = Field(default=50_000, ge=1)
    """Words that are told apart, the most frequent ones of the rows (SunGen: 50,000)."""
    max_tokens: int = Field(default=512, ge=1)
    """Longer texts are cut after so many words (ours; SunGen cuts none)."""
    seed: int = Field(default=12345, ge=0)
    """Seed of the LSTM's first weights, of the rows that judge and of the order of rows (SunGen: 12345)."""
    checkpoint_seconds: float = Field(default=30.0, ge=0)
    """The state is kept between iterations when the last one kept is so old; what a lost node can cost."""

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset_of_weights(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("preset") == "published_code":
            return {"normaliser": "fixed_weights", "least_steps": 0} | data
        return data

    def identity(self) -> dict[str, Any]:
        """What beside the rows determines the weights."""
        return self.model_dump(mode="json", exclude=set(self.not_in_weights))

"""A student in hand: its model, what it reads and what it is taught; new, or from its folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import ModelError
from training.causal import (
    CARD,
    Prompt,
    answer_ids,
    causal_tokenizer,
    new_causal,
    prompt_for,
    save_causal,
    saved_causal,
)
from training.classifier import (
    encoder_tokenizer,
    new_classifier,
    save_classifier,
    saved_classifier,
    takes_several,
)
from training.likelihood import Causal
from training.objectives import MultiLabel, Objective, SingleLabel
from training.reader import Reader
from training.records import TrainingJob


@dataclass(frozen=True, slots=True)
class Learner:
    """A model, the reader of its texts, and the objective that turns its outputs into losses and answers."""

    model: Any
    reader: Reader
    objective: Objective
    labels: tuple[str, ...]
    prompt: Prompt | None = None
    """What a causal student reads around a text; None for an encoder."""

    def save(self, folder: Path) -> None:
        """Write the student in `save_pretrained` layout, with what a prediction needs."""
        tokenizer, most = self.reader.tokenizer, self.reader.max_tokens
        if self.prompt is None:
            save_classifier(self.model, tokenizer, most, folder)
        else:
            save_causal(self.model, tokenizer, self.prompt, most, folder)


def new_learner(job: TrainingJob, several: bool = False) -> Learner:
    """Return a student before its training; `several` says that a row may have several labels.

    Errors: ModelError.
    """
    settings = job.settings
    if settings.kind == "encoder":
        model, tokenizer = new_classifier(job.base, job.labels, settings.dropout, settings.seed, several)
        reader = Reader(tokenizer, settings.max_tokens)
        return Learner(model, reader, MultiLabel() if several else SingleLabel(), job.labels)
    model, tokenizer = new_causal(job.base, settings.dropout, settings.seed)
    return _causal(model, tokenizer, _prompt(job, tokenizer), settings.max_tokens)


def new_reader(job: TrainingJob) -> Reader:
    """Return the reader of a student without loading its model. Errors: ModelError."""
    if job.settings.kind == "encoder":
        return Reader(encoder_tokenizer(job.base), job.settings.max_tokens)
    tokenizer = causal_tokenizer(job.base)
    return Reader(tokenizer, job.settings.max_tokens, _prompt(job, tokenizer))


def saved_learner(folder: Path) -> Learner:
    """Return the student that lies in a folder, ready to be asked. Errors: ModelError."""
    if (folder / CARD).is_file():
        return _causal(*saved_causal(folder))
    model, tokenizer = saved_classifier(folder)
    names = model.config.id2label
    labels = tuple(str(names[place]) for place in range(model.config.num_labels))
    reader = Reader(tokenizer, tokenizer.model_max_length)
    return Learner(model, reader, MultiLabel() if takes_several(model) else SingleLabel(), labels)


def _causal(model: Any, tokenizer: Any, prompt: Prompt, max_tokens: int) -> Learner:
    objective = Causal(answer_ids(tokenizer, prompt))
    return Learner(model, Reader(tokenizer, max_tokens, prompt), objective, prompt.labels, prompt)


def _prompt(job: TrainingJob, tokenizer: Any) -> Prompt:
    if job.wording is None:
        raise ModelError(f"student {job.settings.name}: a causal student needs the task's instruction")
    return prompt_for(tokenizer, job.labels, job.wording)

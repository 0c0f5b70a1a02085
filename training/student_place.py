"""Where a student lies, and what its folder tells without loading it."""

import json
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import ModelError, StorageError
from cluster.models import resolve_model
from cluster.storage import Store
from training.causal import CARD

_CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class StudentPlace:
    """A folder of a store that a student, or any classifier, was saved in with `save_pretrained`."""

    store: Store
    key: str

    @property
    def url(self) -> str:
        """The folder, for messages."""
        return f"{self.store.url}/{self.key}"

    def fetch(self) -> Path:
        """Return a local folder to load the student from; ModelError when there is none."""
        try:
            return self.store.fetch(self.key)
        except StorageError as error:
            raise ModelError(f"{self.url}: holds no student ({error})") from error

    def revision(self) -> str:
        """Return a hash of configuration and weights; ModelError when the folder holds no model."""
        return resolve_model(str(self.fetch().absolute())).revision

    def labels(self) -> tuple[str, ...]:
        """Return the labels in the order of the probabilities; ModelError when this is no classifier."""
        folder = self.fetch()
        if (folder / CARD).is_file():
            return tuple(json.loads((folder / CARD).read_text(encoding="utf-8"))["labels"])
        try:
            config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"{self.url}: holds no student: {_CONFIG} cannot be read ({error})") from error
        kinds = config.get("architectures") or []
        if not any(str(kind).endswith("ForSequenceClassification") for kind in kinds):
            # transformers would give it a head of random weights without complaint.
            found = ", ".join(map(str, kinds)) or "an unknown model"
            raise ModelError(f"{self.url}: holds no classifier but {found}; give the folder of a student")
        names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
        return tuple(str(names[place]) for place in sorted(names, key=int))


def students_in(run: Store) -> list[str]:
    """Return the names of the students that a run holds."""
    keys = [key for key in run.list("students") if key.endswith(f"/{_CONFIG}")]
    return [key.removeprefix("students/").removesuffix(f"/{_CONFIG}") for key in keys]

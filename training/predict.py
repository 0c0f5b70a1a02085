"""Label probabilities of texts under a saved student."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cluster.storage import Store
from retrieval.encoder import token_batches
from training.dataset import Indices, TokenisedTexts, sorted_batches

Probabilities = npt.NDArray[np.float32]

_CPU_BATCH_TOKENS = 512
_GPU_BATCH_TOKENS = 16_384
"""Larger batches of a part's few texts hold much padding."""


class Predictor:
    """A saved student of any kind, loaded once, on the GPU if there is one. Errors: ModelError."""

    def __init__(self, folder: Path) -> None:
        import torch

        from training.learner import saved_learner

        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.learner = saved_learner(folder)
        self.model = self.learner.model.to(self.device).eval()

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of the probabilities."""
        return self.learner.labels

    @property
    def exclusive(self) -> bool:
        """Whether a text has exactly one label, so that its probabilities sum to 1."""
        from training.objectives import MultiLabel

        return not isinstance(self.learner.objective, MultiLabel)

    def __call__(self, texts: Sequence[str], batch_size: int | None = None) -> Probabilities:
        """Return (texts, labels) probabilities; rows sum to 1 unless the student gives several labels.

        bf16 on a GPU, float32 on a CPU; texts are cut at the length trained on.
        """
        return self.probabilities(self.read(texts), batch_size)

    def read(self, texts: Sequence[str]) -> TokenisedTexts:
        """Return the tokens of texts; one thread may do so while another asks for probabilities."""
        return self.learner.reader(texts)

    def batches(self, tokenised: TokenisedTexts) -> list[Indices]:
        """Return batches of so many tokens as the device does well with, longest texts first."""
        budget = _GPU_BATCH_TOKENS if self.device.type == "cuda" else _CPU_BATCH_TOKENS
        rows = token_batches(tokenised.lengths().tolist(), budget)
        return [np.array(each, dtype=np.int64) for each in rows]

    def probabilities(self, tokenised: TokenisedTexts, batch_size: int | None = None) -> Probabilities:
        """Return (texts, labels) probabilities of texts that were read, in their order."""
        import torch

        from training.objectives import half_precision

        if batch_size is None:
            batches = self.batches(tokenised)
        else:
            batches = list(sorted_batches(tokenised, np.arange(len(tokenised)), batch_size))
        probabilities = np.empty((len(tokenised), len(self.labels)), dtype=np.float32)
        with torch.inference_mode(), half_precision(self.device):
            # They stay on the device until all are done: each copy back would wait for the device.
            found = [
                self.learner.objective.probabilities(self.model, tokenised, batch, self.device)
                for batch in batches
            ]
            if found:
                probabilities[np.concatenate(batches)] = torch.cat(found).cpu().numpy()
        return probabilities


def predict(folder: Path, texts: Sequence[str], batch_size: int = 64) -> Probabilities:
    """Return (texts, labels) probabilities, labels in the order the student was trained with.

    Everything needed is in the folder, of an encoder as of a causal student. Errors: ModelError.
    """
    return Predictor(folder)(texts, batch_size)


def predict_on_cluster(store: Store, key: str, texts: Sequence[str], batch_size: int = 64) -> Probabilities:
    """Run `predict` with the student in folder `key` of the store as a Ray task, on a GPU if there is one."""
    import ray

    from training.placement import placement

    place = placement(1, batch_size)
    task = ray.remote(_predict_there).options(num_cpus=place.cpus, num_gpus=place.gpus)
    result: Probabilities = ray.get(task.remote(store, key, list(texts), batch_size, place.cpus))
    return result


def _predict_there(store: Store, key: str, texts: Sequence[str], batch_size: int, cpus: int) -> Probabilities:
    import torch

    torch.set_num_threads(cpus)
    return predict(store.fetch(key), texts, batch_size)

"""Label probabilities of texts under a saved student."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cluster.storage import Store

Probabilities = npt.NDArray[np.float32]


def predict(folder: Path, texts: Sequence[str], batch_size: int = 64) -> Probabilities:
    """Return (texts, labels) probabilities, labels in the order the student was trained with.

    bf16 on a GPU, float32 on a CPU; texts are cut at the length trained on. Errors: ModelError.
    """
    import torch

    from training.classifier import saved_classifier
    from training.dataset import sorted_batches, tokenise
    from training.objectives import half_precision

    model, tokenizer = saved_classifier(folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device).eval()
    tokenised = tokenise(texts, tokenizer, tokenizer.model_max_length)
    probabilities = np.empty((len(texts), model.config.num_labels), dtype=np.float32)
    with torch.inference_mode(), half_precision(device):
        for batch in sorted_batches(tokenised, np.arange(len(texts)), batch_size):
            tokens, mask = tokenised.padded(batch)
            output = model(input_ids=tokens.to(device), attention_mask=mask.to(device))
            probabilities[batch] = output.logits.float().softmax(-1).cpu().numpy()
    return probabilities


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

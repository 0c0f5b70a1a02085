"""One of two processes that train under DeepSpeed, without Ray: python -m tests.zero_worker RANK FOLDER."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save_file

from training.dataset import TokenisedTexts, TrainingRows
from training.loop import fit
from training.settings import StudentSettings
from training.state import Training
from training.strategy import Place
from training.zero import partitioned

ROWS, WORLD = 37, 2


class Mixer(torch.nn.Module):
    """A classifier with layers of several kinds, odd sizes, and a weight that is not trained."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(11, 6)
        self.norm = torch.nn.LayerNorm(6)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(6, 6) for _ in range(2)])
        self.head = torch.nn.Linear(6, 3)
        self.frozen = torch.nn.Linear(6, 6).requires_grad_(False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        weights = attention_mask[..., None] / attention_mask.sum(1)[:, None, None]
        state = (self.norm(self.embed(input_ids)) * weights).sum(1)
        for layer in self.layers:
            state = state + torch.tanh(layer(state))
        return SimpleNamespace(logits=self.head(state + self.frozen(state)))


def training(place: Place, pretrained: Path | None, **values: Any) -> Training:
    """Return what every process of a scenario trains: 37 weighted rows of three labels."""
    random = np.random.default_rng(0)
    targets, lengths = random.integers(0, 3, ROWS), random.integers(2, 9, ROWS)
    tokens = np.concatenate([1 + random.integers(0, 9, n) for n in lengths]).astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    weights = random.random(ROWS).astype(np.float32)
    settings = StudentSettings(
        **{"name": "z", "base": "none", "epochs": 3, "learning_rate": 0.02, "batch_size": 6} | values
    )
    rows = TrainingRows(TokenisedTexts(tokens, starts, pad_id=0), targets, weights)
    model = Mixer() if pretrained is None else encoder(pretrained, settings, place)
    return Training(model, rows, settings, place, held=np.arange(4), fingerprint="z")


def encoder(folder: Path, settings: StudentSettings, place: Place) -> Any:
    """Return a saved encoder; ZeRO-3 divides it as it is read."""
    from transformers import BertForSequenceClassification

    with partitioned(settings, place):
        return BertForSequenceClassification.from_pretrained(folder)


def save_encoder(folder: Path) -> None:
    """Save a small BERT with random weights, a head for three labels, and no dropout."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=11,
        hidden_size=10,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=14,
        num_labels=3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertForSequenceClassification(config).save_pretrained(folder)


def run(scenario: dict[str, Any], place: Place, folder: Path) -> dict[str, Any]:
    """Train a scenario, from a checkpoint or leaving one, and return what it saw; rank 0 leaves weights."""
    pretrained = folder / "encoder" if scenario.get("pretrained") else None
    now = training(place, pretrained, **scenario["settings"])
    if "from" in scenario:
        now.load(folder / scenario["from"])
    left = folder / scenario["name"]
    left.mkdir(exist_ok=True)

    def after(at: Training) -> None:
        if at.steps_done == scenario.get("save"):
            at.save(left)

    history = fit(now, after)
    weights = now.weights()
    if weights is not None:
        save_file(weights, left / "weights.safetensors")
    seen = torch.cat(history.probabilities).tolist()
    return {"losses": history.losses, "held": history.validation_losses, "seen": seen}


def main() -> None:
    """Train the scenarios of FOLDER/scenarios.json one after the other."""
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=WORLD)
    place = Place(torch.device("cpu"), rank, WORLD)
    found = [run(each, place, folder) for each in json.loads((folder / "scenarios.json").read_text())]
    if rank == 0:
        (folder / "found.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

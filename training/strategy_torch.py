"""Steps by plain torch: AdamW, and DistributedDataParallel on several processes."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from training.moments import MOMENTS, Schedule, adamw, read_state, trained, write_state
from training.optimisation import OptimisationSettings
from training.strategy import Place, in_precision


class TorchStrategy:
    """Every process keeps the whole model and optimiser, and gradients are averaged between them."""

    name = "torch"

    def __init__(self, model: Any, settings: OptimisationSettings, steps: int, place: Place) -> None:
        self.model = model.to(place.device)
        self.place = place
        self.gradient_norm = settings.gradient_norm
        self.optimizer = adamw(self.model, settings)
        self.schedule = Schedule(self.optimizer, settings, steps)
        wrapped = DistributedDataParallel(self.model) if place.world > 1 else None
        self.distributed = wrapped
        self.module = in_precision(wrapped or self.model, settings, place)

    def part(self, last: bool) -> AbstractContextManager[None]:
        """Return the context of one forward and backward pass; a step's last exchanges the gradients."""
        if self.distributed is None or last:
            return nullcontext()
        return self.distributed.no_sync()

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of a loss; over the workers they are averaged."""
        loss.backward()

    def step(self) -> None:
        """Cut the gradients, move the weights, advance the learning rate, and clear the gradients."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.gradient_norm)
        self.schedule.set_rate()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def save(self, folder: Path) -> None:
        """Write weights and moments; the first process's are those of all."""
        if self.place.rank:
            return
        state: dict[str, torch.Tensor] = {}
        for name, parameter in trained(self.model):
            state[f"weight/{name}"] = parameter.detach()
            moments = self.optimizer.state.get(parameter, {})
            state |= {f"{moment}/{name}": moments[moment] for moment in MOMENTS if moment in moments}
        write_state(folder, 0, state, self.schedule.steps)

    def load(self, folder: Path) -> None:
        """Go on from what a strategy wrote, on however many processes."""
        state = read_state(folder)
        self.schedule.steps = state.steps
        for name, parameter in trained(self.model):
            parameter.data.copy_(state.of("weight", name))
            if not state.has(MOMENTS[0], name):
                continue
            moments = {key: torch.empty_like(parameter).copy_(state.of(key, name)) for key in MOMENTS}
            # The fused AdamW counts steps on the device of its weights.
            count = torch.tensor(float(state.steps), device=self.place.device)
            self.optimizer.state[parameter] = {"step": count, **moments}

    def weights(self) -> dict[str, torch.Tensor] | None:
        """Return the whole state dict on the CPU to rank 0, and None to the others."""
        if self.place.rank:
            return None
        return {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}

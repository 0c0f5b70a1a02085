"""Steps by DeepSpeed: optimiser state, gradients and weights divided between the processes (ZeRO)."""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from training.moments import MOMENTS, Schedule, adamw, read_state, trained, write_state
from training.optimisation import OptimisationSettings
from training.strategy import Place, half, zero_stage


class ZeroStrategy:
    """ZeRO of DeepSpeed 0.19 with torch's AdamW, so that steps are those of plain torch but for rounding.

    Stage 1 divides the optimiser's state between the processes, 2 the gradients too, 3 the weights too.
    Weights are float32 and forward passes autocast as in plain torch. torch.distributed must have begun.
    """

    def __init__(
        self, model: Any, settings: OptimisationSettings, steps: int, place: Place, stage: int
    ) -> None:
        self.deepspeed = _library(place)
        self.model = model
        self.place = place
        self.optimizer = adamw(model, settings)
        self.schedule = Schedule(self.optimizer, settings, steps)
        self.engine, *_ = self.deepspeed.initialize(
            model=model, optimizer=self.optimizer, config=configuration(settings, place, stage)
        )
        self.module = self.engine
        self.name = f"DeepSpeed ZeRO-{stage}"

    def part(self, last: bool) -> AbstractContextManager[None]:
        """Return the context of one forward and backward pass; a step's last exchanges the gradients."""
        self.engine.set_gradient_accumulation_boundary(last)
        return nullcontext()

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of a loss; over the workers they are averaged."""
        self.engine.backward(loss, scale_wrt_gas=False)

    def step(self) -> None:
        """Cut the gradients, move the weights, advance the learning rate, and clear the gradients."""
        self.schedule.set_rate()
        self.engine.step()

    def save(self, folder: Path) -> None:
        """Write this process's share: whole weights and moments, which the processes take in turns."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        state: dict[str, torch.Tensor] = {}
        for number, (name, weight) in enumerate(trained(self.model)):
            # Every process takes part in gathering each of them.
            whole = {"weight": safe_get_full_fp32_param(weight)}
            whole |= {moment: safe_get_full_optimizer_state(weight, moment) for moment in MOMENTS}
            if number % self.place.world == self.place.rank:
                state |= {f"{kind}/{name}": _kept(tensor, weight) for kind, tensor in whole.items()}
        write_state(folder, self.place.rank, state, self.schedule.steps)

    def load(self, folder: Path) -> None:
        """Go on from what a strategy wrote, on however many processes."""
        state = read_state(folder)
        self.schedule.steps = state.steps
        self._make_moments(state.steps)
        for name, weight in trained(self.model):
            value = state.of("weight", name).to(self.place.device)
            with self.deepspeed.zero.GatheredParameters([weight], modifier_rank=0):
                weight.data.copy_(value)
            self._set(weight, value)
            for moment in MOMENTS:
                if state.has(moment, name):
                    self._set(weight, state.of(moment, name).to(self.place.device), moment)

    def _set(self, weight: Any, value: torch.Tensor, moment: str | None = None) -> None:
        """Put this process's part of a weight's float32 copy, or of a moment of it, in place."""
        from deepspeed import utils

        if not hasattr(weight, "ds_tensor"):
            if moment is None:
                utils.safe_set_full_fp32_param(weight, value)
            else:
                utils.safe_set_full_optimizer_state(weight, value, moment)
            return
        # ZeRO-3 fills the last part up; its setters of whole tensors do not know that.
        size = weight.ds_tensor.numel()
        part = value.new_zeros(size)
        own = value.flatten()[size * self.place.rank : size * (self.place.rank + 1)]
        part[: len(own)] = own
        if moment is None:
            utils.safe_set_local_fp32_param(weight, part)
        else:
            utils.safe_set_local_optimizer_state(weight, part, moment)

    def _make_moments(self, steps: int) -> None:
        """Give the optimiser the moments that it would make in its first step."""
        from deepspeed.utils import lazy_init_hp_params_optimizer_state

        zero = self.engine.optimizer
        third = self.engine.zero_optimization_stage() == 3
        flat = zero.fp32_partitioned_groups_flat if third else zero.single_partition_of_fp32_groups
        for number, weights in enumerate(flat):
            moments = {key: torch.zeros_like(weights) for key in MOMENTS}
            count = torch.tensor(float(steps), device=weights.device)
            self.optimizer.state[weights] = {"step": count, **moments}
            if not third:
                lazy_init_hp_params_optimizer_state(zero.bit16_groups[number], weights, self.optimizer.state)

    def weights(self) -> dict[str, torch.Tensor] | None:
        """Return the whole state dict on the CPU to rank 0, and None to the others."""
        from deepspeed.utils import safe_get_full_fp32_param

        whole: dict[str, torch.Tensor] = {}
        for name, value in self.model.state_dict(keep_vars=True).items():
            divided = hasattr(value, "ds_id")
            with self.deepspeed.zero.GatheredParameters([value], enabled=divided):
                # What ZeRO-3 gathers for a forward pass in bf16 is rounded; its own copy is not.
                exact = safe_get_full_fp32_param(value) if divided and value.requires_grad else value
                if self.place.rank == 0:
                    whole[name] = exact.detach().cpu().clone()
        return whole if self.place.rank == 0 else None


def _kept(tensor: torch.Tensor, weight: Any) -> torch.Tensor:
    return tensor.detach().cpu().reshape(getattr(weight, "ds_shape", weight.shape)).clone()


@contextmanager
def partitioned(settings: OptimisationSettings, place: Place) -> Iterator[None]:
    """Within this context `from_pretrained` divides a model between the processes as it is read (ZeRO-3)."""
    stage = zero_stage(settings, place)
    if stage != 3:
        yield
        return
    from transformers.integrations import HfDeepSpeedConfig, unset_hf_deepspeed_config

    _library(place)
    kept = HfDeepSpeedConfig(configuration(settings, place, stage))
    try:
        yield
    finally:
        unset_hf_deepspeed_config()
        del kept


def configuration(settings: OptimisationSettings, place: Place, stage: int) -> dict[str, Any]:
    """Return DeepSpeed's configuration; batches and accumulation are the loop's, not DeepSpeed's."""
    zero: dict[str, Any] = {"stage": stage}
    if settings.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": place.device.type == "cuda"}
    if settings.offload == "all":
        zero["offload_param"] = {"device": "cpu", "pin_memory": place.device.type == "cuda"}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": settings.gradient_norm,
        "zero_optimization": zero,
        # torch's own fused AdamW on the CPU needs no compiler, and its steps are those of plain torch.
        "zero_force_ds_cpu_optimizer": False,
        "torch_autocast": {"enabled": half(settings, place), "dtype": "bfloat16"},
        "steps_per_print": 2**31,
    }


def _library(place: Place) -> Any:
    """Import DeepSpeed without its notes on the terminal, and without a compiler."""
    if place.device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("DEEPSPEED_TIMEOUT", "60")
    import deepspeed
    import deepspeed.ops

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # Else its CPU backend compiles an all-reduce over shared memory for a minute, which gloo does as well.
    deepspeed.ops.__compatible_ops__ = {}
    if not dist.is_initialized():
        raise RuntimeError("DeepSpeed takes part in a process group that has begun")
    return deepspeed

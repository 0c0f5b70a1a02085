"""The places of a pool, and the crew of replicas that are started and not ended."""

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cluster.replica import Replica
from cluster.work import Fleet, Loaded

START_ATTEMPTS = 3
BARREN_LOSSES = 8
"""How often in a row a place may lose its replica with nothing settled, until it is left empty."""
PAUSE_SECONDS = 1.0
LONGEST_PAUSE = 30.0
"""After a loss with nothing settled a place waits a second, twice as long each time, and this at most."""


@dataclass(slots=True)
class Place:
    """Where the pool keeps one replica, and what happened there in a row since something was settled."""

    replica: Replica | None = None
    failures: int = 0
    """Replicas that did not load."""
    barren: int = 0
    """Replicas lost with nothing settled."""
    innocent: int = 0
    """Replicas that went with their node."""
    given_up: bool = False

    def failed_to_start(self, innocent: bool) -> str | None:
        """Count a replica that did not load; why the place is given up, if it is."""
        self.innocent += innocent
        self.failures += not innocent
        self.given_up = self.failures >= START_ATTEMPTS
        return f"failed to start {START_ATTEMPTS} times in a row" if self.given_up else None

    def lost(self, settled: int, innocent: bool) -> str | None:
        """Count a replica that settled so much and is gone; why the place is given up, if it is."""
        if settled:
            self.barren = self.innocent = 0
        self.innocent += innocent
        self.barren += not innocent and not settled
        self.given_up = self.barren >= BARREN_LOSSES
        return f"was lost {BARREN_LOSSES} times in a row without a reply" if self.given_up else None

    def pause(self) -> float:
        """Return the seconds until the next replica is started."""
        worst = max(self.failures, self.barren, self.innocent - 1)
        return min(PAUSE_SECONDS * 2.0 ** (worst - 1), LONGEST_PAUSE) if worst > 0 else 0.0


class Crew:
    """All replicas that were started and are not ended, and how long those before them had room."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._names = (f"replica-{number}" for number in itertools.count(1))
        self._replicas: dict[str, Replica] = {}
        self._seconds_of_ended = 0.0

    @property
    def replicas(self) -> Collection[Replica]:
        """Those that are started and not ended."""
        return self._replicas.values()

    @property
    def loaded(self) -> Mapping[str, Loaded]:
        """What they told when they were loaded, by name."""
        return {name: each.loaded for name, each in self._replicas.items() if each.loaded is not None}

    @property
    def seconds(self) -> float:
        """Seconds for which replicas have had room on the cluster, all added up."""
        return self._seconds_of_ended + sum(each.seconds() for each in self._replicas.values())

    def start(self) -> Replica:
        """Start a replica under a new name."""
        replica = Replica(next(self._names), self._fleet.start())
        self._replicas[replica.name] = replica
        return replica

    def end(self, replica: Replica) -> None:
        """End a replica at once, unless that is done."""
        if self._replicas.pop(replica.name, None) is not None:
            self._seconds_of_ended += replica.seconds()
            self._fleet.end(replica.actor)

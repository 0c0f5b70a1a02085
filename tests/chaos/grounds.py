"""The grounds of a storm: a cluster of several nodes on this machine, with all that can befall it."""

import contextlib
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil

ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A driver whose head is gone ends after so many seconds, instead of a minute.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "3",
    # A node that is gone is known to be gone after two seconds.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "700",
    "RAY_health_check_timeout_ms": "4000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    # Results of a kilobyte lie in the store of the node that made them, as large ones do on any cluster, and
    # take a while to travel: so they are there to be lost with their node.
    "RAY_max_direct_call_object_size": "1000",
    "RAY_testing_asio_delay_us": "ObjectManagerService.grpc_server.Pull=300000:500000",
}
"""What the cluster and its drivers read when they start."""
LOADING_SECONDS = 5.0
"""A replica that is younger than this may still be loading."""
START_ATTEMPTS = 3
STORE_BYTES = 80 * 2**20


@dataclass
class Grounds:
    """A head that holds no replicas, and worker nodes; its address outlives it."""

    workers: int = 2
    cpus: int = 2
    port: int = field(default_factory=lambda: _free_port())
    _cluster: Any = None
    _stopped: list[psutil.Process] = field(default_factory=list)
    _told: set[str] = field(default_factory=set)

    @property
    def address(self) -> str:
        """Where drivers connect to."""
        return str(self._cluster.address)

    def open(self) -> None:
        """Start the head and the workers; ENVIRONMENT has to be in this process's environment."""
        self._cluster = _patiently(self._head)
        for _ in range(self.workers):
            self.join()

    def _head(self) -> Any:
        from ray.cluster_utils import Cluster

        # Nothing here asks an autoscaler for nodes.
        head = {
            "num_cpus": 0,
            "include_dashboard": False,
            "no_monitor": True,
            "object_store_memory": STORE_BYTES,
        }
        before = set(psutil.Process().children(recursive=True))
        try:
            return Cluster(
                initialize_head=True,
                shutdown_at_exit=False,
                head_node_args=head | {"gcs_server_port": self.port},
            )
        except Exception:
            # What did start would hold the port.
            for process in set(psutil.Process().children(recursive=True)) - before:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            raise

    def close(self) -> None:
        """End every process of the cluster, the stopped ones too."""
        self._told.clear()
        if self._cluster is not None:
            for node in self._cluster.list_all_nodes():
                self._cluster.remove_node(node, allow_graceful=False)
            self._cluster = None
        for process in self._stopped:
            # A process object knows its process from a later one with the same number.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._stopped.clear()

    def join(self) -> None:
        """Add a worker node."""
        _patiently(lambda: self._cluster.add_node(num_cpus=self.cpus, object_store_memory=STORE_BYTES))

    def steady(self) -> list[Any]:
        """Return the worker nodes that were not told to go, in the order of their ids."""
        nodes = [node for node in self._cluster.worker_nodes if node.node_id not in self._told]
        return sorted(nodes, key=lambda node: str(node.node_id))

    def lose(self, node: Any) -> None:
        """Kill a node with everything on it."""
        if node in self._cluster.worker_nodes:
            self._cluster.remove_node(node, allow_graceful=False)

    def lose_head(self) -> None:
        """Kill the head with everything on it."""
        self._cluster.remove_node(self._cluster.head_node, allow_graceful=False)

    def tell_to_go(self, node: Any, seconds: float) -> bool:
        """Give a node notice, as a provider does that takes a spot machine back; False when it is refused."""
        # As a node's own hook does.
        command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--node-id", node.node_id]
        command += ["--address", self.address, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
        command += ["--reason-message", "taken back", "--deadline-remaining-seconds", str(round(seconds))]
        accepted = subprocess.run(command, check=False, timeout=60, capture_output=True).returncode == 0
        if accepted:
            self._told.add(node.node_id)
        return accepted

    def replicas(self) -> list[psutil.Process]:
        """Return the processes of replicas that are not stopped already."""
        found = []
        # Ray runs below this process: no other Ray of the machine is touched.
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                named = "ray::Worker" in " ".join(process.cmdline())
                if named and process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
                    found.append(process)
        return sorted(found, key=lambda process: process.pid)

    def kill_replica(self, rng: random.Random) -> bool:
        """Kill the process of one replica; False when there is none."""
        return self._signal(rng, signal.SIGKILL)

    def stop_replica(self, rng: random.Random) -> bool:
        """Stop the process of one replica, so that it lives and does nothing; False when there is none.

        A pool has to be patient, for half an hour, with one that loads: those are spared.
        """
        return self._signal(rng, signal.SIGSTOP, LOADING_SECONDS)

    def _signal(self, rng: random.Random, number: signal.Signals, age: float = 0.0) -> bool:
        born = time.time() - age
        replicas = [process for process in self.replicas() if process.create_time() < born]
        if not replicas:
            return False
        victim = rng.choice(replicas)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.send_signal(number)
            if number == signal.SIGSTOP:
                self._stopped.append(victim)
            return True
        return False


def _patiently(start: Callable[[], Any]) -> Any:
    """Start a node, more than once if need be: a raylet gives up when its agents need 15 seconds to start."""
    for _ in range(START_ATTEMPTS - 1):
        # Ray has no class of its own for a node that did not come up.
        with contextlib.suppress(Exception):
            return start()
    return start()


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("", 0))
        return int(server.getsockname()[1])

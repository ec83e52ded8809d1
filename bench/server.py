"""What a gateway costs: `openk2 serve --upstream` beside LiteLLM's proxy, in the same run.

In: optionally a Python environment with litellm[proxy]. Out: bench/records/server.json: latency and
requests per second with 1, 32 and 256 clients, one process per gateway, in front of a server that
answers at once. The server, the gateways and the clients are processes of their own on the same
cores; rounds alternate, and of each figure the median round is kept. The processor time per request
says what a gateway does with a core, whatever else the machine is doing.

    python -m venv /tmp/litellm && /tmp/litellm/bin/pip install 'litellm[proxy]==1.106.2'
    python -m bench.server --litellm /tmp/litellm
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import record
from bench.serving import wait_for_url

CLIENTS = (1, 32, 256)
ROUNDS = 5
SECONDS = 4.0
WARM_UP = 1.0
GOAL_TIMES, GOAL_ADDED_MS = 20, 2.0


def main() -> None:
    """Start everything, measure in turn, write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--litellm", type=Path, help="virtual environment with litellm[proxy]")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        canned = stack.enter_context(canned_server())
        servers = {"direct": canned, "openk2": stack.enter_context(openk2_gateway(canned.url))}
        skipped = litellm_reason(options.litellm)
        if not skipped:
            litellm = litellm_gateway(options.litellm, canned.url)
            servers["litellm"] = stack.enter_context(litellm)
        load_average = os.getloadavg()[0]  # of what else the machine does: it should be near 0
        runs = measure(servers, options.rounds, options.seconds)
    result = summary(runs) | {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "load_average_before": round(load_average, 1),
    }
    if skipped:
        result["litellm_skipped"] = skipped
    command = "python -m bench.server" + ("" if skipped else " --litellm DIR")
    print(record.write("server", command, result))
    print(json.dumps(result, indent=2))


# What is measured -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Server:
    """Where a process answers."""

    url: str
    pid: int

    def cpu_seconds(self) -> float:
        """Return the processor time that it has taken so far; 0 where there is no /proc."""
        path = Path(f"/proc/{self.pid}/stat")
        if not path.exists():
            return 0.0
        fields = path.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def process(command: Sequence[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process whose first line of output says where it is."""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,  # few lines: nobody reads on
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"} | environment,
    ) as running:
        try:
            yield running
        finally:
            running.terminate()


@contextlib.contextmanager
def canned_server() -> Iterator[Server]:
    """Run the server behind the gateways."""
    with process([sys.executable, "-m", "bench.server_canned"]) as running:
        assert running.stdout is not None
        port = running.stdout.readline().strip()
        yield Server(f"http://127.0.0.1:{port}/v1", running.pid)


@contextlib.contextmanager
def openk2_gateway(upstream: str) -> Iterator[Server]:
    """Run ours."""
    command = [sys.executable, "-m", "openk2.cli", "serve", "--port", "0", "--upstream", upstream]
    with process(command) as running:
        yield Server(wait_for_url(running), running.pid)


def litellm_reason(directory: Path | None) -> str:
    """Say why LiteLLM is not measured, "" if it is."""
    if directory is None:
        return "--litellm was not given"
    return "" if (directory / "bin" / "litellm").exists() else "it is not installed there"


@contextlib.contextmanager
def litellm_gateway(directory: Path, upstream: str) -> Iterator[Server]:
    """Run LiteLLM's proxy: no database, no key, no log, one worker."""
    config = {
        "model_list": [
            {
                "model_name": "canned",
                "litellm_params": {
                    "model": "openai/canned",
                    "api_base": upstream,
                    "api_key": "sk-bench",
                },
            }
        ],
        "litellm_settings": {"telemetry": False},
    }
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "config.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML
        command = [str(directory.absolute() / "bin" / "litellm"), "--config", str(path)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        settings = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            # No key to check: ours has none either.
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        }
        with process(command, **settings) as running:
            url = f"http://127.0.0.1:{port}/v1"
            wait_until_there(f"{url}/models", running)
            yield Server(url, running.pid)


def wait_until_there(url: str, running: subprocess.Popen[str]) -> None:
    """Wait for an answer.

    Raises:
        RuntimeError: The process ended before it gave one.
    """
    while running.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"the process that was to answer at {url} has ended")


# How it is measured -----------------------------------------------------------------------------


def measure(
    servers: Mapping[str, Server], rounds: int, seconds: float
) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Ask every gateway in turn, with every number of clients, in every round."""
    for server in servers.values():
        load(server.url, 8, WARM_UP)
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for _ in range(rounds):
        for clients in CLIENTS:
            for name, server in servers.items():
                before = server.cpu_seconds()
                run = load(server.url, clients, seconds)
                spent = server.cpu_seconds() - before
                run["cpu_ms_per_request"] = 1000 * spent / run["requests"]
                print(name, clients, run, file=sys.stderr, flush=True)
                runs.setdefault((name, clients), []).append(run)
    return runs


def load(url: str, clients: int, seconds: float) -> dict[str, Any]:
    """Run the clients in a process of their own."""
    command = [sys.executable, "-m", "bench.server_load", url, "canned", str(clients), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    return json.loads(done.stdout)


def summary(runs: Mapping[tuple[str, int], list[dict[str, Any]]]) -> dict[str, Any]:
    """Keep the median round of each figure; say what the goals compare."""
    found: dict[str, Any] = {}
    for (name, clients), rounds in runs.items():
        row = {
            key: round(statistics.median(run[key] for run in rounds), 2)
            for key in ("requests_per_s", "p50_ms", "p99_ms", "cpu_ms_per_request")
        }
        row["errors"] = sum(run["errors"] for run in rounds)
        found.setdefault(name, {})[f"clients_{clients}"] = row
    for name in found.keys() - {"direct"}:
        added = found[name]["clients_1"]["p50_ms"] - found["direct"]["clients_1"]["p50_ms"]
        found[name]["added_ms_median_1_client"] = round(added, 2)
    ours = found["openk2"]
    goals: dict[str, Any] = {
        "added_ms_under": GOAL_ADDED_MS,
        "added_ms_met": ours["added_ms_median_1_client"] < GOAL_ADDED_MS,
    }
    if "litellm" in found:
        times = {
            f"clients_{n}": round(
                ours[f"clients_{n}"]["requests_per_s"]
                / found["litellm"][f"clients_{n}"]["requests_per_s"],
                1,
            )
            for n in CLIENTS
        }
        goals |= {"times_litellm": times, "times_litellm_32_at_least": GOAL_TIMES}
        goals["times_litellm_met"] = times["clients_32"] >= GOAL_TIMES
    return found | {"goals": goals}


if __name__ == "__main__":
    main()

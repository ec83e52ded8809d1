"""A model of four times the memory that the process may use still answers."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from openk2.cli import SHIPPED_MODEL
from openk2.model.config import K2Config
from openk2.model.names import is_routed_expert, published_shapes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="caps memory as Linux does"),
]

CAP = 448 << 20
SHAPE = K2Config(
    vocab_size=8192,
    hidden_size=1024,
    intermediate_size=2048,
    moe_intermediate_size=1024,
    num_hidden_layers=5,
    num_attention_heads=8,
    n_routed_experts=76,
    num_experts_per_tok=4,
    q_lora_rank=256,
    kv_lora_rank=128,
    qk_nope_head_dim=32,
    qk_rope_head_dim=16,
    v_head_dim=32,
    max_position_embeddings=4096,
)
CHAT = [sys.executable, "-m", "openk2.cli", "chat", "--threads", "1", "--max-tokens", "6"]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bfloat16 directory in shards of one layer, more than four times the cap."""
    directory = tmp_path_factory.mktemp("large")
    torch.manual_seed(0)
    expert = torch.randn(1024, 1024).mul_(0.02).bfloat16()
    shards: dict[str, dict[str, torch.Tensor]] = {}
    for name, shape in published_shapes(SHAPE).items():
        part = name.split(".")[2] if ".layers." in name else "rest"
        weight = expert if is_routed_expert(name) else torch.randn(shape).mul_(0.02).bfloat16()
        shards.setdefault(f"model-{part}.safetensors", {})[name] = weight
    index: dict[str, str] = {}
    for file, state in shards.items():
        save_file({name: weight.clone() for name, weight in state.items()}, directory / file)
        index |= dict.fromkeys(state, file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (directory / "config.json").write_text(json.dumps(SHAPE.to_dict()))
    for name in ("tiktoken.model", "tokenizer_config.json"):
        shutil.copy(SHIPPED_MODEL / name, directory)
    assert sum(file.stat().st_size for file in directory.iterdir()) > 4 * CAP
    yield directory
    shutil.rmtree(directory)


def answer(directory: Path, command: list[str], limit=None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, "--model", str(directory)],
        input="What is the capital of France?\n",
        capture_output=True,
        text=True,
        timeout=500,
        preexec_fn=limit,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )


def forget(directory: Path) -> None:
    """Drop the files from the system's page cache."""
    for path in directory.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def check(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "no answer"
    (line,) = [line for line in done.stderr.splitlines() if "weights take" in line]
    assert "2.0 GB and memory is 0.5 GB" in line
    assert "read from disk whenever a token is routed to them" in line


def test_it_answers_in_a_control_group_of_a_quarter(large: Path):
    group = control_group()
    forget(large)  # or the pages would be charged to whoever wrote them
    try:
        done = answer(large, CHAT, lambda: (group / "cgroup.procs").write_text(str(os.getpid())))
        check(done)
        peak = next(
            p for p in (group / "memory.max_usage_in_bytes", group / "memory.peak") if p.exists()
        )
        # It filled the group, so the cap was felt, and did not pass it.
        assert CAP // 2 < int(peak.read_text()) <= CAP
    finally:
        group.rmdir()


def test_it_answers_with_a_quarter_of_private_memory(large: Path):
    """RLIMIT_DATA bounds everything but mapped files: nothing is expanded for good."""
    check(answer(large, CHAT, lambda: resource.setrlimit(resource.RLIMIT_DATA, (CAP, CAP))))


def control_group() -> Path:
    """Make a group of our own with the cap, of whichever version this machine has."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, own = line.split(":", 2)
        v1 = "memory" in controllers.split(",")
        if not v1 and controllers:
            continue
        base = Path("/sys/fs/cgroup", "memory" if v1 else "")
        limit = "memory.limit_in_bytes" if v1 else "memory.max"
        for parent in (base / own.lstrip("/"), base):
            group = parent / f"openk2-test-{os.getpid()}"
            try:
                group.mkdir()
                (group / limit).write_text(str(CAP))
            except OSError:
                if group.exists():
                    group.rmdir()
                continue
            return group
    pytest.skip("this user may not make a memory control group here")

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from openk2.train import checkpoint
from openk2.train.checkpoint import CheckpointError

ROOT = Path(__file__).resolve().parents[2]


def tensors(value):
    return {"a": torch.full((3,), float(value)), "b.c": torch.tensor(value)}


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_what_was_saved_is_loaded(tmp_path):
    stored = {
        "half": torch.randn(2, 3).bfloat16(),
        "view": torch.arange(6.0).view(2, 3).T,
        "scalar": torch.tensor(3),
        "bytes": torch.get_rng_state(),
    }
    path = checkpoint.save(tmp_path / "run", 7, stored, {"rows": 5}, keep=1)
    loaded, state = checkpoint.load(path)
    assert state == {"rows": 5, "step": 7}
    assert loaded.keys() == stored.keys()
    for name, tensor in stored.items():
        assert torch.equal(loaded[name], tensor)
        assert loaded[name].dtype == tensor.dtype


def test_the_last_ones_stay_and_the_newest_is_found(tmp_path):
    assert checkpoint.latest(tmp_path / "none") is None
    for step in (2, 9, 10, 100):
        checkpoint.save(tmp_path, step, tensors(step), {}, keep=2)
    assert names(tmp_path) == ["step-00000010", "step-00000100"]
    assert checkpoint.latest(tmp_path) == tmp_path / "step-00000100"


def test_a_step_can_be_saved_again(tmp_path):
    for value in (1, 2):
        path = checkpoint.save(tmp_path, 5, tensors(value), {}, keep=3)
    assert checkpoint.load(path)[0]["b.c"] == 2
    assert names(tmp_path) == ["step-00000005"]


def test_leftovers_of_a_killed_save_are_ignored_and_removed(tmp_path):
    checkpoint.save(tmp_path, 1, tensors(1), {}, keep=2)
    (tmp_path / ".step-00000002.tmp").mkdir()
    assert checkpoint.latest(tmp_path) == tmp_path / "step-00000001"
    checkpoint.save(tmp_path, 2, tensors(2), {}, keep=2)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = checkpoint.save(tmp_path, 1, tensors(1), {}, keep=1)
    file = path / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match="step-00000001 cannot be read"):
        checkpoint.load(path)


KILL_IN_A_LOOP_OF_SAVES = """
import itertools, os, random, signal, sys, time, torch
from pathlib import Path
from openk2.train import checkpoint

rng = random.Random(0)
for attempt in range(8):
    directory = Path(sys.argv[1]) / str(attempt)
    child = os.fork()
    if child == 0:
        for step in itertools.count(1):
            tensors = {"big": torch.full((20_000,), float(step))}
            checkpoint.save(directory, step, tensors, {"rows": step}, keep=1)
    while checkpoint.latest(directory) is None:
        time.sleep(0.001)
    time.sleep(rng.random() * 0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    newest = checkpoint.latest(directory)
    tensors, state = checkpoint.load(newest)
    assert (tensors["big"] == state["step"]).all() and state["rows"] == state["step"]
    print(state["step"], flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_good_checkpoint(tmp_path):
    command = [sys.executable, "-c", KILL_IN_A_LOOP_OF_SAVES, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 8

"""An export holds no more than a piece of a weight, and is nothing until it is complete."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig
from typer.testing import CliRunner

from openk2.cli import app
from openk2.export.hf import export_hf
from openk2.export.hf_plan import make_plan
from openk2.export.place import ExportError
from openk2.export.safetensors_writer import Piece, Spec, split_shards, write_file
from openk2.model.checkpoint import Checkpoint
from openk2.model.config import ConfigError, K2Config, YarnConfig
from openk2.model.names import published_shapes
from openk2.model.safetensors_file import NAMES
from openk2.text.tokenizer import Tokenizer
from tests.model import sparse_checkpoint
from tests.model.sparse_checkpoint import stored_tensors

SHARD = 40 * 10**6
LARGE = K2Config(
    vocab_size=8192,
    hidden_size=1024,
    intermediate_size=2048,
    moe_intermediate_size=512,
    num_hidden_layers=4,
    num_attention_heads=4,
    n_routed_experts=40,
    num_experts_per_tok=4,
    q_lora_rank=128,
    kv_lora_rank=64,
    qk_nope_head_dim=32,
    qk_rope_head_dim=16,
    v_head_dim=32,
)
SMALL = replace(LARGE, vocab_size=160, hidden_size=64, moe_intermediate_size=32, n_routed_experts=8)


def source_of(config: K2Config, directory: Path) -> Path:
    """Write a bfloat16 model of the shape, of the same few values again and again."""
    values = torch.randn(1 << 16).to(torch.bfloat16)
    specs = [Spec(n, torch.bfloat16, shape) for n, shape in published_shapes(config).items()]

    def pieces() -> Iterator[Piece]:
        for spec in specs:
            count = spec.nbytes // 2
            yield spec.name, values.repeat(-(-count // len(values)))[:count]

    directory.mkdir()
    for _ in write_file(directory / "model.safetensors", specs, pieces()):
        pass
    (directory / "config.json").write_text(json.dumps(config.to_dict()))
    return directory


CAPPED = """
import resource, sys
from pathlib import Path
import gguf, torch
from openk2.export.gguf import export_gguf
from openk2.export.hf import export_hf
source, out, format, shard, cap = sys.argv[1:]
torch.set_num_threads(1)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
limit = int(status["VmData"].split()[0]) * 1024 + int(cap)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    torch.empty(int(cap) + 2**20, dtype=torch.uint8)
    sys.exit("the cap does not hold")
except RuntimeError:
    pass
kind, _, format = format.partition(" ")
if kind == "hf":
    done = export_hf(Path(source), Path(out), format=None if format == "as stored" else format,
        shard_bytes=int(shard), with_tokenizer=False)
    print(len(done.files))
else:
    print(export_gguf(Path(source), Path(out), format=format).nbytes)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and needs RLIMIT_DATA of Linux")
@pytest.mark.parametrize(
    "format",
    [
        *("hf as stored", "hf f32", "hf fp8", "hf int4"),
        *("gguf f32", "gguf f16", "gguf q8_0", "gguf q4_0"),
    ],
)
def test_a_source_of_ten_shards_is_exported_in_the_memory_of_two(format, tmp_path):
    """The system itself refuses every byte of anonymous memory beyond two shards of 40 MB."""
    source = source_of(LARGE, tmp_path / "source")
    assert (source / "model.safetensors").stat().st_size > 10 * SHARD
    Tokenizer.from_ranks({bytes((byte,)): byte for byte in range(256)}, 32).save(source)
    arguments = [str(source), str(tmp_path / "out"), format, str(SHARD), str(2 * SHARD)]
    done = subprocess.run(
        [sys.executable, "-c", CAPPED, *arguments], capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    if format.startswith("gguf"):
        assert int(done.stdout) == (tmp_path / "out").stat().st_size > 2 * SHARD
    else:
        assert int(done.stdout) >= 4
        Checkpoint(tmp_path / "out").check_complete()


@pytest.mark.slow
def test_k2_is_planned_as_it_is_published(tmp_path):
    """Every name, type and shape of the two published layouts, from the FP8 one's headers."""
    config = K2Config(rope_scaling=YarnConfig(32.0))
    published = sparse_checkpoint.write(tmp_path, config, "FP8", shards=61)
    checkpoint = Checkpoint(tmp_path)
    for format, layout in ((None, published), ("int4", stored_tensors(config, "INT4"))):
        plan = make_plan(checkpoint, format)
        parts = [part for weight in plan.weights for part in weight.parts]
        assert {p.name: (NAMES[p.dtype], p.shape) for p in parts} == layout
        assert plan.nbytes == sum(sparse_checkpoint.nbytes(*tensor) for tensor in layout.values())
        shards = list(split_shards(plan.weights, lambda weight: weight.nbytes, 5 * 10**9))
        assert all(sum(weight.nbytes for weight in shard) <= 5 * 10**9 for shard in shards)
        assert len(shards) <= plan.nbytes / 4.9e9


KILLED = """
import os, signal, sys
from pathlib import Path
from openk2.export.hf import export_hf
def kill(done, total):
    if done >= total * float(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
export_hf(Path(sys.argv[1]), Path(sys.argv[2]), format="fp8", shard_bytes=100_000,
    with_tokenizer=False, on_progress=kill)
"""


@pytest.mark.parametrize("after", [0.5, 1.0])
def test_a_killed_export_leaves_no_directory_that_loads(after, tmp_path):
    source, out = source_of(SMALL, tmp_path / "source"), tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(source), str(out), str(after)]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    left = {path.name for path in out.iterdir()}
    assert "config.json" not in left
    assert len([name for name in left if name.endswith(".safetensors")]) >= 2
    assert len([name for name in left if name.endswith(".tmp")]) == 1
    with pytest.raises(ConfigError, match=r"no config\.json"):
        Checkpoint(out)
    with pytest.raises((OSError, ValueError)):
        AutoConfig.from_pretrained(out)
    with pytest.raises(ExportError, match="what an interrupted export left"):
        export_hf(source, out, with_tokenizer=False)


def test_the_command_writes_a_directory_and_says_what(tmp_path):
    source, out = source_of(SMALL, tmp_path / "source"), tmp_path / "out"
    command = ["export", "hf", str(source), str(out), "--no-tokenizer", "--format", "int4"]
    done = CliRunner().invoke(app, [*command, "--shard-size", "0.3MB", "--json"])
    assert done.exit_code == 0, done.output
    written = json.loads(done.stdout)
    assert written["files"][0] == f"model-00001-of-{len(written['files']):06d}.safetensors"
    assert written["left_out"] == []
    Checkpoint(out).check_complete()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--no-tokenizer", "--shard-size", "huge"], "'huge' is not a size"),
        ([], "tiktoken.model is missing"),
        (["--no-tokenizer", "--format", "int3"], "int3"),
    ],
)
def test_the_command_refuses_in_one_sentence(arguments, said, tmp_path):
    source = source_of(SMALL, tmp_path / "source")
    done = CliRunner().invoke(app, ["export", "hf", str(source), str(tmp_path / "out"), *arguments])
    assert done.exit_code == 2
    assert said in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()

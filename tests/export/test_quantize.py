"""`openk2 quantize`: what it writes, what it says, and what it refuses before it starts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from openk2.cli import SHIPPED_MODEL, app
from openk2.cli.quantizing import LAYOUTS
from openk2.export.hf_plan import make_plan
from openk2.kernels import int4
from openk2.model import weights
from openk2.model.checkpoint import Checkpoint
from openk2.model.config import K2Config
from openk2.model.transformer import Transformer
from openk2.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.from_ranks({bytes((byte,)): byte for byte in range(256)}, 32)
TINY = K2Config(
    vocab_size=TOKENIZER.vocab_size,
    hidden_size=64,
    intermediate_size=64,
    moe_intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    n_routed_experts=4,
    num_experts_per_tok=2,
    q_lora_rank=32,
    kv_lora_rank=32,
    qk_nope_head_dim=8,
    qk_rope_head_dim=8,
    v_head_dim=16,
    max_position_embeddings=4096,
    initializer_range=0.05,
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    torch.manual_seed(2)
    weights.save(Transformer(TINY), tmp_path / "source", torch.bfloat16)
    TOKENIZER.save(tmp_path / "source")
    return tmp_path / "source"


def run(*words: object):
    return CliRunner().invoke(app, ["quantize", *map(str, words)])


@pytest.mark.parametrize("format", LAYOUTS)
def test_every_format_is_written_as_the_exporter_plans_it(format, source, tmp_path):
    done = run(source, tmp_path / "out", "--format", format, "--json")
    assert done.exit_code == 0, done.output
    written, planned = Checkpoint(tmp_path / "out"), make_plan(Checkpoint(source), LAYOUTS[format])
    written.check_complete()
    assert set(written.entries) == {part.name for w in planned.weights for part in w.parts}
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "out" / "quantization.json").read_text())
    assert (report["format"], "scales" in report) == (format, format != "fp8")
    assert report["bytes"] == {"before": Checkpoint(source).nbytes, "after": planned.nbytes}
    assert Tokenizer.load(tmp_path / "out").vocab_size == TOKENIZER.vocab_size


@pytest.mark.parametrize(("words", "rule"), [((), "mse"), (("--scales", "absmax"), "absmax")])
def test_the_scale_rule_is_obeyed_and_least_error_is_the_default(words, rule, source, tmp_path):
    done = run(source, tmp_path / "out", "--format", "int4", *words)
    assert done.exit_code == 0, done.output
    name = "lm_head.weight"
    expected = int4.quantize(Checkpoint(source).dense(name), scales=rule)
    written = Checkpoint(tmp_path / "out")
    assert torch.equal(written.tensor(f"{name}_packed"), expected[0])
    assert torch.equal(written.tensor(f"{name}_scale"), expected[1])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--measure", "--data", "nowhere"), "nowhere"),
        (("--measure", "--no-tokenizer"), "needs the tokenizer"),
    ],
)
def test_what_measuring_lacks_is_said_before_anything_is_written(words, said, source, tmp_path):
    done = run(source, tmp_path / "out", "--format", "fp8", *words)
    assert done.exit_code == 2
    assert said in done.output
    assert not (tmp_path / "out").exists()


def test_a_directory_in_use_is_refused_before_minutes_of_measuring(source, tmp_path):
    done = run(source, source, "--format", "int4", "--measure", "--data", "nowhere")
    assert done.exit_code == 2
    assert "is not empty" in done.output


@pytest.mark.slow
def test_the_loss_is_printed_and_kept(tmp_path):
    source, words = tmp_path / "source", Tokenizer.load(SHIPPED_MODEL)
    torch.manual_seed(2)
    weights.save(Transformer(replace(TINY, vocab_size=words.vocab_size)), source, torch.bfloat16)
    words.save(source)
    done = run(source, tmp_path / "out", "--format", "int4", "--measure", "--tokens", 2000)
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "out" / "quantization.json").read_text())
    for moment in ("before", "after"):
        assert report[moment]["calls"] > 5
        assert 3 < report[moment]["bits_per_byte"] < 7, "an untrained model: 13 bits per token"
    assert report["before"]["bits_per_byte"] != report["after"]["bits_per_byte"]
    assert f"{report['after']['bits_per_byte']:.4f}" in done.output
    assert "calls right in name and arguments" in done.output

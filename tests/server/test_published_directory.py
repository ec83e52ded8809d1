"""Directories laid out as Kimi K2's are published, served by a real process to a real client."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from openai import OpenAI
from safetensors.torch import save_file

from openk2.kernels import fp8, int4
from openk2.model.config import K2Config
from openk2.model.names import is_linear, is_routed_expert, published_shapes
from openk2.text.tokenizer import Tokenizer
from tests.model.test_mapped import QUANTIZATION
from tests.server.test_process import serving, start, url_in
from tests.text.test_published_tokenizer import THINKING, made_up_ranks, write_published

CONFIG = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "auto_map": {
        "AutoConfig": "configuration_deepseek.DeepseekV3Config",
        "AutoModelForCausalLM": "modeling_deepseek.DeepseekV3ForCausalLM",
    },
    "aux_loss_alpha": 0.001,
    "bos_token_id": 163584,
    "eos_token_id": 163585,
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.02,
    "intermediate_size": 192,
    "kv_lora_rank": 512,
    "max_position_embeddings": 131072,
    "model_type": "kimi_k2",
    "moe_intermediate_size": 96,
    "moe_layer_freq": 1,
    "n_group": 1,
    "n_routed_experts": 16,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 2,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "num_nextn_predict_layers": 0,
    "pretraining_tp": 1,
    "q_lora_rank": 200,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "beta_fast": 1.0,
        "beta_slow": 1.0,
        "factor": 32.0,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
    "rope_theta": 50000.0,
    "routed_scaling_factor": 2.827,
    "scoring_func": "sigmoid",
    "seq_aux": True,
    "tie_word_embeddings": False,
    "topk_group": 1,
    "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.48.3",
    "use_cache": True,
    "v_head_dim": 128,
    "vocab_size": 163840,
}
ANSWER = "the moonshot"


SLOW = [pytest.param(form, marks=pytest.mark.slow) for form in ("bf16", "int4")]


@pytest.fixture(scope="module", params=["fp8", *SLOW])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose model says ANSWER and ends its turn, whatever it is asked."""
    directory = tmp_path_factory.mktemp(request.param) / "Kimi-K2"
    write_published(directory, made_up_ranks(), THINKING)
    (directory / "modeling_deepseek.py").write_text("raise SystemExit('remote code ran')\n")
    settings = dict(CONFIG)
    if request.param in QUANTIZATION:
        settings["quantization_config"] = QUANTIZATION[request.param]
    (directory / "config.json").write_text(json.dumps(settings))
    _write_shards(directory, request.param, _weights(Tokenizer.load(directory)))
    return directory


def _weights(tokenizer: Tokenizer) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = {
        name: torch.ones(shape) if "norm" in name else torch.randn(shape) * 0.02
        for name, shape in published_shapes(K2Config.from_dict(CONFIG)).items()
    }
    # Every layer computes, and leaves no more than a trace in the residual stream.
    for name in state:
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            state[name] *= 1e-3
    embedding, head = state["model.embed_tokens.weight"], state["lm_head.weight"]
    head.zero_()
    said = [tokenizer.specials["<|im_middle|>"], *tokenizer.encode(ANSWER), tokenizer.im_end]
    for step, (token, following) in enumerate(pairwise(said)):
        embedding[token] = torch.eye(128)[step]
        head[following] = torch.eye(128)[step]
    return {name: weight.bfloat16() for name, weight in state.items()}


def _write_shards(directory: Path, form: str, state: dict[str, torch.Tensor]) -> None:
    stored: dict[str, torch.Tensor] = {}
    for name, weight in state.items():
        if form == "fp8" and is_linear(name):
            stored[name], stored[name + "_scale_inv"] = fp8.quantize(weight)
        elif form == "int4" and is_routed_expert(name):
            stored[name + "_packed"], stored[name + "_scale"] = int4.quantize(weight)
            stored[name + "_shape"] = torch.tensor(weight.shape, dtype=torch.int32)
        else:
            stored[name] = weight
    names = list(stored)
    index: dict[str, str] = {}
    for shard in range(3):
        file = f"model-{shard + 1:05d}-of-000003.safetensors"
        part = names[shard::3]
        save_file({name: stored[name] for name in part}, directory / file)
        index |= dict.fromkeys(part, file)
    document = {"metadata": {"total_size": 0}, "weight_map": index}
    (directory / "model.safetensors.index.json").write_text(json.dumps(document))


def test_it_answers_an_openai_client_and_stops_at_the_end_of_the_turn(published: Path):
    arguments = ("--model", published, "--max-batch", 1, "--thinking")
    with (
        serving(*arguments) as (_, welcome),
        OpenAI(base_url=url_in(welcome), api_key="none", timeout=60) as client,
    ):
        answer = client.chat.completions.create(
            model="Kimi-K2", messages=[{"role": "user", "content": "Hello"}], temperature=0
        )
    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].finish_reason == "stop"


def test_chat_answers_too(published: Path):
    with start("chat", "--model", published, "--temperature", 0) as process:
        said, complaints = process.communicate("Hello\n", timeout=120)
    assert process.returncode == 0, complaints
    assert said.strip() == ANSWER


def test_a_tokenizer_of_another_model_is_refused(published: Path, tmp_path: Path):
    for file in published.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "tokenizer_config.json").unlink()
    write_published(tmp_path / "other", made_up_ranks(), {**THINKING, "[PAD]": 163900})
    (tmp_path / "other" / "tokenizer_config.json").rename(tmp_path / "tokenizer_config.json")
    with start("serve", "--model", tmp_path, "--port", 0) as process:
        _, complaints = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "belong to different models" in complaints and "163,901" in complaints

"""Our GRPO and TRL's on the same batch of the same model: the same loss, the same gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from openk2.rl.objective import ObjectiveConfig, Tokens, advantages, shares, slopes

pytest.importorskip("trl", reason="TRL is what we compare with; pip install 'openk2[peers]'")
pytestmark = [
    pytest.mark.slow,  # its imports take seconds
    pytest.mark.filterwarnings("ignore"),  # they warn about other people's packages
]

REWARDS = [[1.0, 0.0, 0.5, 0.0], [0.2, 0.9, 0.9, 0.1]]
LENGTHS = [[3, 9, 6, 1], [5, 2, 9, 8]]
PROMPT, WIDTH, VOCABULARY = 4, 9, 50


def their_trainer(tmp_path: Path, loss_type: str, scale: str, cispo: bool) -> Any:
    """Build a real trainer around a model of a few thousand weights."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    model = LlamaForCausalLM(
        LlamaConfig(**sizes, vocab_size=VOCABULARY, num_attention_heads=2, initializer_range=0.3)
    )
    words = {f"w{i}": i for i in range(VOCABULARY)}
    words_only = Tokenizer(models.WordLevel(words, unk_token="w0"))
    return GRPOTrainer(
        model=model,
        reward_funcs=lambda **_: 0.0,
        args=GRPOConfig(
            output_dir=str(tmp_path),
            loss_type=loss_type,
            scale_rewards=scale,
            epsilon=0.2,
            epsilon_high=1.3 if cispo else 0.3,  # the cap itself for CISPO
            max_completion_length=WIDTH,
            num_generations=4,
            per_device_train_batch_size=8,
            gradient_accumulation_steps=1,
            use_cpu=True,
            bf16=False,  # its default, which is 1 % away from any float32
            report_to=[],
        ),
        train_dataset=Dataset.from_dict({"prompt": ["w1"] * 8}),
        processing_class=PreTrainedTokenizerFast(
            tokenizer_object=words_only, pad_token="w0", eos_token="w2"
        ),
    )


def batch(advantage_S: Tensor) -> dict[str, Tensor]:
    """Return what TRL's loss reads, with log-probabilities of a policy some way off."""
    generator = torch.Generator().manual_seed(1)
    flat = torch.tensor([length for group in LENGTHS for length in group])
    mask = (torch.arange(WIDTH) < flat[:, None]).long()
    return {
        "prompt_ids": torch.randint(3, VOCABULARY, (8, PROMPT), generator=generator),
        "prompt_mask": torch.ones(8, PROMPT, dtype=torch.long),
        "completion_ids": torch.randint(3, VOCABULARY, (8, WIDTH), generator=generator) * mask,
        "completion_mask": mask,
        "advantages": advantage_S.float(),
        "num_items_in_batch": mask.sum(),
    }


def logprobs(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Return the completions' log-probabilities [8, WIDTH], differentiable."""
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    log_p = model(input_ids=ids, attention_mask=mask).logits[:, PROMPT - 1 : -1].log_softmax(-1)
    return log_p.gather(2, inputs["completion_ids"][..., None]).squeeze(2)


@pytest.mark.parametrize("scale", ["group", "none"])
@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo", "cispo"])
def test_loss_and_gradient_are_trls(tmp_path, loss_type, scale):
    config = ObjectiveConfig(
        kind="grpo",
        grpo_loss=loss_type,
        grpo_scale=scale,
        clip_high=0.3,
        dr_grpo_tokens=WIDTH,
        max_weight=None,
    )
    trainer = their_trainer(tmp_path, loss_type, scale, loss_type == "cispo")
    advantage_S = advantages(REWARDS, config)
    inputs = batch(advantage_S)
    model, mask = trainer.model, inputs["completion_mask"].bool()
    now = logprobs(model, inputs)
    away = torch.randn(now.shape, generator=torch.Generator().manual_seed(2))
    inputs["old_per_token_logps"] = now.detach() + 0.3 * away
    parameters = [p for p in model.parameters() if p.requires_grad]
    trainer.current_gradient_accumulation_steps = 1
    trainer.args.steps_per_generation = 1
    theirs = trainer.compute_loss(model, inputs)
    their_gradient = torch.autograd.grad(theirs, parameters)

    start_N = inputs["old_per_token_logps"][mask]
    sequence_N = torch.arange(8)[:, None].expand(-1, WIDTH)[mask]
    tokens = Tokens(sequence_N, now[mask].detach(), start_N, start_N)
    ours = slopes(tokens, advantage_S, shares(LENGTHS, config), config)
    our_gradient = torch.autograd.grad((ours.slope_N * now[mask]).sum(), parameters)

    assert ours.clipped_N.any() and not ours.clipped_N.all()
    apart = max(
        float((a - b).abs().max()) for a, b in zip(our_gradient, their_gradient, strict=True)
    )
    largest = max(float(g.abs().max()) for g in their_gradient)
    print(f"{loss_type}, {scale}: loss {float(theirs):.6f} apart {float(ours.loss - theirs):.1e}, "
          f"gradient up to {largest:.3f} apart {apart:.1e}")  # fmt: skip
    assert float(ours.loss) == pytest.approx(float(theirs), abs=1e-6)
    assert apart < 1e-6 * max(1.0, largest)

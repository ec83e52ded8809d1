"""Let one linear map copy every token: spell in the head what attention reads.

A copying head reads a token in the residual stream and says it through the head's row of that
token. In a model with two tables nothing ties the two together, so the way from one to the other
has to be learned for each token by itself. Here each row of the head gets a short code of how the
token looks to the copying layer, in the directions in which final hidden states vary least: what
the model says so far stays nearly the same. `" Paris"` and `"Paris"` share half of their codes.

In: a model directory and some text. Out: a model directory to train on from.

    python -m runs.nano_codes --model out/attend-nano/model --to out/codes-nano/model
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from openk2.model import weights
from openk2.model.transformer import Layer, Transformer
from openk2.text.copy_sources import CopySources
from openk2.text.tokenizer import Tokenizer
from openk2.train.quality import bits_per_byte, prose

WIDTH = 64
"""Length of a code: as many values as nano's attention hands on per token."""
LAYER = 3
"""The layer that copies, by what it reads codes are made."""
OTHER = 0.7
"""How much of a code is that of the same word with, or without, a space before it."""
NORM = 1.6
"""Length of a code; the rows of nano's head measure 1.6 without it."""
SAMPLE_BYTES = 100_000
ROW, TIMES = 128, 3
"""Tokens of a row, and how often every token is looked at among random others."""


def look(model: Transformer, n_tokens: int, generator: torch.Generator) -> Tensor:
    """Return how each token looks to the copying layer on average, [V, D]."""
    layer, seen_BTD = model.layers[LAYER], []
    assert isinstance(layer, Layer)
    hook = layer.input_layernorm.register_forward_hook(lambda m, i, output: seen_BTD.append(output))
    total_VD = torch.zeros(n_tokens, model.config.hidden_size)
    for _ in range(TIMES):
        order_BT = torch.randperm(n_tokens, generator=generator).view(-1, ROW)
        for part_BT in order_BT.split(8):
            model(part_BT)
            total_VD[part_BT.flatten()] += seen_BTD.pop().flatten(0, 1)
    hook.remove()
    return total_VD / TIMES


def whitened(x_VD: Tensor) -> Tensor:
    """Return unit vectors [V, C] of the directions of most variance, all of one size."""
    x_VD = x_VD - x_VD.mean(0)
    variance_D, direction_DD = torch.linalg.eigh(torch.cov(x_VD.T))  # ascending
    return normal(x_VD @ (direction_DD[:, -WIDTH:] / variance_D[-WIDTH:].sqrt()))


def least_used(hidden_ND: Tensor) -> Tensor:
    """Return the directions [D, C] in which vectors vary least."""
    _, direction_DD = torch.linalg.eigh(torch.cov(hidden_ND.T))  # ascending
    return direction_DD[:, :WIDTH]


def normal(x_VC: Tensor) -> Tensor:
    """Scale vectors to length 1."""
    return x_VC / x_VC.norm(dim=1, keepdim=True)


def shared(code_VC: Tensor, alike_V: Tensor) -> Tensor:
    """Mix each token's code with that of the same word with, or without, a space before it."""
    other_V = torch.arange(len(alike_V))
    spaced = alike_V != other_V
    other_V[alike_V[spaced]] = other_V[spaced].clone()
    other_V[spaced] = alike_V[spaced]
    return normal(code_VC + OTHER * code_VC[other_V])


@torch.no_grad()
def give_codes(model: Transformer, alike_V: Tensor, hidden_ND: Tensor, seed: int = 0) -> None:
    """Write the codes into the head, where `hidden_ND` varies least."""
    generator = torch.Generator().manual_seed(seed)
    code_VC = shared(whitened(look(model, len(alike_V), generator)), alike_V)
    free_DC = least_used(hidden_ND)
    head_VD = model.lm_head.weight
    head_VD += (NORM * code_VC - head_VD @ free_DC) @ free_DC.T


@torch.no_grad()
def hidden_states(model: Transformer, ids: list[int]) -> Tensor:
    """Return final hidden states [N, D] of a text in rows."""
    rows_BT = torch.tensor(ids[: len(ids) // ROW * ROW]).view(-1, ROW)
    return torch.cat([model(part).hidden_BTD.flatten(0, 1) for part in rows_BT.split(8)])


def main() -> None:
    """Write the model with codes and say what they cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("out/attend-nano/model"))
    parser.add_argument("--to", type=Path, default=Path("out/codes-nano/model"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    options = parser.parse_args()
    tokenizer = Tokenizer.load(options.model)
    model = weights.load(options.model, torch.float32)
    text = prose(options.data, SAMPLE_BYTES)
    before = bits_per_byte(model, tokenizer, text)
    hidden_ND = hidden_states(model, tokenizer.encode(text))
    give_codes(model, torch.from_numpy(CopySources(tokenizer).alike_V).long(), hidden_ND)
    after = bits_per_byte(model, tokenizer, text)
    options.to.mkdir(parents=True, exist_ok=True)
    weights.save(model, options.to)
    tokenizer.save(options.to)
    print(f"{options.to}: {before:.3f} bits per byte before, {after:.3f} after")


if __name__ == "__main__":
    main()

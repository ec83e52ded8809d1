"""Give every token a code that copying can carry, in directions that the model hardly uses.

What an attention head copies is what it reads from a token's embedding, and what it says goes
through the head's row of that token. In a model with two tables nothing ties those two together,
so each token's way from one to the other has to be learned by itself. Here both tables get the
same short code per token, in the directions in which embeddings, or final hidden states, vary
least: one linear map then copies all tokens. `" Paris"` and `"Paris"` have similar codes.

In: a model directory and some text. Out: a model directory to train on from.

    python -m runs.nano_codes --model openk2/assets/nano --to out/codes-nano/model
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from openk2.model import weights
from openk2.model.transformer import Transformer
from openk2.text.copy_sources import CopySources
from openk2.text.tokenizer import Tokenizer
from openk2.train.quality import bits_per_byte, prose

WIDTH = 64
"""Length of a code: as many values as nano's attention hands on per token."""
OWN = 0.6
"""How much of a code is a spelling's own beside what it shares with the other spelling."""
EMBEDDING_NORM, HEAD_NORM = 0.7, 1.6
"""Length of a code in either table; nano's rows measure 1.0 and 1.6."""
SAMPLE_BYTES = 100_000


def codes(alike_V: Tensor, generator: torch.Generator) -> Tensor:
    """Draw unit codes [V, C]; tokens that are spelled alike get similar ones."""
    shared_VC, own_VC = torch.randn(2, len(alike_V), WIDTH, generator=generator)
    code_VC = shared_VC[alike_V] + OWN * own_VC
    return code_VC / code_VC.norm(dim=1, keepdim=True)


def least_used(x_ND: Tensor) -> Tensor:
    """Return the `WIDTH` directions [D, C] in which vectors vary least."""
    _, direction_DD = torch.linalg.eigh(torch.cov(x_ND.T))  # ascending
    return direction_DD[:, :WIDTH]


@torch.no_grad()
def give_codes(model: Transformer, alike_V: Tensor, hidden_ND: Tensor, seed: int = 0) -> None:
    """Replace both tables' parts in the least used directions by the tokens' codes."""
    code_VC = codes(alike_V, torch.Generator().manual_seed(seed))
    embedding_VD, head_VD = model.embed_tokens.weight, model.lm_head.weight
    tables = ((embedding_VD, embedding_VD, EMBEDDING_NORM), (head_VD, hidden_ND, HEAD_NORM))
    for table_VD, varies_ND, norm in tables:
        free_DC = least_used(varies_ND)
        table_VD += (norm * code_VC - table_VD @ free_DC) @ free_DC.T


@torch.no_grad()
def hidden_states(model: Transformer, ids: list[int], row: int = 256) -> Tensor:
    """Return final hidden states [N, D] of a text in rows."""
    rows_BT = torch.tensor(ids[: len(ids) // row * row]).view(-1, row)
    return torch.cat([model(part).hidden_BTD.flatten(0, 1) for part in rows_BT.split(8)])


def main() -> None:
    """Write the model with codes and say what they cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("openk2/assets/nano"))
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

"""Weights that find a needle by construction, at any distance, and the haystacks they are tried on.

In: how long a context may be. Out: a model of the nano shape whose answer can be told in advance,
token ids to read, and the ids that greedy decoding must then give.
Must not know: engines or clocks.

No model of ours is trained on contexts this long, so these weights are written and not learnt.
A needle token carries a key, a value, and the key to ask for next. In one layer, one head's query
is the key that the last token asks for, its keys are the keys that the context carries, and its
values are both key and value, which the head turns into the needle's own id. So the answer to a
question is the needle with key 0, after which comes the one with key 1, and so on: a chain of
look-ups, each over the whole context. That head has no rotary part, so distance does not matter.
All other weights are small noise, and every layer computes as usual.

The shape is nano's, with its 4,096 positions stretched by YaRN as K2's 4,096 are.

Shapes: D model width, V vocabulary, H heads, q query width, R latent and rotary key, C latent.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor

from openk2.model.config import K2Config, YarnConfig, preset
from openk2.model.transformer import Layer, Transformer

KEYS, VALUES = 16, 16
QUESTION = KEYS * VALUES
"""The token that asks for key 0; needles come before it, hay after it."""
SHAPES = {"nano": {}, "thin": {"num_hidden_layers": 2, "num_attention_heads": 1}}
"""What differs from nano. Thin has a twelfth of its attention: reading 256K takes minutes."""
NOISE = 0.02
"""Standard deviation of weights that are not part of the construction."""
FEATURE = 8.0
"""Size of a key, value or question in an embedding whose length is 16."""
SHARPNESS = 8.0
"""Of the query: the found key's score is then about 40, and about 0 for everything else."""
FOUND = 3.0
"""Of the output projection, so that what was found outweighs the token that asked."""

# Where the features lie in the residual stream; the rest is content.
KEY = slice(0, KEYS)
VALUE = slice(KEY.stop, KEY.stop + VALUES)
ASK = slice(VALUE.stop, VALUE.stop + KEYS)
FOUND_KEY = slice(ASK.stop, ASK.stop + KEYS)
FOUND_VALUE = slice(FOUND_KEY.stop, FOUND_KEY.stop + VALUES)
CONTENT = slice(FOUND_VALUE.stop, None)


@dataclass(frozen=True, slots=True)
class Haystack:
    """A prompt and what must follow it."""

    prompt: list[int]
    answer: list[int]


@dataclass(frozen=True, slots=True)
class Document:
    """A long text to be asked about after any of several lengths."""

    ids: list[int]
    needles: list[int]
    """Token of each key."""
    places: list[int]
    """Where it lies."""

    def present(self, length: int) -> list[int]:
        """Return the keys whose needles lie in the first `length` tokens, in order of depth."""
        keys = sorted(range(KEYS), key=self.places.__getitem__)
        return [key for key in keys if self.places[key] < length]

    def answer(self, key: int, length: int) -> list[int]:
        """Return what follows the question for `key` after `length` tokens: all that is certain."""
        present = set(self.present(length))
        chain: list[int] = []
        while key in present:
            chain.append(self.needles[key])
            key += 1
        return chain


def margin_needed(length: int) -> float:
    """Return how far the needle's score must stand out to get 99.99 % of the attention."""
    return math.log(length) + 10


def needle_id(key: int, value: int) -> int:
    """Return the token of a needle."""
    return key * VALUES + value


def question(key: int) -> int:
    """Return a token that asks for a key: a needle asks for the key after its own."""
    return needle_id(key - 1, 0) if key else QUESTION


def document(lengths: Sequence[int], vocab_size: int, seed: int) -> Document:
    """Hide one needle of every key in random hay, some in each stretch between two lengths.

    The first is the first token of all, the others lie evenly in their stretch, up to its end: so
    after every length there are needles at the very beginning, in the middle, and just before.

    Args:
        lengths: Where questions will be asked, ascending, `KEYS - 1` at most.
        vocab_size: Of the model.
        seed: Draws hay, values, and which key lies where.
    """
    random = Random(seed)
    ids = [random.randrange(QUESTION + 1, vocab_size) for _ in range(lengths[-1])]
    places = [0]
    stretches = list(itertools.pairwise([0, *lengths]))
    for index, (start, end) in enumerate(stretches):
        count = (KEYS - 1 + index) // len(stretches)
        places += [start + (end - start) * (i + 1) // count - 1 for i in range(count)]
    random.shuffle(places)
    needles = [needle_id(key, random.randrange(VALUES)) for key in range(KEYS)]
    for place, needle in zip(places, needles, strict=True):
        ids[place] = needle
    return Document(ids, needles, places)


def haystack(length: int, vocab_size: int, seed: int) -> Haystack:
    """Hide one needle of every key in random hay, evenly from the first token to the last.

    Args:
        length: Tokens of the prompt, the question at its end included.
        vocab_size: Of the model.
        seed: Draws hay, values, and which key lies where.
    """
    random = Random(seed)
    prompt = [random.randrange(QUESTION + 1, vocab_size) for _ in range(length - 1)]
    answer = [needle_id(key, random.randrange(VALUES)) for key in range(KEYS)]
    places = [round(i * (length - 2) / (KEYS - 1)) for i in range(KEYS)]
    random.shuffle(places)
    for place, needle in zip(places, answer, strict=True):
        prompt[place] = needle
    return Haystack([*prompt, QUESTION], answer)


def lookup_layer(config: K2Config) -> int:
    """Return where the look-up happens: noise of other layers comes before and after it."""
    return config.num_hidden_layers // 2


def needle_model(max_positions: int, shape: str = "nano", seed: int = 0) -> Transformer:
    """Return the model, in float32."""
    nano = preset("nano")
    factor = max_positions / nano.max_position_embeddings
    config = replace(
        nano,
        max_position_embeddings=max_positions,
        rope_scaling=YarnConfig(factor, nano.max_position_embeddings) if factor > 1 else None,
        initializer_range=NOISE,
        **SHAPES[shape],
    )
    model = Transformer(config)
    generator = torch.Generator().manual_seed(seed)
    model.reset_parameters(generator)
    with torch.no_grad():
        _write_embedding(model.embed_tokens.weight, generator)
        layer = model.layers[lookup_layer(config)]
        assert isinstance(layer, Layer)
        _write_lookup(layer, config, generator)
        _write_head(model.lm_head.weight)
    return model


def _write_embedding(weight_VD: Tensor, generator: torch.Generator) -> None:
    """Give every token the features it has, and random content up to a root mean square of 1."""
    feature_VD = torch.zeros_like(weight_VD)
    for key in range(KEYS):
        for value in range(VALUES):
            row_D = feature_VD[needle_id(key, value)]
            row_D[KEY][key] = row_D[VALUE][value] = FEATURE
            if key + 1 < KEYS:
                row_D[ASK][key + 1] = FEATURE
    feature_VD[QUESTION, ASK.start] = FEATURE
    content_VD = torch.zeros_like(weight_VD)
    content_VD[:, CONTENT].normal_(generator=generator)
    room_V1 = weight_VD.shape[1] - feature_VD.square().sum(-1, keepdim=True)
    content_VD *= room_V1.sqrt() / content_VD.norm(dim=-1, keepdim=True)
    weight_VD.copy_(feature_VD + content_VD)


def _write_lookup(layer: Layer, config: K2Config, generator: torch.Generator) -> None:
    """Write head 0 of one layer; norms divide by a length, so hay needs content of its own there.

    Without content, the latent of hay would be nothing but noise, which its norm blows up.
    """
    attention = layer.self_attn
    kv_RD, qa_qD = attention.kv_a_proj_with_mqa.weight, attention.q_a_proj.weight
    carried, C = KEYS + VALUES, config.kv_lora_rank
    _features_then_content(kv_RD[:C], slice(0, carried), generator)
    _features_then_content(qa_qD, ASK, generator)
    qb_Hqr = attention.q_b_proj.weight.unflatten(0, (config.num_attention_heads, -1))
    kvb_HxC = attention.kv_b_proj.weight.unflatten(0, (config.num_attention_heads, -1))
    qb_Hqr[0].zero_()
    qb_Hqr[0, :KEYS, :KEYS] = SHARPNESS * torch.eye(KEYS)
    kvb_HxC[0].zero_()
    kvb_HxC[0, :KEYS, :KEYS] = torch.eye(KEYS)
    value_vC = kvb_HxC[0, config.qk_nope_head_dim :]
    value_vC[:carried, :carried] = torch.eye(carried)
    out_Dx = attention.o_proj.weight
    out_Dx[:, : config.v_head_dim] = 0
    out_Dx[FOUND_KEY.start : FOUND_VALUE.stop, :carried] = FOUND * torch.eye(carried)


def _features_then_content(weight_xD: Tensor, features: slice, generator: torch.Generator) -> None:
    """Make the first outputs copies of some features, and the others random views of content."""
    weight_xD.zero_()
    count = features.stop - features.start
    weight_xD[:count, features] = torch.eye(count)
    content_xd = weight_xD[count:, CONTENT]
    content_xd.normal_(0, content_xd.shape[1] ** -0.5, generator=generator)


def _write_head(weight_VD: Tensor) -> None:
    """Let a needle's logit be the sum of the key and the value that were found."""
    for key in range(KEYS):
        for value in range(VALUES):
            row_D = weight_VD[needle_id(key, value)]
            row_D[FOUND_KEY][key] = row_D[FOUND_VALUE][value] = 1

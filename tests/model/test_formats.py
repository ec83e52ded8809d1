"""The stored forms that a `config.json` may declare, and those refused by name."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.model.config import ConfigError
from openk2.model.formats import Quantization, read_quantization
from tests.model.sparse_checkpoint import FP8, INT4

ALL_LINEAR = {**INT4, "ignore": [r"re:.*mlp\.gate$"]}
"""Every linear layer in INT4, the head included."""
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


def read(declared: object) -> str:
    return read_quantization({"quantization_config": declared}).form


def int4(place: str, **values: object) -> dict:
    """Return the published declaration with some values changed."""
    declared = copy.deepcopy(INT4)
    group = declared["config_groups"]["group_0"]
    {"top": declared, "group": group, "weights": group["weights"]}[place].update(values)
    return declared


def test_the_published_declarations_are_read():
    assert read(FP8) == "FP8"
    assert read({"quant_method": "fp8", "weight_block_size": [128, 128]}) == "FP8"
    assert read(INT4) == "INT4"
    assert read_quantization({}) == Quantization("BF16")
    assert read(ALL_LINEAR) == "INT4"
    assert read(None) == read({}) == "BF16"
    assert read_quantization({"compression_config": INT4}).form == "INT4"


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        *(({"quant_method": m}, [m]) for m in ("gptq", "awq", "bitsandbytes", "mxfp4", "modelopt")),
        ({"load_in_8bit": True}, ["quant_method None"]),
        ("fp8", ["must be a table"]),
        ([1], ["must be a table"]),
        ({"quant_method": ["fp8"]}, ["quant_method ['fp8']"]),
        ({"quant_method": "fp8"}, ["weight_block_size is None"]),
        ({**FP8, "weight_block_size": [64, 64]}, ["weight_block_size is [64, 64]"]),
        ({**FP8, "activation_scheme": "static"}, ["activation_scheme is 'static'"]),
        ({**FP8, "fmt": "e5m2"}, ["fmt is 'e5m2'"]),
        (int4("top", format="float-quantized"), ["format is 'float-quantized'"]),
        (int4("top", config_groups={}), ["config_groups"]),
        (int4("top", config_groups=[1]), ["config_groups"]),
        (int4("top", config_groups={"g": None}), ["config_groups.g"]),
        (int4("group", weights=None), ["config_groups.group_0", "weights"]),
        (int4("group", input_activations={"num_bits": 8}), ["group_0.input_activations"]),
        (int4("group", output_activations={}), ["group_0.output_activations"]),
        (int4("weights", num_bits=8), ["weights.num_bits is 8, not 4"]),
        (int4("weights", type="float"), ["weights.type"]),
        (int4("weights", symmetric=False), ["weights.symmetric"]),
        (int4("weights", symmetric=1), ["weights.symmetric"]),
        (int4("weights", strategy="channel"), ["weights.strategy"]),
        (int4("weights", group_size=128), ["weights.group_size is 128, not 32"]),
        (int4("weights", actorder="weight"), ["weights.actorder"]),
        (
            int4("top", config_groups={**INT4["config_groups"], "b": {"weights": {}}}),
            ["config_groups.b.weights.num_bits"],
        ),
    ],
)
def test_anything_else_is_refused_by_name_with_what_to_use(declared, words):
    with pytest.raises(ConfigError) as caught:
        read(declared)
    assert all(word in str(caught.value) for word in words), caught.value
    assert isinstance(declared, str | list) or "openk2 reads bfloat16, FP8" in str(caught.value)


@pytest.mark.parametrize("ignore", [None, 7, "lm_head", ["re:(a+)+$"], ["re:("], [[]], {"a": []}])
def test_what_is_ignored_is_never_interpreted(ignore):
    """The tensors themselves say which are packed: nobody's pattern is compiled."""
    assert read({**ALL_LINEAR, "ignore": ignore}) == "INT4"


@given(st.sampled_from(["top", "group", "weights"]), st.text(max_size=20), ANY_JSON)
def test_random_declarations_are_read_or_refused(place, name, value):
    for key in (name, *INT4, *INT4["config_groups"]["group_0"]["weights"]):
        try:
            read(int4(place, **{key: value}))
        except ConfigError as error:
            assert len(str(error)) < 1000

"""The shape of a model, under Hugging Face's field names.

In: a preset's name, a `config.json`, or field values. Out: a frozen, checked `K2Config`.
Must not know: tensors, training settings, or where weights are stored.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import reprlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, TypeVar

T = TypeVar("T")


class ConfigError(ValueError):
    """A model configuration that cannot be used; the message names the field."""


@dataclass(frozen=True, slots=True)
class YarnConfig:
    """YaRN context extension (arXiv 2309.00071); K2's betas 1/1 make its ramp a hard step."""

    factor: float
    """How many times longer the context becomes."""
    original_max_position_embeddings: int = 4096
    """Context length before the extension."""
    beta_fast: float = 1.0
    """Pairs that turn more often than this in the original context keep their frequency."""
    beta_slow: float = 1.0
    """Pairs that turn less often than this have it divided by the factor."""
    mscale: float = 1.0
    """Strength of the magnitude correction of cosines and sines."""
    mscale_all_dim: float = 1.0
    """Strength of the correction that divides it and whose square scales the softmax."""

    def __post_init__(self) -> None:
        """Refuse values that have no logarithm, or that divide by zero."""
        for name in ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"rope_scaling.{name} must be above 0, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class K2Config:
    """Architecture of a K2 / DeepSeek-V3 model; defaults are K2's published values."""

    vocab_size: int = 163840
    """Rows of embedding and head."""
    hidden_size: int = 7168
    """Width of the residual stream."""
    intermediate_size: int = 18432
    """Width of the dense feed-forward layers."""
    moe_intermediate_size: int = 2048
    """Width of one expert."""
    num_hidden_layers: int = 61
    """Layers, dense ones included."""
    num_attention_heads: int = 64
    """Attention heads; each has its own keys and values."""
    n_routed_experts: int = 384
    """Experts that the router chooses from, per layer."""
    n_shared_experts: int = 1
    """Experts that every token visits, stored as one wide one."""
    num_experts_per_tok: int = 8
    """Routed experts that a token visits."""
    n_group: int = 1
    """Groups of experts; 1 switches the limit below off."""
    topk_group: int = 1
    """Groups that a token may choose experts from."""
    norm_topk_prob: bool = True
    """Gate weights of a token are divided by their sum."""
    routed_scaling_factor: float = 2.827
    """Factor on the gate weights."""
    first_k_dense_replace: int = 1
    """The first layers have a dense feed-forward instead of experts."""
    q_lora_rank: int | None = 1536
    """None: queries are projected without a latent, as in Moonlight."""
    kv_lora_rank: int = 512
    """Width of the latent that keys and values are made from."""
    qk_nope_head_dim: int = 128
    """Unrotated width of one head's query and key."""
    qk_rope_head_dim: int = 64
    """Rotated width; its key is shared by all heads."""
    v_head_dim: int = 128
    """Width of one head's value."""
    rope_theta: float = 50000.0
    """Base of the rotary frequencies."""
    rope_scaling: YarnConfig | None = None
    """Context extension; None: none."""
    max_position_embeddings: int = 131072
    """Longest context."""
    rms_norm_eps: float = 1e-6
    """Added under the root of the layers' norms."""
    initializer_range: float = 0.02
    """Standard deviation of fresh weights."""
    bos_token_id: int | None = None
    """For readers of `config.json`; the model does not use it."""
    eos_token_id: int | None = None
    """For readers of `config.json`, and the first where that lists several; not used here."""
    pad_token_id: int | None = None
    """For readers of `config.json`; the model does not use it."""

    def __post_init__(self) -> None:
        """Refuse sizes that no model can have."""
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        _refuse_absurd(self)
        if self.q_lora_rank is not None and self.q_lora_rank < 1:
            raise ConfigError(f"q_lora_rank must be at least 1 or null, got {self.q_lora_rank}")
        if self.qk_rope_head_dim % 2:
            raise ConfigError(f"qk_rope_head_dim must be even, got {self.qk_rope_head_dim}")
        if not 0 <= self.first_k_dense_replace <= self.num_hidden_layers:
            raise ConfigError(
                "first_k_dense_replace must lie between 0 and num_hidden_layers "
                f"({self.num_hidden_layers}), got {self.first_k_dense_replace}"
            )
        if self.num_experts_per_tok > self.n_routed_experts:
            raise ConfigError(
                f"num_experts_per_tok ({self.num_experts_per_tok}) exceeds n_routed_experts "
                f"({self.n_routed_experts})"
            )
        if self.n_routed_experts % self.n_group or self.topk_group > self.n_group:
            raise ConfigError(
                f"n_group ({self.n_group}) must divide n_routed_experts ({self.n_routed_experts}) "
                f"and be at least topk_group ({self.topk_group})"
            )

    @property
    def qk_head_dim(self) -> int:
        """Width of one head's query and key."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def latent_dim(self) -> int:
        """Values cached per token and layer: the latent and the shared rotary key."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    @property
    def softmax_scale(self) -> float:
        """Scale of the attention logits, with YaRN's m² (as DeepSeek-V3's own code)."""
        scale = self.qk_head_dim**-0.5
        if self.rope_scaling is not None and self.rope_scaling.mscale_all_dim:
            scale *= yarn_mscale(self.rope_scaling.factor, self.rope_scaling.mscale_all_dim) ** 2
        return scale

    def to_dict(self) -> dict[str, Any]:
        """Return the `config.json` that transformers reads as DeepseekV3."""
        fields = dataclasses.asdict(self)
        if self.rope_scaling is not None:
            fields["rope_scaling"] = {"type": "yarn", **fields["rope_scaling"]}
        return {
            "architectures": ["DeepseekV3ForCausalLM"],
            "model_type": "deepseek_v3",
            **fields,
            **_FIXED,
            "num_key_value_heads": self.num_attention_heads,
            "num_nextn_predict_layers": 0,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, complete: bool = False) -> K2Config:
        """Read a Hugging Face `config.json`; keys that do not shape the model are ignored.

        Args:
            values: The keys and values.
            complete: Refuse a shape that is left open, which would become that of K2: programs
                fill gaps differently, and the weights belong to one of the answers.

        Raises:
            ConfigError: A value asks for an architecture that is not K2's, or one is missing.
        """
        model_type = values.get("model_type", "kimi_k2")
        if model_type not in ("kimi_k2", "deepseek_v3"):
            raise ConfigError(
                f"model_type {reprlib.repr(model_type)} is not kimi_k2 or deepseek_v3"
            )
        for name, expected in _FIXED.items():
            # transformers reads a null here as false: pairs that are not interleaved.
            allowed = (expected,) if name == "rope_interleave" else (expected, None)
            _require(values, name, allowed)
        _require(values, "partial_rotary_factor", (1, None))
        known = {f.name for f in dataclasses.fields(cls)}
        fields = {name: value for name, value in values.items() if name in known}
        rope = _rope_table(values)
        if complete:
            _refuse_gaps({*values, *(name for name in rope if name == "rope_theta")})
        fields["rope_theta"] = rope.pop("rope_theta", values.get("rope_theta", cls().rope_theta))
        fields["rope_scaling"] = _yarn_from_dict(rope, values)
        if isinstance(eos := fields.get("eos_token_id"), list):
            fields["eos_token_id"] = eos[0] if eos else None
        return _checked(cls, fields)


_POSITIVE = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "moe_intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "n_routed_experts",
    "n_shared_experts",
    "num_experts_per_tok",
    "n_group",
    "topk_group",
    "kv_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
    "max_position_embeddings",
)

_LARGEST = {
    "vocab_size": 1 << 24,
    "hidden_size": 1 << 18,
    "intermediate_size": 1 << 20,
    "moe_intermediate_size": 1 << 20,
    "num_hidden_layers": 1 << 12,
    "num_attention_heads": 1 << 12,
    "n_routed_experts": 1 << 16,
    "n_shared_experts": 1 << 8,
    "q_lora_rank": 1 << 18,
    "kv_lora_rank": 1 << 18,
    "qk_nope_head_dim": 1 << 14,
    "qk_rope_head_dim": 1 << 14,
    "v_head_dim": 1 << 14,
    "max_position_embeddings": 1 << 30,
}
"""Far above any model, so that a hostile file cannot ask for memory before its tensors are seen."""
_MOST_EXPERTS = 1 << 17
"""In all layers together: each is three names in every table of tensors. K2 has 23,040."""
LARGEST_NUMBER = 1e30

_FIXED_ROPE: dict[str, tuple[Any, ...]] = {
    "attention_factor": (None,),
    "truncate": (True,),
    "partial_rotary_factor": (1, None),
}
"""The first is what is computed, whatever a table says."""

_MAY_BE_LEFT_OUT = (
    *("rope_scaling", "rms_norm_eps", "initializer_range"),
    *("bos_token_id", "eos_token_id", "pad_token_id"),
)
"""Absent: no context extension, transformers' own defaults, or unused. All else is the shape."""

_FIXED: dict[str, Any] = {
    "attention_bias": False,
    "hidden_act": "silu",
    "moe_layer_freq": 1,
    "rope_interleave": True,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "topk_method": "noaux_tc",
}


def _refuse_absurd(config: K2Config) -> None:
    for name, largest in _LARGEST.items():
        if (getattr(config, name) or 0) > largest:
            raise ConfigError(f"{name} must be at most {largest}, got {getattr(config, name)}")
    experts = config.num_hidden_layers * config.n_routed_experts
    if experts > _MOST_EXPERTS:
        raise ConfigError(
            f"num_hidden_layers times n_routed_experts must be at most {_MOST_EXPERTS}, "
            f"got {experts}"
        )
    if not config.rope_theta > 1:
        raise ConfigError(f"rope_theta must be above 1, got {config.rope_theta}")
    if not config.rms_norm_eps >= 0:
        raise ConfigError(f"rms_norm_eps must not be negative, got {config.rms_norm_eps}")


def _require(
    values: Mapping[str, Any], name: str, allowed: tuple[Any, ...], where: str = ""
) -> None:
    if name in values and values[name] not in allowed:
        raise ConfigError(
            f"{where}{name} = {reprlib.repr(values[name])} is not supported, only {allowed[0]!r}"
        )


def _refuse_gaps(given: set[str]) -> None:
    needed = [f.name for f in dataclasses.fields(K2Config) if f.name not in _MAY_BE_LEFT_OUT]
    missing = [name for name in needed if name not in given]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: "
            "take the file that was published with the weights"
        )


def yarn_mscale(factor: float, mscale: float) -> float:
    """Return YaRN's attention magnitude `0.1 * mscale * ln(factor) + 1`."""
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def _rope_table(values: Mapping[str, Any]) -> dict[str, Any]:
    tables: list[Mapping[str, Any]] = []
    for name in ("rope_parameters", "rope_scaling"):  # transformers' new and old spelling
        if table := values.get(name):
            if not isinstance(table, Mapping):
                raise ConfigError(f"{name} must be a table, got {reprlib.repr(table)}")
            tables.append(table)
    if len(tables) == 2 and tables[0] != tables[1]:
        raise ConfigError("rope_parameters and rope_scaling are both given and differ")
    return dict(tables[0]) if tables else {}


def _yarn_from_dict(rope: Mapping[str, Any], outside: Mapping[str, Any]) -> YarnConfig | None:
    """Read the table; its defaults are those of transformers' `modeling_rope_utils`."""
    for name, allowed in _FIXED_ROPE.items():
        _require(rope, name, allowed, "rope_scaling.")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind in ("default", None):
        return None
    if kind != "yarn":
        raise ConfigError(f"rope_scaling type {reprlib.repr(kind)} is not supported, only 'yarn'")
    if "factor" not in rope:
        raise ConfigError("rope_scaling has type 'yarn' and no factor")
    original = "original_max_position_embeddings"
    context = outside.get("max_position_embeddings", K2Config().max_position_embeddings)
    defaults = {"beta_fast": 32.0, "beta_slow": 1.0, "mscale": 0.0, "mscale_all_dim": 0.0}
    # A null is a default, and what stands outside the table counts before what it says.
    said = {name: rope[name] for name in rope if name not in defaults or rope[name] is not None}
    said |= {original: outside[original]} if original in outside else {}
    known = {f.name for f in dataclasses.fields(YarnConfig)}
    fields = {original: context, **defaults, **said}
    chosen = {name: value for name, value in fields.items() if name in known}
    return _checked(YarnConfig, chosen, "rope_scaling.")


def _checked(cls: type[T], fields: Mapping[str, Any], where: str = "") -> T:
    """Build a config dataclass from untrusted values, naming the field that has a wrong type."""
    for field in dataclasses.fields(cls):  # pyright: ignore[reportArgumentType]
        value = fields.get(field.name)
        if field.name not in fields or field.name == "rope_scaling":
            continue
        name = where + field.name
        optional = "None" in str(field.type)
        kinds = {"int": int, "bool": bool, "float": (int, float)}
        expected = kinds[str(field.type).split(" ")[0]]
        is_bool_for_number = isinstance(value, bool) and expected is not bool
        if value is None and optional:
            continue
        if value is None or not isinstance(value, expected) or is_bool_for_number:
            raise ConfigError(f"{name} must be {field.type}, got {reprlib.repr(value)}")
        if not -LARGEST_NUMBER < value < LARGEST_NUMBER:  # neither is NaN
            raise ConfigError(f"{name} must be an ordinary number, got {reprlib.repr(value)}")
    return cls(**fields)


PRESETS = ("nano", "small", "k2")


def preset(name: str) -> K2Config:
    """Load a shipped shape: `nano`, `small` or `k2`.

    Raises:
        ConfigError: No such preset, or it has a key that `K2Config` does not.
    """
    if name not in PRESETS:
        nearest = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"choose from {', '.join(PRESETS)}"
        raise ConfigError(f"no model preset {name!r}; {hint}")
    text = resources.files("openk2.model").joinpath("presets", f"{name}.toml").read_text("utf-8")
    values = tomllib.loads(text)
    known = [f.name for f in dataclasses.fields(K2Config)]
    for key in values:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1)
            raise ConfigError(f"preset {name!r}: unknown key {key!r}, nearest is {nearest}")
    return K2Config.from_dict(values)

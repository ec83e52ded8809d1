from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openk2.config import ConfigError, field_help, from_mapping, load, to_mapping


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    """How fast.

    In two parts.
    """
    betas: tuple[float, float] = (0.9, 0.95)
    kind: Literal["cosine", "linear"] = "cosine"

    def __post_init__(self):
        if self.rate < 0:
            raise ValueError("rate is negative")


@dataclass(frozen=True)
class Outer:
    steps: int
    """How long."""
    name: str = "x"
    out: Path = Path("out")
    limit: float | None = None
    loud: bool = False
    weights: dict[str, float] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    """The inside."""


def write(tmp_path, text):
    path = tmp_path / "c.toml"
    path.write_text(text)
    return path


def test_a_file_becomes_nested_dataclasses(tmp_path):
    path = write(
        tmp_path,
        'steps = 3\nout = "a/b"\nlimit = 2\n[weights]\na = 1\n[inner]\nbetas = [1, 0.5]\n',
    )
    config = load(Outer, path)
    assert config == Outer(
        3, out=Path("a/b"), limit=2.0, weights={"a": 1.0}, inner=Inner(betas=(1.0, 0.5))
    )
    assert isinstance(config.weights["a"], float)


def test_overrides_win_and_reach_into_tables(tmp_path):
    path = write(tmp_path, "steps = 3\nlimit = 1.0\n")
    config = load(
        Outer,
        path,
        ["steps=5", "inner.rate = 0.25", "inner.kind=linear", "weights.b=2", "limit=none"],
    )
    assert (config.steps, config.inner.rate, config.inner.kind) == (5, 0.25, "linear")
    assert config.weights == {"b": 2.0}
    assert config.limit is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["step=5"], "unknown setting `step`: did you mean `steps`?"),
        (["steps=1", "inner.rat=5"], "unknown setting `inner.rat`: did you mean `inner.rate`?"),
        (["steps=1", "zzz=5"], "known here are inner, limit"),
        (["steps=true"], "`steps` is True (bool); it must be int"),
        (["steps=1.5"], "`steps` is 1.5 (float); it must be int"),
        (["steps=1", "loud=1"], "`loud` is 1 (int); it must be bool"),
        (["steps=1", "inner.kind=sine"], "must be one of ['cosine', 'linear']"),
        (["steps=1", "inner=3"], "`inner` is 3; it must be a table"),
        (["steps=1", "inner.betas=3"], "`inner.betas` is 3; it must be a list"),
        (["steps=1", "inner.betas=[1, 'a']"], "`inner.betas[1]` is 'a' (str)"),
        (["steps=1", "inner.betas=[1]"], "`inner.betas` has 1 values; it must have 2"),
        (["steps=1", "weights=[1]"], "`weights` is [1]; it must be a table"),
        (["steps=1", "weights.a='b'"], "`weights.a` is 'b' (str); it must be float"),
        (["steps=1", "limit=[]"], "`limit` is [] (list); it must be float"),
        (["steps=1", "inner.rate=-1"], "`inner`: rate is negative"),
        (["steps=1", "steps.a=1"], "`steps` is a value, not a table"),
        (["steps"], "'steps' is not of the form key.key=value"),
        (["a..b=1"], "is not of the form key.key=value"),
        ([], "`steps` is not set and has no default"),
    ],
)
def test_a_wrong_setting_is_named(overrides, message):
    with pytest.raises(ConfigError) as caught:
        load(Outer, None, overrides)
    assert message in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*none\.toml"):
        load(Outer, tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"c\.toml is not valid TOML"):
        load(Outer, write(tmp_path, "steps ="))


def test_help_is_the_string_under_each_field():
    assert field_help(Outer) == {
        "steps": "How long.",
        "inner": "The inside.",
        "inner.rate": "How fast.\n\nIn two parts.",
    }


@given(
    st.builds(
        Outer,
        steps=st.integers(),
        name=st.text(),
        limit=st.none() | st.floats(allow_nan=False),
        loud=st.booleans(),
        weights=st.dictionaries(st.text(), st.floats(allow_nan=False)),
        inner=st.builds(Inner, rate=st.floats(0, 1), kind=st.sampled_from(["cosine", "linear"])),
    )
)
def test_to_mapping_and_back(config):
    assert from_mapping(Outer, to_mapping(config)) == config

"""What is compiled ahead is what an engine runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from openk2.engine.compiling import DRAWS, compiling_ahead

AHEAD = """
import sys
from openk2.engine.compiling import load_draws
load_draws()
assert "torch" not in sys.modules, "the processes that compile would import torch"

from pathlib import Path
import openk2
from openk2.engine.loading import load_engine
from openk2.engine.burst import repeat
from openk2.engine.draw import sample_rows
from openk2.types import Sampling

model = Path(openk2.__file__).parent / "assets" / "nano"
engine = load_engine(model, stop_ids=frozenset(), vocab_size=8192, max_batch=2, context=512).engine
for sampling in (
    Sampling(temperature=0, max_tokens=20),
    Sampling(temperature=1, top_p=0.9, frequency_penalty=0.5, top_logprobs=2, max_tokens=20),
):
    assert len(list(engine.generate(tuple(range(300, 340)), sampling))) == 20
print(len(sample_rows.signatures), len(repeat.signatures))
"""


def test_an_engine_compiles_nothing_that_was_not_compiled_ahead():
    done = subprocess.run(
        [sys.executable, "-c", AHEAD], stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout.split() == ["1", "1"]


def test_the_user_is_told_why_a_start_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    told: list[str] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache").write_text("a file where the directory should be", "utf-8")
    with compiling_ahead(told.append, kernels=False):
        pass
    (tmp_path / "cache").unlink()
    with compiling_ahead(told.append, kernels=False):
        pass
    with DRAWS.turn():
        pass
    with compiling_ahead(told.append, kernels=False):
        pass
    assert ["XDG_CACHE_HOME" in line for line in told] == [True, False]

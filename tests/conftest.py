"""What holds for every test: no deadlines, no files left in the tree, GPU tests only with a GPU."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

# Examples that failed are remembered, but not inside the repository.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / f"openk2-hypothesis-{os.getuid()}")
settings.register_profile("openk2", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("openk2")

# The servers under test listen on this machine: a proxy of the user's cannot reach them.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost,::1"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write golden files anew instead of comparing"
    )


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Tell whether golden files are to be written anew."""
    return bool(request.config.getoption("--update-golden"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")

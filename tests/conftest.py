"""What holds for every test: no deadlines, no files left in the tree, GPU tests only with a GPU."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

from tests import parity

# Examples that failed are remembered, but not inside the repository.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / f"openk2-hypothesis-{os.getuid()}")
settings.register_profile("openk2", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("openk2")

# The servers under test listen on this machine: a proxy of the user's cannot reach them.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost,::1"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile the kernels once, before many processes want them at the same time."""
    if not hasattr(session.config, "workerinput") and not session.config.option.collectonly:
        from openk2.kernels.cpu.build import kernels
        from openk2.kernels.repack import load_repack

        kernels()
        load_repack()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write golden files anew instead of comparing"
    )
    parser.addoption(
        "--update-parity", action="store_true", help="write docs/reference/parity.md if all pass"
    )


PARITY = pytest.StashKey[list[parity.Row]]()


@pytest.hookimpl(tryfirst=True)  # before slow tests are left out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    config.stash[PARITY] = parity.rows(items)


@pytest.fixture
def parity_rows(request: pytest.FixtureRequest) -> list[parity.Row]:
    """Return the rows of all marked tests that were collected, slow ones included."""
    return request.config.stash[PARITY]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if session.config.getoption("--update-parity"):
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        skipped = reporter.stats.get("skipped") if reporter else None
        if exitstatus or skipped:
            raise pytest.UsageError("a parity test failed or was skipped: the page stays as it is")
        parity.PAGE.write_text(parity.page(session.config.stash[PARITY]), "utf-8")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Tell whether golden files are to be written anew."""
    return bool(request.config.getoption("--update-golden"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")

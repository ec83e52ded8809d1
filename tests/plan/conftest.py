from __future__ import annotations

import pytest

from openk2.model.config import K2Config, preset
from openk2.plan.counts import Census, count


@pytest.fixture(scope="session")
def k2() -> K2Config:
    return preset("k2")


@pytest.fixture(scope="session")
def census(k2: K2Config) -> Census:
    return count(k2)

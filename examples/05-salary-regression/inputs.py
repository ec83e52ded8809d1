"""130,000 made-up salaries, in which seniority drives both pay and remote work.

A plain comparison of means therefore overstates what remote work does.

In: a folder and a seed. Out: `salaries.csv` (9 MB; written at run time, never kept).
Must not know: how the effects are estimated or checked.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

FILES = ("salaries.csv",)
ROWS = 130_000
SEED = 29
"""Of the people that are drawn."""

EXPERIENCE = {"entry": 0.0, "mid": 0.22, "senior": 0.45, "executive": 0.75}
"""What a level adds to the logarithm of a salary."""
FAMILY = {"analytics": 0.0, "engineering": 0.16, "research": 0.21, "management": 0.27}
REGION = {"Asia": 0.0, "Europe": 0.18, "North America": 0.46}
SIZE = {"small": 0.0, "medium": 0.05, "large": 0.09}
REMOTE = {0: 0.0, 50: -0.02, 100: 0.04}
"""What a share of remote work does to it: a loss where half is remote, a gain where all is."""
REMOTE_BY_EXPERIENCE = {
    "entry": (0.66, 0.20, 0.14),
    "mid": (0.50, 0.22, 0.28),
    "senior": (0.33, 0.22, 0.45),
    "executive": (0.24, 0.18, 0.58),
}
"""How likely each share is."""
HEADER = "year,experience,job_family,region,company_size,remote_share,salary_usd"


def make(workspace: Path, seed: int = SEED) -> None:
    """Write `salaries.csv`, one row per person."""
    draw = np.random.default_rng(seed)
    experience = draw.choice(list(EXPERIENCE), ROWS, p=[0.2, 0.35, 0.33, 0.12])
    family = draw.choice(list(FAMILY), ROWS, p=[0.3, 0.4, 0.12, 0.18])
    region = draw.choice(list(REGION), ROWS, p=[0.3, 0.3, 0.4])
    size = draw.choice(list(SIZE), ROWS, p=[0.25, 0.45, 0.3])
    year = draw.integers(2021, 2026, ROWS)
    remote = np.zeros(ROWS, dtype=int)
    for level, odds in REMOTE_BY_EXPERIENCE.items():
        there = experience == level
        remote[there] = draw.choice(list(REMOTE), int(there.sum()), p=odds)
    level = sum(
        np.vectorize(effects.get, otypes=[float])(column)
        for effects, column in (
            (EXPERIENCE, experience),
            (FAMILY, family),
            (REGION, region),
            (SIZE, size),
            (REMOTE, remote),
        )
    )
    # Pay is more uneven the higher it is: ordinary standard errors would be too small.
    spread = 0.20 + 0.14 * level
    log_salary = 10.55 + 0.03 * (year - 2021) + level + draw.normal(0, spread)
    salary = np.round(np.exp(log_salary), -1).astype(int)
    columns = (year, experience, family, region, size, remote, salary)
    lines = (",".join(map(str, row)) for row in zip(*columns, strict=True))
    (workspace / "salaries.csv").write_text(HEADER + "\n" + "\n".join(lines) + "\n", "utf-8")

"""What verifiers share: checks with a name and a reason, numbers in prose, pictures, LaTeX.

In: artefacts that a model made, which may be missing, broken or hostile. Out: a list of checks.
Must not know: any one scenario, or how the artefacts came to be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

NUMBER = re.compile(r"(?<![\w.])[-−+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?|(?<![\w.])[-−+]?\d+(?:\.\d+)?")
MOST_BYTES = 32 << 20  # an interactive chart carries a 5 MB library; nothing needs more than this


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold of the artefacts."""

    name: str
    ok: bool
    why: str
    """What was seen: evidence where it holds, what to change where it does not."""


class Wrong(Exception):
    """A check does not hold; the message says what was expected and what was found."""


def require(condition: object, why: str) -> None:
    """Go on only if the condition holds.

    Raises:
        Wrong: It does not.
    """
    if not condition:
        raise Wrong(why)


def judge(workspace: Path, checks: Iterable[Callable[[Path], str]]) -> list[Check]:
    """Run every check; a function's name is what it checks, what it returns is the evidence.

    Args:
        workspace: The folder in which the agent worked.
        checks: Functions that return evidence, or raise.
    """
    verdicts: list[Check] = []
    for check in checks:
        name = check.__name__.replace("_", " ")
        try:
            verdicts.append(Check(name, True, check(workspace)))
        except Wrong as wrong:
            verdicts.append(Check(name, False, str(wrong)))
        except Exception as error:  # noqa: BLE001 - whatever a broken artefact raises is a verdict
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            verdicts.append(Check(name, False, reason))
    return verdicts


def unchanged(workspace: Path, names: Sequence[str], make: Callable[[Path], None]) -> str:
    """Compare the inputs in the workspace with the ones that the seed gives.

    Raises:
        Wrong: One is missing or was edited: facts recomputed from it would prove nothing.
    """
    import tempfile

    with tempfile.TemporaryDirectory() as fresh:
        make(Path(fresh))
        for name in names:
            given, here = Path(fresh) / name, workspace / name
            require(here.is_file(), f"{name} is gone")
            require(given.read_bytes() == here.read_bytes(), f"{name} was edited")
    return f"{', '.join(names)} as generated"


def read_text(workspace: Path, name: str) -> str:
    """Read an artefact as UTF-8.

    Raises:
        Wrong: It is missing, a link, empty, or far too large.
    """
    path = workspace / name
    require(path.is_file() and not path.is_symlink(), f"there is no file {name}")
    size = path.stat().st_size
    require(0 < size <= MOST_BYTES, f"{name} has {size} bytes")
    return path.read_text(encoding="utf-8")


def read_json(workspace: Path, name: str) -> dict[str, Any]:
    """Read an artefact that holds one JSON object.

    Raises:
        Wrong: It is not one.
    """
    import json

    value = json.loads(read_text(workspace, name))
    require(isinstance(value, dict), f"{name} is not a JSON object")
    return value


def numbers(text: str) -> list[float]:
    """Find the numbers of a text; thousands may be set off by commas."""
    return [float(found.replace(",", "").replace("−", "-")) for found in NUMBER.findall(text)]


def close(found: object, expected: float, tolerance: float) -> bool:
    """Compare a number from an artefact, relative to the expected one."""
    if isinstance(found, bool) or not isinstance(found, int | float):
        return False
    return abs(found - expected) <= tolerance * max(abs(expected), 1e-12)


def require_close(what: str, found: object, expected: float, tolerance: float = 0.005) -> None:
    """Go on only if a number is the expected one.

    Raises:
        Wrong: It is not; the message has both.
    """
    require(close(found, expected, tolerance), f"{what} is {found!r}, expected {expected:.6g}")


def require_number(text: str, what: str, expected: float, within: float) -> None:
    """Go on only if a text says a number, within an absolute tolerance.

    Raises:
        Wrong: No number of the text is near.
    """
    near = any(abs(number - expected) <= within for number in numbers(text))
    require(near, f"the text never says {what} ({expected:,.6g})")


def require_words(text: str, where: str, *choices: str) -> None:
    """Go on only if a text has one of the words, in any case.

    Raises:
        Wrong: It has none.
    """
    low = text.lower()
    found = any(word.lower() in low for word in choices)
    require(found, f"{where} has none of: {', '.join(choices)}")


def picture(workspace: Path, name: str, width: int = 800, height: int = 400) -> np.ndarray:
    """Read a PNG as values between 0 and 1, rows first, and look whether something is drawn.

    Raises:
        Wrong: It is missing, too small, or almost one colour.
    """
    from matplotlib.image import imread

    path = workspace / name
    require(path.is_file() and not path.is_symlink(), f"there is no picture {name}")
    pixels = np.asarray(imread(path), dtype=float)[..., :3]
    require(
        pixels.shape[1] >= width and pixels.shape[0] >= height,
        f"{name} is {pixels.shape[1]}x{pixels.shape[0]}, expected at least {width}x{height}",
    )
    background = np.median(pixels.reshape(-1, 3), axis=0)
    drawn = float((np.abs(pixels - background).max(axis=-1) > 0.08).mean())
    require(drawn > 0.01, f"{name} is blank: {drawn:.2%} of it differs from its background")
    return pixels


def hues(pixels: np.ndarray, chroma: float = 0.25) -> np.ndarray:
    """Return the hues, in degrees, of the pixels that have a colour at all."""
    flat = pixels.reshape(-1, 3)
    most, least = flat.max(axis=1), flat.min(axis=1)
    coloured = flat[most - least > chroma]
    if not len(coloured):
        return np.zeros(0)
    red, green, blue = coloured.T
    most, span = coloured.max(axis=1), np.ptp(coloured, axis=1)
    angle = np.where(
        most == red,
        (green - blue) / span % 6,
        np.where(most == green, (blue - red) / span + 2, (red - green) / span + 4),
    )
    return angle * 60

"""Which domains there are, and which are kept from training.

In: a name. Out: its `Domain`. Must not know: what is in one.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache

from openk2.envs import domains
from openk2.envs.domain import Domain

HELD_OUT = ("clinic", "hotels", "library", "rentals")
"""Whole domains that are measured on and never trained on, variants included."""


@cache
def names() -> tuple[str, ...]:
    """Return the names of the hand-written domains."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(domains.__path__)))


@cache
def domain(name: str) -> Domain:
    """Return a hand-written domain.

    Raises:
        KeyError: There is none of that name; the message names the nearest.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0)[0]
        raise KeyError(f"there is no domain {name!r}: did you mean {near!r}?")
    return importlib.import_module(f"{domains.__name__}.{name}").DOMAIN

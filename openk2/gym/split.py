"""Which keys practice never sees, for families that draw without end.

In: a key. Out: its side. Must not know: any one family.
"""

from __future__ import annotations

from openk2.gym.problem import HELD_OUT_SHARE
from openk2.text.corpus import held_out as held_out_key


def on_side(key: str, unseen: bool, share: float = HELD_OUT_SHARE) -> bool:
    """Tell whether a key is on the side that was asked for.

    Args:
        key: What the split keeps together.
        unseen: Ask for the side that practice never sees.
        share: Of all keys that are there; a family of few keys needs a larger one.
    """
    return held_out_key(key, share) == unseen

"""Other weights for a running engine: the policy that learns, or a newer release.

In: a runner and named tensors, all of them, one at a time. Out: a runner that computes with them.
Must not know: requests, caches, or where the tensors come from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Literal, Protocol, cast, runtime_checkable

from torch import Tensor

from openk2.engine.request import EngineError
from openk2.engine.runner import Runner
from openk2.model.replace import CannotReplaceError, Places

Weights = Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]
"""The tensors of `Transformer.state_dict()`: all at hand, or each read when its turn comes."""
InFlight = Literal["keep", "reread"]
"""What becomes of requests that run while weights are replaced. keep: they go on over the latents
that the old weights computed; nothing is delayed, and their next tokens are of neither model
alone. reread: they read their prompt and their answer so far again; what follows is exactly the new
model's, and waits for the reading."""


@runtime_checkable
class ReplaceableRunner(Runner, Protocol):
    """A runner whose weights can be written over."""

    def places(self) -> Places:
        """Return where it holds each tensor.

        Raises:
            CannotReplaceError: Its weights are not in memory.
        """
        ...


class MixedWeightsError(EngineError):
    """Some weights are new and others old, so that nothing sensible can be computed."""

    def __init__(self) -> None:
        """Say what to do."""
        super().__init__(
            "replacing the weights failed half-way, so that some are new and others old: replace "
            "all of them again, or open the model anew"
        )


def places_of(runner: Runner) -> Places:
    """Return where a runner holds each tensor.

    Raises:
        CannotReplaceError: It cannot say, or its weights are not in memory.
    """
    if not isinstance(runner, ReplaceableRunner):
        raise CannotReplaceError(f"{type(runner).__name__} cannot take other weights")
    return runner.places()


def write(places: Places, weights: Weights) -> None:
    """Write every tensor to its place.

    Raises:
        CannotReplaceError: A tensor is unknown, of another shape, comes twice, or is missing;
            nothing was written.
        MixedWeightsError: It went wrong after the first one, which a mapping never does for the
            reasons above; the cause says how.
    """
    missing = set(places)
    if isinstance(weights, Mapping):
        all_at_hand = cast("Mapping[str, Tensor]", weights)
        for name, value in all_at_hand.items():
            _check(places, missing, name, tuple(value.shape))
        _check_all(places, missing - set(all_at_hand))
        weights = all_at_hand.items()
    try:
        for name, value in weights:
            _check(places, missing, name, tuple(value.shape))
            places[name].write(value)
            missing.remove(name)
        _check_all(places, missing)
    except Exception as error:
        if len(missing) == len(places):
            raise
        raise MixedWeightsError from error


def _check(places: Places, missing: set[str], name: str, shape: tuple[int, ...]) -> None:
    if name not in places:
        raise CannotReplaceError(f"the served model has no tensor {name}: it is another model")
    if name not in missing:
        raise CannotReplaceError(f"{name} came twice")
    if shape != places[name].shape:
        raise CannotReplaceError(
            f"{name} is {list(shape)} and the served model's {list(places[name].shape)}: it is "
            "another model"
        )


def _check_all(places: Places, missing: Collection[str]) -> None:
    if missing:
        raise CannotReplaceError(
            f"{len(missing)} of {len(places)} tensors did not come, {min(missing)} for example"
        )

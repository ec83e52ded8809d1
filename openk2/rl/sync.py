"""The learned weights into the engine that rolls out, in place and while its streams run.

In: a model in training, and an engine of the same shape. Out: the engine with those weights, and
the seconds that its streams stood still. Must not know: how either computes, or why it is time.
"""

from __future__ import annotations

import time

from openk2.engine.engine import Engine
from openk2.engine.replace import InFlight, Weights
from openk2.engine.thread import EngineThread
from openk2.kernels.repack import load_repack
from openk2.model.transformer import Transformer


def push(
    model: Transformer,
    engine: Engine | EngineThread,
    *,
    version: int | None = None,
    in_flight: InFlight = "keep",
) -> float:
    """Write a model's weights over an engine's and return how long its streams waited, in seconds.

    They are rounded as the engine's directory stores them: to bfloat16, or to INT4 with the scales
    that training with rounded weights uses (amax / 7). Prefixes that the old weights computed are
    not used again. With an `EngineThread` it happens between two steps; the caller waits for it.

    Args:
        model: Not trained meanwhile; of the engine's configuration.
        engine: An `Engine` only on the thread that steps it.
        version: What tokens say from now on; None is one more than before.
        in_flight: What running requests go on with: see `InFlight`.

    Raises:
        CannotReplaceError: The model is of another shape; the engine goes on as before.
        MixedWeightsError: It failed half-way: requests fail until a push succeeds.
    """
    return replace(model.state_dict(), engine, version=version, in_flight=in_flight)


def replace(
    weights: Weights,
    engine: Engine | EngineThread,
    *,
    version: int | None = None,
    in_flight: InFlight = "keep",
) -> float:
    """Do what `push` does with tensors from anywhere, under the names of a model's `state_dict`."""
    load_repack()  # the first time ever it compiles: not while streams wait

    def write(engine: Engine) -> float:
        began = time.perf_counter()
        engine.replace_weights(weights, version=version, in_flight=in_flight)
        return time.perf_counter() - began

    if isinstance(engine, Engine):
        return write(engine)
    return engine.between_steps(write).result()

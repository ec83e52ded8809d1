"""What K2's vendor verifier asks of any answer: was a tool called where one should be, and validly.

In: a case that knows whether a call is right, an answer. Out: `tp`, `fp`, `fn` and whether the
calls obey their schemas.
Must not know: whether the arguments are right.

`tool_call_f1` is the harmonic mean of precision and recall of the decision to call;
`schema_accuracy` the share of answers with calls whose calls all name a tool that there is, with
arguments that are JSON and obey its schema (github.com/MoonshotAI/K2-Vendor-Verifier).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import jsonschema_rs

from openk2.evals.ast_match import Call
from openk2.evals.benchmark import Answer, Case, Means, Scores
from openk2.types import ToolCall, ToolSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


FAILED: Scores = {"tp": 0.0, "fp": 0.0, "fn": 0.0}
"""Of a question that was not answered: no decision, as the verifier leaves it out."""


def decision_scores(case: Case, answer: Answer, *, should_call: bool) -> Scores:
    """Score the decision of the first turn, and its calls against their schemas.

    Args:
        case: With its tools.
        answer: The model's.
        should_call: Whether a call is right here.
    """
    calls = answer.messages[0].tool_calls if answer.messages else ()
    called = bool(calls)
    scores = {
        "tp": float(called and should_call),
        "fp": float(called and not should_call),
        "fn": float(should_call and not called),
    }
    if called:
        scores["schema_accuracy"] = float(all(valid_call(call, case.tools) for call in calls))
    return scores


def valid_call(call: ToolCall, tools: Sequence[ToolSpec]) -> bool:
    """Tell whether a call names one of the tools and its arguments obey the tool's schema."""
    named = decoded(call)
    spec = next((tool for tool in tools if tool.name == call.name), None)
    if named is None or spec is None:
        return False
    return jsonschema_rs.is_valid(dict(spec.parameters), dict(named[1]))


def decoded(call: ToolCall) -> Call | None:
    """Return a call's name and arguments; None if the arguments are no JSON object."""
    try:
        arguments: Any = json.loads(call.arguments)
    except ValueError:
        return None
    return (call.name, cast(dict[str, Any], arguments)) if isinstance(arguments, dict) else None


def decoded_all(calls: Sequence[ToolCall]) -> list[Call] | None:
    """Return all calls; None if one cannot be read, as an answer is then none to a program."""
    found = [decoded(call) for call in calls]
    whole = [call for call in found if call is not None]
    return whole if len(whole) == len(found) else None


def _precision(means: Means) -> NDArray[np.float64]:
    return means["tp"] / (means["tp"] + means["fp"])


def _recall(means: Means) -> NDArray[np.float64]:
    return means["tp"] / (means["tp"] + means["fn"])


def _f1(means: Means) -> NDArray[np.float64]:
    return 2 * means["tp"] / (2 * means["tp"] + means["fp"] + means["fn"])


DERIVED: Mapping[str, Callable[[Means], NDArray[np.float64]]] = {
    "tool_call_precision": _precision,
    "tool_call_recall": _recall,
    "tool_call_f1": _f1,
}

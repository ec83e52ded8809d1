from collections import Counter

from openk2.text.conversations import Conversation, problem
from openk2.text.sessions import REQUESTS, TOOLS, sessions
from openk2.types import Message, ToolCall, ToolSpec

TOOL_SPECS = [ToolSpec(f"tool_{i}") for i in range(8)]


def single(number: int) -> Conversation:
    """One request in eight is refused, the others call one of eight tools."""
    tool = TOOL_SPECS[number % 8]
    request = Message("user", f"request {number}")
    if number % 8 == 7:
        answer = Message("assistant", "I cannot.")
    else:
        answer = Message("assistant", tool_calls=(ToolCall("c1", tool.name, "{}"),))
    return Conversation((request, answer), (tool, TOOL_SPECS[(number + 1) % 8]), "t", str(number))


SINGLES = [single(number) for number in range(400)]


def test_sessions_are_sound_and_within_their_sizes():
    made = list(sessions(SINGLES, seed=0))
    assert len(made) == 350 * 2 // sum(REQUESTS)
    for session in made:
        assert problem(session) is None
        requests = [m for m in session.messages if m.role == "user"]
        assert REQUESTS[0] <= len(requests) <= REQUESTS[1] + 1  # and one refusal
        assert 1 <= len(session.tools) <= TOOLS[1]


def test_every_request_keeps_its_own_answer():
    answers = {s.messages[0].content: s.messages[1] for s in SINGLES}
    for session in sessions(SINGLES, seed=1):
        for request, answer in zip(session.messages, session.messages[1:], strict=False):
            if request.role == "user":
                gold = answers[request.content]
                assert answer.content == gold.content
                assert [c.name for c in answer.tool_calls] == [c.name for c in gold.tool_calls]


def test_refusals_are_asked_beside_tools_and_seeds_differ():
    made = list(sessions(SINGLES, seed=2))
    said = Counter(m.content for session in made for m in session.messages)
    assert 0 < said["I cannot."] < len(made)
    assert made == list(sessions(SINGLES, seed=2)) != list(sessions(SINGLES, seed=3))

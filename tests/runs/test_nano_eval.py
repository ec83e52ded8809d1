import pytest

from openk2.types import Message, ToolCall, ToolSpec
from runs.nano_eval import Question, Score, grade, same_arguments


def call(arguments: str, name: str = "f") -> ToolCall:
    return ToolCall("c", name, arguments)


@pytest.mark.parametrize(
    ("gold", "given", "same"),
    [
        ('{"a": 1, "b": "x"}', '{"b":"x","a":1}', True),
        ('{"a": 1}', '{"a": true}', False),
        ('{"a": 1}', '{"a": "1"}', False),
        ('{"a": ["x", "y"]}', '{"a": ["y", "x"]}', False),
        ("{}", "{", False),
    ],
)
def test_arguments_are_compared_as_json_values(gold, given, same):
    assert same_arguments(call(gold), call(given)) is same


def graded(gold: tuple[ToolCall, ...], given: tuple[ToolCall, ...]) -> Score:
    score = Score()
    grade(score, Question((Message("user", "x"),), (ToolSpec("f"),), gold), given)
    return score


def test_every_parallel_call_must_be_right():
    gold = (call('{"a": 1}'), call('{"a": 2}'))
    assert graded(gold, gold).both == 1
    assert graded(gold, gold[:1]).name == 0
    half_right = graded(gold, (gold[0], call('{"a": 3}')))
    assert (half_right.name, half_right.both, half_right.questions) == (1, 0, 1)


def test_calling_where_nothing_should_be_called_costs():
    assert graded((), ()).rightly_silent == 1
    called = graded((), (call("{}"),))
    assert (called.without_call, called.rightly_silent, called.questions) == (1, 0, 0)


def test_a_call_without_arguments_is_not_counted_as_copying():
    score = graded((call("{}"),), (call("{}"),))
    assert (score.both, score.with_arguments, score.both_with_arguments) == (1, 0, 0)

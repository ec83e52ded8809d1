"""Synthetic conversations that teach copying values from a request into a tool call.

A small model learns tool names within minutes but guesses argument values; here every value is
drawn evenly from tens of thousands, so only reading it from the request can be right.

In: a word bank and a seed. Out: conversations in the nouns of `openk2.types`.
Must not know: tokens, files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from openk2.text.conversations import Conversation, as_json
from openk2.text.copy_documents import draw_record
from openk2.text.copy_phrases import Lang
from openk2.text.copy_tools import Draw, Parameter, Tool, draw_tool, draw_tools
from openk2.text.copy_values import VALUES, Stated, WordBank, words
from openk2.text.sessions import RESULT
from openk2.types import Message, ToolCall, ToolSpec

ZH_SHARE = 0.3
SHAPES = (90, 50, 13, 12, 12, 35)
"""How often each shape comes: session, single, parallel, ask, change, no call."""
SHORT_SHAPES = (60, 100, 10, 4, 8, 20)
SHORT_COMPLETE = 0.7
"""Share of short declarations whose parameters are all given in every call."""


def copy_conversations(bank: WordBank, seed: int, *, short: bool = False) -> Iterator[Conversation]:
    """Yield conversations without end; the same seed and bank give the same ones.

    Args:
        bank: The words.
        seed: Any number.
        short: Declare at most two tools, without descriptions, so that a row of few tokens is
            mostly requests and calls.
    """
    index = 0
    while True:
        key = f"copy/{seed}/{index}"
        yield copy_conversation(Random(key), bank, key, short=short)
        index += 1


def copy_conversation(
    rng: Random, bank: WordBank, key: str = "", *, short: bool = False
) -> Conversation:
    """Make one conversation."""
    lang: Lang = "zh" if rng.random() < ZH_SHARE else "en"
    draw = Draw(rng, bank, lang)
    tools = draw_tools(draw)
    if short:
        tools = [_all_required(rng, tool) for tool in tools[:2]]
    shapes = (_session, _single, _parallel, _ask, _change, _no_call)
    shape = rng.choices(shapes, SHORT_SHAPES if short else SHAPES)[0]
    messages = shape(draw, tools)
    rng.shuffle(tools)
    specs = tuple(_bare(tool.spec) if short else tool.spec for tool in tools)
    return Conversation(tuple(messages), specs, "copy_calls" if short else "copy_tasks", key)


def _all_required(rng: Random, tool: Tool) -> Tool:
    """Let a call have all parameters, mostly: which ones it has is another lesson than copying."""
    names = frozenset(p.name for p in tool.parameters)
    return replace(tool, required=names) if rng.random() < SHORT_COMPLETE else tool


def _bare(spec: ToolSpec) -> ToolSpec:
    """Leave out of a declaration what a call does not need."""
    properties = {
        name: {k: v for k, v in about.items() if k != "description"}
        for name, about in spec.parameters["properties"].items()
    }
    return ToolSpec(spec.name, "", {"type": "object", "properties": properties})


# --- requests ------------------------------------------------------------------------------------


def _stated(draw: Draw, parameter: Parameter) -> Stated:
    if parameter.kind == "enum":
        option = draw.rng.choice(parameter.schema["enum"])
        return Stated(option, option)
    if parameter.kind == "flag":
        value = draw.rng.random() < 0.5
        return Stated("yes" if value else "no", value)
    return VALUES[parameter.kind](draw.rng, draw.bank, draw.lang)


def _values(draw: Draw, tool: Tool) -> dict[str, Stated]:
    """Draw the required values and some of the others, in the order of the declaration."""
    return {
        p.name: _stated(draw, p)
        for p in tool.parameters
        if p.name in tool.required or draw.rng.random() < 0.5
    }


def _clause(draw: Draw, parameter: Parameter, stated: Stated, *, labelled: bool) -> str:
    if parameter.kind == "flag":
        return draw.frame("flag_true" if stated.value else "flag_false").format(
            label=parameter.label
        )
    if parameter.says and not labelled:
        return draw.rng.choice(parameter.says).replace("{}", stated.text)
    frame = draw.frame("labelled")
    if isinstance(stated.value, list):
        frame = frame.replace('"', "").replace("“", "").replace("”", "")
    return frame.format(label=parameter.label, value=stated.text)


def _request(draw: Draw, tool: Tool, values: Mapping[str, Stated]) -> str:
    rng = draw.rng
    chosen = [p for p in tool.parameters if p.name in values]
    rng.shuffle(chosen)
    frame = draw.frame("request")
    if in_order := _in_order(draw, tool, values):
        text = frame.format(request=tool.request, clauses=in_order)
        return text[:1].upper() + text[1:]
    if chosen and rng.random() < 0.12:
        lines = "".join(f"\n{p.label}: {values[p.name].text}" for p in chosen)
        ending = frame.format(request=tool.request, clauses="").rstrip("，")
        return ending[:1].upper() + ending[1:] + lines
    # Two values of one kind ("from X", "to Y") need their labels to be told apart.
    kinds = [p.kind for p in chosen]
    always = rng.random() < 0.35
    clauses = [
        _clause(draw, p, values[p.name], labelled=always or kinds.count(p.kind) > 1) for p in chosen
    ]
    text = frame.format(request=tool.request, clauses=_joined(draw, clauses))
    return text[:1].upper() + text[1:]


def _in_order(draw: Draw, tool: Tool, values: Mapping[str, Stated]) -> str:
    """State values of one kind without their labels, in the order of the declaration."""
    texts = [values[p.name].text for p in tool.parameters if p.name in values]
    alike = len(texts) > 1 and len({p.kind for p in tool.parameters}) == 1
    every = len(texts) == len(tool.parameters)
    if not (alike and every) or draw.lang == "zh" or draw.rng.random() < 0.7:
        return ""
    frame = draw.frame("in_order")
    return frame.format(values=f"{', '.join(texts[:-1])} and {texts[-1]}")


def _joined(draw: Draw, clauses: Sequence[str]) -> str:
    if not clauses:
        return ""
    if draw.lang == "zh":
        return "，" + "，".join(clauses)
    first = draw.rng.choice((" ", " ", ", "))
    glue = draw.rng.choice((" ", ", ", ", ", " and "))
    return first + glue.join(clauses)


def _call(number: int, tool: Tool, values: Mapping[str, Stated]) -> ToolCall:
    arguments = {p.name: values[p.name].value for p in tool.parameters if p.name in values}
    return ToolCall(f"c{number}", tool.spec.name, as_json(arguments))


# --- shapes of conversations ---------------------------------------------------------------------


def _single(draw: Draw, tools: list[Tool]) -> list[Message]:
    values = _values(draw, tools[0])
    call = _call(1, tools[0], values)
    messages = [
        Message("user", _request(draw, tools[0], values)),
        Message("assistant", tool_calls=(call,)),
    ]
    return messages + _ending(draw, call)


def _session(draw: Draw, tools: list[Tool]) -> list[Message]:
    """Ask for few tools many times: most tokens are calls and not declarations."""
    del tools[3:]
    messages: list[Message] = []
    for number in range(1, draw.rng.randint(4, 8) + 1):
        tool = draw.rng.choice(tools)
        values = _values(draw, tool)
        call = _call(number, tool, values)
        messages += [
            Message("user", _request(draw, tool, values)),
            Message("assistant", tool_calls=(call,)),
            Message("tool", RESULT, tool_call_id=call.id),
        ]
    return messages[:-1]


def _parallel(draw: Draw, tools: list[Tool]) -> list[Message]:
    pair = [tools[0], draw.rng.choice(tools)]
    values = [_values(draw, tool) for tool in pair]
    calls = tuple(_call(i, t, v) for i, (t, v) in enumerate(zip(pair, values, strict=True), 1))
    texts = [_request(draw, t, v) for t, v in zip(pair, values, strict=True)]
    both = draw.frame("second_request").format(first=texts[0], second=texts[1])
    return [Message("user", both), Message("assistant", tool_calls=calls)]


def _ask(draw: Draw, tools: list[Tool]) -> list[Message]:
    values = _values(draw, tools[0])
    open_ones = [p for p in tools[0].parameters if p.name in tools[0].required and p.kind != "flag"]
    if not open_ones:
        return _single(draw, tools)
    missing = draw.rng.choice(open_ones)
    told = {name: stated for name, stated in values.items() if name != missing.name}
    asked = draw.frame("ask").format(label=missing.label)
    answer = draw.frame("answer").format(label=missing.label, value=values[missing.name].text)
    call = _call(1, tools[0], values)
    return [
        Message("user", _request(draw, tools[0], told)),
        Message("assistant", asked),
        Message("user", answer),
        Message("assistant", tool_calls=(call,)),
        *_ending(draw, call),
    ]


def _change(draw: Draw, tools: list[Tool]) -> list[Message]:
    values = _values(draw, tools[0])
    stated = [p for p in tools[0].parameters if p.name in values and p.kind != "flag"]
    if not stated:
        return _single(draw, tools)
    changed = draw.rng.choice(stated)
    new = _stated(draw, changed)
    first, second = _call(1, tools[0], values), _call(2, tools[0], {**values, changed.name: new})
    frame = draw.frame("change")
    return [
        Message("user", _request(draw, tools[0], values)),
        Message("assistant", tool_calls=(first,)),
        *_result_and_reply(draw, first),
        Message("user", frame.format(label=changed.label, value=new.text)),
        Message("assistant", tool_calls=(second,)),
    ]


def _no_call(draw: Draw, tools: list[Tool]) -> list[Message]:
    """Ask for what no declared tool does: the tool that does is left undeclared."""
    if draw.rng.random() < 0.3:
        said, reply = draw.rng.choice(draw.bank.said.pairs["small_talk", draw.lang])
        return [Message("user", said), Message("assistant", reply)]
    absent = draw_tool(draw)
    taken = {tool.request for tool in tools} | {tool.spec.name for tool in tools}
    while absent.request in taken or absent.spec.name in taken:
        absent = draw_tool(draw)
    reply = draw.frame("no_tool").format(request=absent.request)
    return [
        Message("user", _request(draw, absent, _values(draw, absent))),
        Message("assistant", reply),
    ]


def _ending(draw: Draw, call: ToolCall) -> list[Message]:
    return _result_and_reply(draw, call) if draw.rng.random() < 0.4 else []


def _result_and_reply(draw: Draw, call: ToolCall) -> list[Message]:
    """Answer a call; the reply copies a value from the result."""
    rng = draw.rng
    shape = rng.random()
    if shape < 0.1:
        error = " ".join(words(rng, draw.bank, draw.lang, 2))
        result: dict[str, Any] = {"error": error}
        reply = draw.frame("failed").format(value=error)
        return [Message("tool", as_json(result), tool_call_id=call.id), Message("assistant", reply)]
    if shape < 0.3:
        items = words(rng, draw.bank, draw.lang, rng.randint(2, 4))
        result = {"count": len(items), "results": [{"name": item} for item in items]}
        comma = "、" if draw.lang == "zh" else ", "
        reply = draw.frame("found").format(count=len(items), items=comma.join(items))
        return [Message("tool", as_json(result), tool_call_id=call.id), Message("assistant", reply)]
    return _record_and_reply(draw, call)


def _record_and_reply(draw: Draw, call: ToolCall) -> list[Message]:
    rng = draw.rng
    fields = draw_record(rng, draw.bank, draw.lang, 4, lists=False)
    result = {name: stated.value for name, (_, stated) in fields.items()}
    if rng.random() < 0.3:
        result = {"status": "ok", **result}
    told = rng.choice(list(fields.values()))
    reply = draw.frame("reply").format(label=told[0], value=told[1].text)
    messages = [Message("tool", as_json(result), tool_call_id=call.id), Message("assistant", reply)]
    if rng.random() < 0.5:
        label, stated = rng.choice(list(fields.values()))
        question = draw.frame("question").format(label=label)
        answer = draw.frame("short_answer")
        messages.append(Message("user", question[:1].upper() + question[1:]))
        messages.append(Message("assistant", answer.format(label=label, value=stated.text)))
    return messages

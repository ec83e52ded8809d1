"""The note that an agent leaves for itself when older steps must leave the conversation.

In: the conversation's pinned words, or calls with their results. Out: the question to the model,
and the message that takes the steps' place.
Must not know: who answers, how many tokens there are, or when a note is due.
"""

from __future__ import annotations

from collections.abc import Sequence

from openk2.agent.digest import Action, describe, newest_that_fit, one_line
from openk2.agent.meter import WIDE
from openk2.types import Message

NOTE = "[Hand-off note from your earlier self]"
"""How a note begins."""

QUESTION = """\
The conversation is about to outgrow your window. Your next turn begins with the goal, the rules, \
the plan, the newest steps, and the note that you write now; everything else is gone. Write that \
note in the first person, to yourself, in the language of this conversation, with these parts:

1. Facts: what you know by now, each with its source (file, address, command, or output handle \
such as r12). Exact names, paths, numbers and error messages, not "the file" or "the error".
2. Unknown: what you do not know yet, and what you only assume.
3. Decisions: what was decided and why, what was tried and failed, what the person asked for on \
the way.
4. Plan: which items are done, which is under way, and what it still lacks.
5. Next: the very next step, and those after it.

Only the note: no greeting, no tool call, and nothing that did not happen."""

QUESTION_ZH = """\
对话即将超出窗口。你的下一轮开头只有目标、规则、计划、最近几步，以及你现在写的这份交接说明；其余内容都会消失。\
请用第一人称、写给你自己，使用本对话的语言，包含以下部分：

1. 事实：目前已知的内容，每条注明来源（文件、网址、命令或 r12 这样的输出句柄）。\
写出确切的名称、路径、数字和错误信息。
2. 未知：尚不知道的，以及只是假设的。
3. 决定：做了哪些决定、原因是什么；试过但失败的；用户中途提出的要求。
4. 计划：哪些项已完成，哪项正在进行、还缺什么。
5. 下一步：紧接着要做的一步，以及之后的步骤。

只写交接说明：不要问候，不要调用工具，不要写没有发生过的事。"""


def question(pinned: Sequence[Message]) -> Message:
    """Return the question for a note, in the language of what is pinned."""
    text = "".join(message.content for message in pinned)
    chinese = len(WIDE.findall(text)) * 5 > len(text)
    return Message("user", QUESTION_ZH if chinese else QUESTION)


def note(text: str, handles: Sequence[str]) -> str:
    """Return the message that stands in the place of the steps."""
    where = ""
    if handles:
        span = handles[0] if len(handles) == 1 else f"{handles[0]} to {handles[-1]}"
        where = f"\n\n(Outputs {span} are kept: read_result shows any of them.)"
    return f"{NOTE}\n{text}{where}"


def from_calls(earlier: str, done: Sequence[Action], limit: int) -> str:
    """Make a note from the calls alone: what remains when no model wrote one.

    Args:
        earlier: An earlier note that this one takes the place of.
        done: The calls, oldest first.
        limit: Most characters.
    """
    before = one_line(earlier.removeprefix(NOTE), limit // 3) if earlier else ""
    lines = newest_that_fit([describe(action) for action in done], limit // 2)
    parts = [f"What I noted earlier: {before}"] if before else []
    parts.append("What I did since, newest last:" if lines else "I called no tool.")
    return "\n".join([*parts, *lines])


def from_the_future(checkpoint: str, text: str) -> str:
    """Return the message that a conversation goes on with after it went back."""
    place = f"checkpoint {checkpoint!r}" if checkpoint else "the beginning"
    return (
        f"[You went back to {place}. What you did after it is no longer here; files you changed "
        f"stay as you left them. Message from that future:]\n{text}"
    )

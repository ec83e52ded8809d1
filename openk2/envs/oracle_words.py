"""What the solver says and thinks, in two languages and several ways.

In: labels, names of tools, values. Out: sentences. Must not know: worlds, tasks, plans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from openk2.envs.slots import Json, Lang, sayings


@dataclass(slots=True)
class Words:
    """One speaker."""

    lang: Lang
    rng: Random

    def _pick(self, en: Sequence[str], zh: Sequence[str]) -> str:
        options = en if self.lang == "en" else zh
        return options[self.rng.randrange(len(options))]

    # --- said to the user ------------------------------------------------------------------------

    def ask_for(self, label: str) -> str:
        """Ask for something that is missing."""
        frames = (
            "What is the {}?",
            "Could you tell me the {}?",
            "I still need the {}. What is it?",
        )
        chinese = ("请问{}是什么？", "请告诉我{}，好吗？", "还需要{}，是什么？")
        return self._pick(frames, chinese).format(label)

    def which(self, count: int, labels: Sequence[str]) -> str:
        """Ask which of several is meant."""
        frames = ("I found {n}. Which one do you mean? Please give me the {what}.",
                  "There are {n} of them. Can you tell me the {what}?")  # fmt: skip
        chinese = ("找到{n}个，您指的是哪一个？请告诉我{what}。", "有{n}个符合，能说一下{what}吗？")
        joint = " and the " if self.lang == "en" else "和"
        return self._pick(frames, chinese).format(n=count, what=joint.join(labels))

    def plan(self, does: str, values: Mapping[str, Json]) -> str:
        """Describe a call for consent."""
        joint, stop = (", ", ".") if self.lang == "en" else ("，", "。")
        said = joint.join(f"{k}: {sayings(v, 'text', self.lang)[0]}" for k, v in values.items())
        first = does.split(stop)[0]
        return f"{first} ({said})" if self.lang == "en" else f"{first}（{said}）"

    def may_i(self, plans: Sequence[str]) -> str:
        """Ask for consent."""
        frames = ("I would do this: {}. Shall I go ahead?", "{}. Is that right?")
        chinese = ("我将执行：{}。可以吗？", "{}。确认吗？")
        return self._pick(frames, chinese).format("; ".join(plans))

    def not_here(self) -> str:
        """Decline what is not this operator's business."""
        return self._pick(
            ("I'm sorry, I can't help with that here.", "That is outside of what I can do here.",
             "I have no tool for that, so I can't help with it."),
            ("抱歉，这里无法处理这个问题。", "这超出了我能办理的范围。",
             "我没有相应的工具，无法帮您处理。"),
        )  # fmt: skip

    def no_tool(self) -> str:
        """Decline what no tool offered can do."""
        return self._pick(
            ("I'm sorry, I have no tool that can do this.",
             "I can't do that with what I have here."),
            ("抱歉，我没有能办理此事的工具。", "以我现有的工具无法完成。"),
        )  # fmt: skip

    # --- thought ---------------------------------------------------------------------------------

    def why_ask(self, label: str) -> str:
        """Think that something is missing."""
        return self._pick(
            ("The {} was not given and I must not guess it. I ask.", "Missing: {}. Ask first."),
            ("缺少{}，不能猜，先询问。", "用户没有说{}，需要问。"),
        ).format(label)

    def why_which(self, count: int) -> str:
        """Think that it is ambiguous."""
        return self._pick(
            ("{} results fit what the user said. I ask which one.",),
            ("有{}个结果符合，需要问清楚。",),
        ).format(count)

    def why_look(self, label: str, tools: str) -> str:
        """Think of a way to an id."""
        return self._pick(
            ("I need the {}. {} can find it.", "The user did not give the {}: look it up with {}."),
            ("需要{}，可以用{}查。", "用户没有给{}，先用{}查找。"),
        ).format(label, tools)

    def why_call(self, tools: str) -> str:
        """Think that everything is known."""
        return self._pick(
            ("I have what I need: call {}.", "Everything is known. Next: {}."),
            ("信息齐全，调用{}。", "可以调用{}了。"),
        ).format(tools)

    def why_again(self) -> str:
        """Think of checking."""
        return self._pick(("Check the details first.",), ("先核对一下详情。",))

    def why_retry(self) -> str:
        """Think of a failed service."""
        return self._pick(
            ("The service failed and nothing was done. Try the same call again.",
             "A temporary error: repeat the call."),
            ("服务出错，没有执行，重试一次。", "临时错误，再调用一次。"),
        )  # fmt: skip

    def why_confirm(self) -> str:
        """Think of the operator's rule."""
        return self._pick(
            ("Changes need the user's consent first.",), ("修改之前必须先得到用户同意。",)
        )

    def why_reply(self, kind: str) -> str:
        """Think of what to tell."""
        if kind == "policy":
            return self._pick(
                ("This must not or cannot be done here. I say so.",),
                ("这里不允许或无法办理，如实告知。",),
            )
        if kind == "fails":
            return self._pick(("It was refused. I say why.",), ("请求被拒绝，说明原因。",))
        return self._pick(
            ("Done. I tell the user.", "That is the result to report."), ("完成，告诉用户。",)
        )

    def why_not_here(self) -> str:
        """Think that it is none of this operator's business."""
        return self._pick(("No tool here fits this request.",), ("没有工具适合这个请求。",))

    def why_no_tool(self) -> str:
        """Think that the tool is not there."""
        return self._pick(
            ("The tool that this needs is not among those I have.",), ("所需的工具不在列表中。",)
        )

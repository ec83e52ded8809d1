"""Who the user is: how it opens, goes on, agrees, and how exactly it says things.

In: nothing. Out: personas by name. Must not know: domains, tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from openk2.envs.slots import Lang

Lines = Mapping[Lang, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Persona:
    """A kind of user."""

    en: str
    """A description, for people and for a model that plays the user."""
    verbatim: float
    """Share of values that it says exactly as they are written."""
    opens: Lines
    """What it may say before its first request."""
    goes_on: Lines
    """What it may say before a later one."""
    agrees: Lines
    """What it says when it is asked for something it has already said, or for consent."""


_GOES_ON: Lines = {
    "en": ("", "Another thing.", "Next:", "While I'm here:", "Now something else."),
    "zh": ("", "还有一件事。", "另外，", "接下来，", "顺便，"),
}
_AGREES: Lines = {
    "en": ("Yes, please.", "Yes, go ahead.", "That's right.", "Yes."),
    "zh": ("好的，请继续。", "是的。", "对，就这样。", "可以。"),
}
_NOTHING: Lines = {"en": ("",), "zh": ("",)}

PERSONAS: Mapping[str, Persona] = {
    "plain": Persona("says what is needed", 0.8, _NOTHING, _GOES_ON, _AGREES),
    "exact": Persona(
        "gives every value exactly as systems write it",
        1.0,
        _NOTHING,
        _NOTHING,
        {"en": ("Confirmed.", "Correct."), "zh": ("确认。", "正确。")},
    ),
    "polite": Persona(
        "greets and thanks",
        0.6,
        {
            "en": ("Hello!", "Good morning.", "Hi there,", "Good afternoon,"),
            "zh": ("你好！", "您好，", "早上好。"),
        },
        {
            "en": ("Thank you! One more thing:", "Great, thanks. Could you also help with this:"),
            "zh": ("谢谢！还有一件事：", "太好了。另外麻烦您："),
        },
        {
            "en": ("Yes, please, thank you.", "That would be lovely."),
            "zh": ("好的，谢谢。", "麻烦您了。"),
        },
    ),
    "hurried": Persona(
        "has no time",
        0.7,
        {"en": ("Quick one:", "", "In a hurry."), "zh": ("快点，", "", "赶时间：")},
        {"en": ("And", "Next:", "Also, quickly:"), "zh": ("还有", "下一个：")},
        {"en": ("Yes yes.", "Sure.", "Go."), "zh": ("行。", "嗯，快。")},
    ),
    "chatty": Persona(
        "tells more than is needed",
        0.4,
        {
            "en": (
                "I've been meaning to do this all week.",
                "You won't believe my day.",
                "My colleague told me that you can help.",
            ),
            "zh": ("我这周一直想办这件事。", "今天可忙坏了。", "同事说你能帮忙。"),
        },
        {
            "en": (
                "Oh, before I forget:",
                "That reminds me.",
                "Funny, I just remembered something.",
            ),
            "zh": ("哦对了，", "这让我想起来，", "差点忘了，"),
        },
        {
            "en": ("Oh yes, exactly that.", "Yes, that's the one!"),
            "zh": ("对对，就是这个。", "没错！"),
        },
    ),
    "frustrated": Persona(
        "has tried before and is annoyed",
        0.7,
        {
            "en": ("This is the third time I ask.", "Your website does not work.", "Finally."),
            "zh": ("我已经问了三次了。", "你们的网站用不了。", "终于接通了。"),
        },
        {"en": ("And that's not all.", "I also need this:"), "zh": ("还没完呢，", "还有这个：")},
        {"en": ("Yes! As I said.", "Obviously."), "zh": ("是的！我说过了。", "当然。")},
    ),
    "unsure": Persona(
        "is not sure what is possible",
        0.5,
        {
            "en": ("I'm not sure whether you can do this.", "I hope this is the right place."),
            "zh": ("不知道你能不能办这个。", "希望没问错地方。"),
        },
        {
            "en": ("And perhaps you can also do this.", "I have another question."),
            "zh": ("也许你还能帮我：", "我还有个问题。"),
        },
        {"en": ("I think so, yes.", "Yes, I believe so."), "zh": ("应该是吧。", "嗯，可以。")},
    ),
    "formal": Persona(
        "writes like a letter",
        0.5,
        {"en": ("Dear team,", "To whom it may concern:"), "zh": ("尊敬的客服：", "您好，")},
        {"en": ("Furthermore,", "In addition:"), "zh": ("此外，", "再者，")},
        {"en": ("I hereby confirm.", "Please proceed."), "zh": ("特此确认。", "请办理。")},
    ),
}

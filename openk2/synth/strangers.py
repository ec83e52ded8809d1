"""Requests that an agent cannot serve: other operators' business, and small talk.

In: other domains. Out: requests. Must not know: what the agent can do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from openk2.envs.domain import Domain
from openk2.envs.slots import Lang
from openk2.envs.wording import Voice, request

_OTHER: Mapping[Lang, tuple[str, ...]] = {
    "en": (
        "Write me a poem about {x}.", "What is the capital of {y}?", "Tell me a joke about {x}.",
        "How do I cook {z}?", "Who invented {x}?", "Translate '{x}' into French.",
        "What do you think about {x}?", "Recommend me a film about {x}.",
        "Explain {x} to a child.", "Sing a song about {x}.", "How old is the oldest {x}?",
        "Can you help me with my homework about {x}?", "What should I wear in {y} in winter?",
    ),
    "zh": (
        "写一首关于{x}的诗。", "{y}的首都是哪里？", "讲一个关于{x}的笑话。", "{z}怎么做？",
        "谁发明了{x}？", "把“{x}”翻译成法语。", "你怎么看{x}？", "推荐一部关于{x}的电影。",
        "帮我做关于{x}的作业。", "冬天去{y}穿什么好？",
    ),
}  # fmt: skip
_WORDS: Mapping[Lang, Mapping[str, tuple[str, ...]]] = {
    "en": {
        "x": ("bicycles", "glass", "the moon", "elephants", "paper", "bridges", "volcanoes",
              "violins", "lighthouses", "honey", "trains", "snow", "mirrors", "chess"),
        "y": ("Norway", "Peru", "Kenya", "Vietnam", "Portugal", "Canada", "Nepal", "Chile"),
        "z": ("risotto", "dumplings", "lentil soup", "pancakes", "paella", "ramen"),
    },
    "zh": {
        "x": ("自行车", "玻璃", "月亮", "大象", "纸", "桥", "火山", "小提琴", "灯塔", "蜂蜜"),
        "y": ("挪威", "秘鲁", "肯尼亚", "越南", "葡萄牙", "加拿大", "尼泊尔", "智利"),
        "z": ("红烧肉", "饺子", "番茄炒蛋", "煎饼", "海鲜饭", "拉面"),
    },
}  # fmt: skip


def strange_request(rng: Random, strangers: Sequence[Domain], lang: Lang) -> str:
    """Make a request that has nothing to do with the agent's tools.

    Args:
        rng: The source of chance.
        strangers: Domains that the agent does not serve; they make the better half of requests.
        lang: In which language.
    """
    if strangers and rng.random() < 0.6:
        other = rng.choice(strangers)
        intent = rng.choice(other.intents)
        goal = intent.draw(other.world(rng.randrange(10_000)), rng)
        if goal is not None:
            voice = Voice(lang, rng)
            said = {name: voice.fact(other, fact) for name, fact in goal.facts.items()}
            text = request(rng.choice(intent.ask[lang]), said)
            if text is not None:
                return text
    text = rng.choice(_OTHER[lang])
    for name, words in _WORDS[lang].items():
        text = text.replace(f"{{{name}}}", rng.choice(words))
    return text

"""What Kimi's models cost, as published.

In: a model's name. Out: its `Price`.
Must not know: endpoints, budgets, what a run has spent.

US dollars for a million tokens of prompt that is in the cache, prompt that is not, and answer. The
K2 series is from Kimi's pricing page (platform.kimi.ai/docs/pricing), K2.5 and later and
moonshot-v1 from the price file of LiteLLM 1.106 (`model_prices_and_context_window.json`), both as
of November 2026. Vendors change prices: give the agent its own where they matter.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from openk2.agent.model import Price

_KIMI_HOSTS = ("moonshot.ai", "moonshot.cn", "kimi.com", "kimi.ai")

_K2 = Price(prompt=600_000, cached=150_000, completion=2_500_000)
_K2_TURBO = Price(prompt=1_150_000, cached=150_000, completion=8_000_000)

PRICES: dict[str, Price] = {
    "kimi-k2-0711-preview": _K2,
    "kimi-k2-0905-preview": _K2,
    "kimi-k2-thinking": _K2,
    "kimi-k2-turbo-preview": _K2_TURBO,
    "kimi-k2-thinking-turbo": _K2_TURBO,
    "kimi-k2.5": Price(prompt=600_000, cached=100_000, completion=3_000_000),
    "kimi-k2.6": Price(prompt=950_000, cached=160_000, completion=4_000_000),
    "kimi-k2.7-code": Price(prompt=950_000, cached=190_000, completion=4_000_000),
    "kimi-k3": Price(prompt=3_000_000, cached=300_000, completion=15_000_000),
    "moonshot-v1-8k": Price(prompt=200_000, cached=200_000, completion=2_000_000),
    "moonshot-v1-32k": Price(prompt=1_000_000, cached=1_000_000, completion=3_000_000),
    "moonshot-v1-128k": Price(prompt=2_000_000, cached=2_000_000, completion=5_000_000),
}
"""By the model's name, in millionths of a dollar for a million tokens."""


def price_of(model: str) -> Price:
    """Return a model's published price; nothing for a model that is not listed.

    What clients add to a name is not looked at: `kimi-k3[1m]`, `moonshot-v1-8k-vision-preview`.
    """
    name = model.partition("[")[0].rpartition("/")[2].removesuffix("-vision-preview")
    return PRICES.get(name, Price())


def is_kimi(base_url: str) -> bool:
    """Tell whether an address is Kimi's own, so that its published prices hold there."""
    host = urlsplit(base_url).hostname or ""
    return any(host == kimi or host.endswith(f".{kimi}") for kimi in _KIMI_HOSTS)

"""How charts look: fonts that this system has, Chinese, Japanese and Korean ones among them.

In: the system's font files. Out: a settings file for matplotlib.
Must not know: who draws.
"""

from __future__ import annotations

import functools
import os

FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts")
FAMILIES = {
    "NotoSansCJK-Regular.ttc": "Noto Sans CJK JP",
    "NotoSansCJKsc-Regular.otf": "Noto Sans CJK SC",
    "NotoSansSC-Regular.otf": "Noto Sans SC",
    "NotoSansSC-Regular.ttf": "Noto Sans SC",
    "SourceHanSansSC-Regular.otf": "Source Han Sans SC",
    "wqy-microhei.ttc": "WenQuanYi Micro Hei",
    "wqy-zenhei.ttc": "WenQuanYi Zen Hei",
    "DroidSansFallbackFull.ttf": "Droid Sans Fallback",
    "uming.ttc": "AR PL UMing CN",
}
"""Files of fonts with Chinese characters, and the family that matplotlib finds in them: of a
collection it reads the first member, which in Noto's has the Chinese characters too."""


@functools.cache
def chinese_families() -> tuple[str, ...]:
    """Return the families with Chinese characters that this system has, best first."""
    names = {name for top in FOLDERS for _, _, files in os.walk(top) for name in files}
    return tuple(dict.fromkeys(family for file, family in FAMILIES.items() if file in names))


def matplotlib_settings() -> str:
    """Write matplotlib's settings file; only families that exist are named, or it would warn."""
    families = ", ".join(["DejaVu Sans", *chinese_families()])
    lines = [
        f"font.family: {families}",
        "axes.unicode_minus: False",
        "figure.dpi: 110",
        "savefig.dpi: 150",
        "figure.autolayout: False",
    ]
    return "\n".join(lines) + "\n"

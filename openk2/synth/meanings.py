"""What a parameter is about, told from its name and description.

In: a parameter's name, description and type. Out: the pool that its values come from, or a range of
numbers, and the examples that its description gives. Must not know: how values are drawn.
"""

from __future__ import annotations

import re

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORDS = re.compile(r"[A-Za-z]+(?:\d+[a-z]*)?|\d+[a-z]*|[\u3400-\u9fff]+")

TEXT = "text"
"""The meaning of a text of which nothing is known."""

_RULES: tuple[tuple[str, str], ...] = (
    (r"e ?mail( address)?( id)?|mail address|recipient email|邮箱|邮件地址", "email"),
    (r"(phone|mobile|telephone|fax|msisdn)( number)?|phonenumber|电话|手机号?", "phone"),
    (r"uuid|guid", "uuid"),
    (
        r"(api|access|secret|auth|private|bearer|custom|session)? ?(key|token|secret|"
        r"password|passphrase|credential)s?( key)?|apikey|pwd|密码|密钥|令牌",
        "secret",
    ),
    (r"url|uri|link|href|webhook|callback|endpoint|website|网址|链接", "url"),
    (r"ip|ip address|ipv4|ipaddress", "ip"),
    (r"host|hostname|domain|domain name|server|域名|主机", "host"),
    (
        r"(file|image|video|audio|output|input|source|target|dest|destination|save|local|"
        r"repo|project|log|full|absolute)? ?(path|filepath)|文件路径|路径",
        "path",
    ),
    (r"dir|directory|folder|cwd|working dir(ectory)?|目录|文件夹", "folder"),
    (r"file|file ?name|attachment|image|photo|document|pdf|文件名?|图片", "filename"),
    (r"time ?zone|tz|时区", "zone"),
    (
        r"(start|end|begin|from|to|created|updated|due)? ?(date ?time|timestamp|at|"
        r"datetime)|since|until",
        "moment",
    ),
    (
        r"(hour|clock|time|start time|end time|departure time|arrival time|alarm time)|"
        r"时间",
        "clock",
    ),
    (r".*\b(date|day|birthday|dob|deadline|check ?in|check ?out)|.*日期", "day"),
    (r"month", "month"),
    (r"(country|region|market)? ?(country|iso) ?code|market", "country_code"),
    (r"country|nation|国家", "country"),
    (
        r"(source|target|from|to|output|input)? ?(lang|language)( code)?|locale|语言",
        "language",
    ),
    (
        r".*\b(city|town|location|place|destination|origin|departure|arrival|region|area|"
        r"venue|airport|station)|城市|地点|.*城市|位置|目的地|出发地",
        "city",
    ),
    (r"(street|postal|shipping|billing|home|delivery)? ?address|地址", "street"),
    (
        r"(token|contract|wallet|account|from|to|sender|recipient) address|tx ?hash|"
        r"(transaction )?hash",
        "hex",
    ),
    (r"zip|zip ?code|postal ?code|postcode|邮编", "zip"),
    (r"(base|quote|from|to|target|source)? ?currency( code)?|货币|币种", "currency"),
    (r"symbol|ticker|coin|股票代码|交易对", "symbol"),
    (r"colou?r|颜色", "color"),
    (
        r"(first|last|full|given|family|person|patient|customer|client|contact|guest|"
        r"passenger|employee|student|player|artist|author|actor|recipient|sender|buyer|"
        r"seller|owner|member|doctor|driver|teacher)( ?name)?|assignee|caller|callee|姓名|"
        r".*人姓名|联系人",
        "person",
    ),
    (r"user ?name|user|handle|login|screen ?name|account|用户名?", "handle"),
    (
        r"(company|brand|organi[sz]ation|vendor|supplier|manufacturer|employer|org|"
        r"team)( ?name)?|公司",
        "company",
    ),
    (r"sql|statement", "sql"),
    (r"command|cmd|命令", "command"),
    (r"code|script|snippet|expression|formula|代码", "code"),
    (r"version|revision|版本", "version"),
    (
        r"(file|output|input|image|response|data)? ?(format|extension|file type|"
        r"mime type)|格式",
        "file_type",
    ),
    (r"(sort )?order|sort direction|排序", "sort"),
    (
        r"message|body|text|content|comment|note|notes|description|summary|prompt|reason|"
        r"caption|details?|instructions?|feedback|bio|context|input|question|sentence|"
        r"paragraph|review|complaint|消息|内容|正文|描述|备注|文本|评论|说明",
        "sentence",
    ),
    (
        r".*\b(query|keywords?|search|search (term|text|query)|term|topic|q|phrase|"
        r"subject matter|theme)|关键词?|搜索词|查询|主题",
        "topic",
    ),
    (
        r".*\b(title|subject|headline|heading|task|event|project|product|course|movie|"
        r"book|song|album|game|item|playlist|recipe|product name)|.*名称|标题|.*标题|任务",
        "title",
    ),
    (
        r".*\b(id|ids|sid|arn|identifier|number|no|ref|reference|code|cursor|pk|nonce|"
        r"isbn|sku|serial|uid|key|marker)|.*(编号|标识|id|ID)",
        "id",
    ),
    (
        r".*\b(bucket|branch|repo|repository|table|collection|database|db|cluster|"
        r"namespace|workspace|index|channel|container|queue|image|pod|node|service|group|"
        r"role|policy|stack|function|instance|resource|environment|tag|label|category|"
        r"slug|name|schema|column|field|package|module|template)s?",
        "slug",
    ),
)
_COMPILED = tuple((re.compile(rf"(?:{pattern})"), meaning) for pattern, meaning in _RULES)

_NUMBERS: tuple[tuple[str, tuple[float, float]], ...] = (
    (r"lat(itude)?", (-85, 85)), (r"lon(gitude)?|lng", (-179, 179)),
    (r".*\byear", (1950, 2030)), (r".*\bmonth", (1, 12)), (r".*\bday", (1, 28)),
    (r".*\bhours?", (0, 23)), (r".*\b(minutes?|seconds?)", (1, 59)), (r"port", (1024, 65535)),
    (r".*\b(percent(age)?|ratio|confidence|threshold|rate|probability)", (1, 99)),
    (r".*\bage", (18, 90)),
    (r"temperature", (-5, 40)), (r"page|offset|page number", (1, 40)),
    (r".*\b(limit|count|max results?|page size|per page|top k|top n|num|size|k|n)", (2, 100)),
    (r".*\b(width|height)", (64, 4096)), (r".*\bweight", (1, 200)),
    (r".*\b(timestamp|time|since|until|date)", (1_600_000_000, 1_900_000_000)),
    (r".*\b(amount|price|cost|budget|salary|income|total|balance|payment|value)", (5, 9000)),
    (r".*\bid", (1000, 9_999_999)),
)  # fmt: skip
_COMPILED_NUMBERS = tuple((re.compile(rf"(?:{p})"), limits) for p, limits in _NUMBERS)

_EXAMPLES = re.compile(
    r"(?:e\.?g\.?|for example|such as|one of|options?(?: are)?|valid values?(?: are)?|either|"
    r"can be|possible values?(?: are)?|例如|比如|可选值?|如)"
    r"\s*[:,：，]?\s*([^()（）。;；\n]{2,160})",
    re.IGNORECASE,
)
_APART = re.compile(r"\s*(?:,|、|，|/|\||\bor\b|\band\b|或者?|和)\s*")
_NOT_MEMBERS = ("etc", "etc.", "等", "...")
_AROUND = " .'\"`“”‘’"
_MEMBER = re.compile(r"[\w .:+#@-]{1,30}")


def words_of(name: str) -> list[str]:
    """Split a name as programs write it into lower-case words."""
    return [word.lower() for word in _WORDS.findall(_CAMEL.sub(" ", name))]


def meaning_of(name: str, description: str = "") -> str:
    """Name the pool that a text comes from, `TEXT` where nothing is known.

    Args:
        name: The parameter's name.
        description: What its owner says about it; read only where the name says nothing.
    """
    words = words_of(name)
    told = words[:-1] if len(words) > 1 and words[-1] in ("name", "名称") else words
    for text in (" ".join(told), " ".join(words), words[-1] if words else ""):
        for pattern, meaning in _COMPILED:
            if text and pattern.fullmatch(text):
                return meaning
    hints = description.lower()[:80]
    for hint, meaning in (
        ("yyyy-mm-dd", "day"), ("iso 8601", "moment"), ("email", "email"), ("url", "url"),
        ("identifier", "id"), (" id ", "id"), ("path", "path"), ("city", "city"), ("name", "slug"),
    ):  # fmt: skip
        if hint in hints:
            return meaning
    return TEXT


def range_of(name: str) -> tuple[float, float] | None:
    """Return between what a number of this name lies, None where nothing is known."""
    text = " ".join(words_of(name))
    for pattern, limits in _COMPILED_NUMBERS:
        if pattern.fullmatch(text):
            return limits
    return None


def examples_in(description: str) -> tuple[str, ...]:
    """Return the values that a description lists, at least two; none where it lists none."""
    found = _EXAMPLES.search(description[:400])
    if found is None:
        return ()
    parts = [part.removesuffix("等").strip(_AROUND) for part in _APART.split(found[1])]
    members = [
        part
        for part in parts
        if part and part.lower() not in _NOT_MEMBERS and _MEMBER.fullmatch(part)
    ]
    short = [member for member in members if len(member.split()) <= 3]
    return tuple(dict.fromkeys(short)) if len(short) >= 2 and len(short) == len(members) else ()

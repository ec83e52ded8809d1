"""Pools of plausible values: names, places, titles, identifiers, made fresh from large products.

A model that has to copy a value must not have met it before, so the pools are combinations (of
words, syllables, digits) rather than lists: even the smallest has thousands of members.

In: a source of chance. Out: a value. Must not know: schemas, tools.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from random import Random


def _words(text: str) -> list[str]:
    return text.split()


_FIRST = _words(
    "Ada Ben Chen Dana Emil Fatima Goran Hana Ivan Julia Kofi Lena Marco Nadia Omar Priya "
    "Quentin Rosa Samir Tara Umar Vera Wei Ximena Yusuf Zoe Amara Boris Clara Diego Elif "
    "Felix Greta Hugo Ines Jonas Keiko Liam Mei Noah Olga Pablo Rania Stefan Thandi Uma "
    "Viktor Willa Yara Zane Aiko Bram Carmen Darius Esther Farid Gwen Henrik Isla Jamal "
    "Katya Leo Maya Nils Oskar Petra"
)
_LAST = _words(
    "Novak Okoro Wang Silva Berg Noor Ilic Sato Petrov Roth Mensah Fischer Ricci Haddad "
    "Farouk Nair Dubois Moreno Khan Lindqvist Bello Ivanova Zhou Castro Demir Levy Adeyemi "
    "Kowalski Ferrari Brandt Mwangi Hughes Sandoval Nakamura Osei Larsen Pereira Quinn "
    "Schmidt Tanaka Usman Varga Weber Young Zeller Abbott Bianchi Cooper Dlamini Eriksen "
    "Fontaine Gupta Hossain Jensen Keller"
)
_CITIES = _words(
    "Lisbon Oslo Nairobi Kyoto Toronto Lima Vienna Porto Hanoi Accra Denver Bergen Krakow "
    "Cusco Perth Bogota Tallinn Osaka Leipzig Bristol Durban Madurai Quito Riga Seville "
    "Turin Utrecht Valencia Warsaw Zagreb Austin Boston Cairo Dakar Edinburgh Florence "
    "Geneva Helsinki Istanbul Jaipur Kigali Lagos Manila Naples Ottawa Prague Reykjavik "
    "Santiago Tunis Ulm Vilnius Windhoek Xalapa Yerevan Zurich Adelaide Bruges Chicago "
    "Dublin Essen Fukuoka Ghent Hobart Izmir Jakarta Cork"
)
_CITIES_ZH = _words(
    "北京 上海 广州 深圳 杭州 成都 西安 武汉 南京 苏州 青岛 厦门 大连 昆明 长沙 重庆 天津 "
    "郑州 沈阳 哈尔滨 济南 合肥 福州 南昌 贵阳 兰州 银川 西宁 拉萨 海口 三亚 桂林 洛阳 扬州 "
    "无锡 宁波 温州 珠海 佛山 东莞 烟台 泉州 绍兴 嘉兴 徐州 大理 丽江 敦煌"
)
_COUNTRIES = _words(
    "Portugal Norway Kenya Japan Canada Peru Austria Vietnam Ghana Poland Colombia Estonia "
    "Germany India Ecuador Latvia Spain Italy Netherlands Croatia Egypt Senegal Finland "
    "Turkey Rwanda Nigeria Chile Tunisia Lithuania Namibia Armenia Switzerland Australia "
    "Belgium Ireland Indonesia Brazil"
)
_COUNTRY_CODES = "PT NO KE JP CA PE AT VN GH PL CO EE DE IN EC LV ES IT NL HR EG SN FI TR US GB FR"
_LANGUAGES = "en zh fr de es pt it ja ko ar ru hi nl sv pl tr vi th id cs fi da el he uk ro hu"
_LANGUAGE_NAMES = (
    "English French German Spanish Portuguese Italian Japanese Korean Arabic Russian Hindi Dutch "
    "Swedish Polish Turkish Vietnamese Thai Czech Finnish Danish Greek Hebrew Ukrainian Chinese"
)
_CURRENCIES = "USD EUR GBP JPY CNY CHF CAD AUD INR BRL MXN SEK NOK DKK PLN CZK HUF TRY ZAR KRW SGD"
_ADJECTIVES = _words(
    "quiet amber rapid silver northern gentle bright hidden annual winter spare daily "
    "urgent local modern open final early weekly green blue coastal golden small broad "
    "fresh mobile secure shared digital solar monthly remote public double steady warm "
    "ancient clever hollow iron lunar misty narrow orange paper plain royal rustic sharp "
    "simple slow soft sudden tidy velvet vivid wild"
)
_NOUNS = _words(
    "harbor lantern budget garden signal report bridge atlas meadow engine recipe archive "
    "compass ticket market forest puzzle rocket orchard canvas ledger beacon voyage falcon "
    "cabinet melody pattern window basket copper summit river journal kettle magnet needle "
    "outpost parcel quarry ribbon saddle tunnel umbrella valley wagon anchor blanket candle "
    "desert ember feather glacier hammer island jacket ladder mirror nectar oyster pepper "
    "quilt roster shelter thread vault willow"
)
_THINGS_ZH = _words(
    "预算 花园 报告 桥梁 地图 发动机 食谱 档案 指南针 车票 市场 森林 拼图 火箭 果园 画布 "
    "账本 灯塔 航行 橱柜 旋律 图案 窗户 篮子 山顶 河流 日志 水壶 磁铁 包裹 丝带 隧道 雨伞 "
    "山谷 毛毯 蜡烛 沙漠 羽毛 冰川 岛屿 夹克 梯子 镜子 胡椒 名单 避难所"
)
_TRAITS_ZH = _words(
    "安静的 琥珀色 快速 银色 北方 温和的 明亮的 隐藏的 年度 冬季 备用 每日 紧急 本地 现代 "
    "最终 早期 每周 绿色 蓝色 沿海 金色 小型 新鲜的 移动 安全 共享 数字 太阳能 每月 远程 "
    "公共"
)
_SURNAMES_ZH = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕"
_GIVEN_ZH = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超霞平刚桂英华玉兰红梅建国志文博雨欣怡宇浩然子轩思远"
_VERBS = _words(
    "review ship paint repair measure compare finish rehearse translate sort inspect renew "
    "collect launch print archive update test clean book plan check record share weigh pack "
    "label"
)
_COLORS = (
    "red teal navy olive maroon cyan coral indigo beige violet crimson turquoise khaki lavender"
)
_ONSETS = _words("b br c ch d dr f fl g gr h j k kl l m n p pr q r s sk st t tr v w z")
_VOWELS = _words("a e i o u ai ea io ou")
_CODAS = ["", "n", "r", "l", "s", "x", "th", "nd", "m", "k"]
_SUFFIXES = "com org net io dev example.com co app"
_FILES = "pdf txt md csv json png jpg docx xlsx py log yaml html zip mp3 mp4 sql"
_FOLDERS = (
    "home data srv var projects documents reports photos backup src workspace downloads media"
)


def coined(rng: Random) -> str:
    """Make up a word that nobody has read before."""
    beats = rng.choice((2, 2, 3))
    body = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(beats))
    return body + rng.choice(_CODAS)


def _of(words: str) -> Callable[[Random], str]:
    members = words.split()
    return lambda rng: rng.choice(members)


def _chars(rng: Random, alphabet: str, count: int) -> str:
    return "".join(rng.choices(alphabet, k=count))


def person(rng: Random) -> str:
    """Name a person."""
    last = rng.choice(_LAST) if rng.random() < 0.7 else coined(rng).capitalize()
    return f"{rng.choice(_FIRST)} {last}"


def person_zh(rng: Random) -> str:
    """Name a person in Chinese."""
    return rng.choice(_SURNAMES_ZH) + _chars(rng, _GIVEN_ZH, rng.choice((1, 2, 2)))


def handle(rng: Random) -> str:
    """Make a user name."""
    first = rng.choice((rng.choice(_FIRST).lower(), coined(rng)))
    return (
        f"{first}{rng.choice(('', '_', '.', '-'))}{rng.choice((coined(rng), rng.randint(2, 999)))}"
    )


def slug(rng: Random) -> str:
    """Make a name such as systems use for things: a bucket, a branch, a table."""
    joint = rng.choice("-_")
    parts = [rng.choice(_ADJECTIVES), rng.choice(_NOUNS), coined(rng), str(rng.randint(1, 99))]
    return joint.join(rng.sample(parts, rng.choice((2, 2, 3))))


def title(rng: Random) -> str:
    """Make a title of a few words."""
    words = [rng.choice(_ADJECTIVES), rng.choice(_NOUNS)]
    match rng.randrange(4):
        case 0:
            words.append(rng.choice(_NOUNS))
        case 1:
            words = [rng.choice(_VERBS), "the", *words]
        case 2:
            words.insert(0, coined(rng))
        case _:
            pass
    text = " ".join(words)
    return text.title() if rng.random() < 0.4 else text[:1].upper() + text[1:]


def topic(rng: Random) -> str:
    """Make something to search for."""
    match rng.randrange(4):
        case 0:
            return f"{rng.choice(_NOUNS)} {rng.choice(_NOUNS)}"
        case 1:
            return f"{rng.choice(_ADJECTIVES)} {_plural(rng.choice(_NOUNS))} in {city(rng)}"
        case 2:
            return f"{coined(rng)} {rng.choice(_NOUNS)}"
        case _:
            return f"{rng.choice(_ADJECTIVES)} {coined(rng)}"


def topic_zh(rng: Random) -> str:
    """Make something to search for, in Chinese."""
    return rng.choice(_TRAITS_ZH) + rng.choice(_THINGS_ZH)


def _plural(noun: str) -> str:
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch")) else "s")


def sentence(rng: Random) -> str:
    """Make a short message."""
    verb, noun, who = rng.choice(_VERBS), rng.choice(_NOUNS), rng.choice(_FIRST)
    frames = (
        f"Please {verb} the {rng.choice(_ADJECTIVES)} {noun} before {clock(rng)}",
        f"The {noun} in {city(rng)} is ready, {who} will {verb} it",
        f"{who} asked us to {verb} {rng.randint(2, 90)} {_plural(noun)}",
        f"Do not {verb} the {noun} until {who} is back",
        f"We {verb} every {noun} named {coined(rng)}",
    )
    return rng.choice(frames)


def sentence_zh(rng: Random) -> str:
    """Make a short message in Chinese."""
    who, thing = person_zh(rng), topic_zh(rng)
    frames = (
        f"请{who}在{clock(rng)}之前处理{thing}",
        f"{thing}已经送到{rng.choice(_CITIES_ZH)}",
        f"{who}需要{rng.randint(2, 90)}份{thing}",
        f"明天和{who}讨论{thing}",
    )
    return rng.choice(frames)


def company(rng: Random) -> str:
    """Name a company."""
    kind = rng.choice(("Ltd", "GmbH", "Labs", "Foods", "Systems", "Group", "Works", "Inc"))
    return f"{coined(rng).capitalize()} {kind}"


def city(rng: Random) -> str:
    """Name a city; one in five does not exist."""
    return rng.choice(_CITIES) if rng.random() < 0.8 else coined(rng).capitalize()


def host(rng: Random) -> str:
    """Name a host on the internet."""
    return (
        f"{rng.choice((coined(rng), rng.choice(_NOUNS)))}{rng.randint(1, 99)}.{_of(_SUFFIXES)(rng)}"
    )


def url(rng: Random) -> str:
    """Make an address of a page."""
    tail = "/".join(slug(rng) for _ in range(rng.choice((0, 1, 1, 2))))
    return f"https://{host(rng)}/{tail}"


def email(rng: Random) -> str:
    """Make an e-mail address."""
    first, last = person(rng).lower().split(" ", 1)
    return f"{first}.{last}@{host(rng)}"


def phone(rng: Random) -> str:
    """Make a telephone number."""
    return f"+{rng.choice((1, 44, 49, 86, 33, 351))}{rng.randint(200_000_000, 999_999_999)}"


def path(rng: Random) -> str:
    """Make the path of a file."""
    return f"{folder(rng)}/{filename(rng)}"


def folder(rng: Random) -> str:
    """Make the path of a folder."""
    root = f"/{_of(_FOLDERS)(rng)}"
    return "/".join(
        [root, *(rng.choice((slug(rng), coined(rng))) for _ in range(rng.choice((1, 2))))]
    )


def filename(rng: Random) -> str:
    """Name a file."""
    return f"{rng.choice((slug(rng), coined(rng), rng.choice(_NOUNS)))}.{_of(_FILES)(rng)}"


def day(rng: Random) -> str:
    """Choose a date, YYYY-MM-DD."""
    return str(date(2024, 1, 1) + timedelta(days=rng.randrange(1200)))


def clock(rng: Random) -> str:
    """Choose a time of the day, HH:MM."""
    return f"{rng.randrange(24):02}:{rng.choice((0, 5, 10, 15, 20, 30, 45, 50)):02}"


def moment(rng: Random) -> str:
    """Choose a moment as ISO 8601 has it."""
    return f"{day(rng)}T{clock(rng)}:00Z"


def identifier(rng: Random) -> str:
    """Make an identifier of one of the usual shapes."""
    digits, lower = string.digits, string.ascii_lowercase
    match rng.randrange(6):
        case 0:
            return _chars(rng, string.ascii_uppercase, rng.choice((1, 2, 3))) + _chars(
                rng, digits, 5
            )
        case 1:
            return f"{coined(rng)[:4]}_{_chars(rng, lower + digits, 8)}"
        case 2:
            return str(rng.randint(1000, 99_999_999))
        case 3:
            return _chars(rng, string.ascii_letters + digits, 11)
        case 4:
            return f"{_chars(rng, string.ascii_uppercase, 3)}-{rng.randint(100, 99_999)}"
        case _:
            return _chars(rng, "0123456789abcdef", 12)


def uuid(rng: Random) -> str:
    """Make a UUID."""
    text = f"{rng.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def secret(rng: Random) -> str:
    """Make a key or a token."""
    return f"{coined(rng)[:3]}_{_chars(rng, string.ascii_letters + string.digits, 16)}"


def street(rng: Random) -> str:
    """Make a postal address."""
    kind = rng.choice(("Street", "Road", "Avenue", "Lane"))
    return f"{rng.randint(1, 220)} {rng.choice(_NOUNS).capitalize()} {kind}, {city(rng)}"


def version(rng: Random) -> str:
    """Make a version number."""
    return f"{rng.randint(0, 9)}.{rng.randint(0, 20)}.{rng.randint(0, 30)}"


def command(rng: Random) -> str:
    """Make a shell command."""
    tool = rng.choice(("ls -la", "cat", "wc -l", "head -n 5", "du -sh", "stat", "grep -c todo"))
    return f"{tool} {path(rng)}"


def sql(rng: Random) -> str:
    """Make a query of a database."""
    table, column = slug(rng).replace("-", "_"), rng.choice(_NOUNS)
    return f"SELECT {column} FROM {table} WHERE {rng.choice(_NOUNS)} > {rng.randint(1, 500)}"


def ip(rng: Random) -> str:
    """Make an IPv4 address."""
    return ".".join(str(rng.randint(1, 254)) for _ in range(4))


def word(rng: Random) -> str:
    """Choose one word."""
    return rng.choice((rng.choice(_NOUNS), rng.choice(_ADJECTIVES), coined(rng), coined(rng)))


def hexadecimal(rng: Random) -> str:
    """Make an address as blockchains have them."""
    return "0x" + _chars(rng, "0123456789abcdef", 40)


def _code(rng: Random) -> str:
    return f"def {coined(rng)}(x): return x * {rng.randint(2, 99)}"


def _ipv6(rng: Random) -> str:
    return ":".join(f"{rng.randrange(1, 65536):x}" for _ in range(8))


def _zone(rng: Random) -> str:
    return rng.choice(
        ("Europe/Lisbon", "Asia/Tokyo", "Africa/Nairobi", "America/Lima", "Asia/Shanghai", "UTC")
    )


def _month(rng: Random) -> str:
    return f"{datetime(2024, rng.randint(1, 12), 1):%B}"


POOLS: Mapping[str, Callable[[Random], str]] = {
    "person": person, "handle": handle, "slug": slug, "title": title, "topic": topic,
    "sentence": sentence, "company": company, "city": city, "host": host, "url": url,
    "email": email, "phone": phone, "path": path, "folder": folder, "filename": filename,
    "day": day, "clock": clock, "moment": moment, "id": identifier, "uuid": uuid,
    "secret": secret, "street": street, "version": version, "command": command, "sql": sql,
    "ip": ip, "word": word, "hex": hexadecimal, "code": _code, "ipv6": _ipv6, "zone": _zone,
    "month": _month, "country": _of(" ".join(_COUNTRIES)), "country_code": _of(_COUNTRY_CODES),
    "language": _of(_LANGUAGES), "language_name": _of(_LANGUAGE_NAMES), "color": _of(_COLORS),
    "currency": _of(_CURRENCIES), "file_type": _of(_FILES),
    "symbol": lambda rng: _chars(rng, string.ascii_uppercase, rng.choice((3, 4, 4, 5))),
    "zip": lambda rng: str(rng.randint(10_000, 99_999)),
    "sort": _of("asc desc"),
}  # fmt: skip
"""By meaning."""

POOLS_ZH: Mapping[str, Callable[[Random], str]] = {
    "person": person_zh, "topic": topic_zh, "title": topic_zh, "sentence": sentence_zh,
    "city": _of(" ".join(_CITIES_ZH)), "word": topic_zh,
    "company": lambda rng: rng.choice(_CITIES_ZH) + topic_zh(rng) + "公司",
}  # fmt: skip
"""Meanings that have Chinese values, too."""

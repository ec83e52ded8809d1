"""What a tool does, as a person would ask for it, in English and in Chinese.

Names and descriptions are strangers' text: of braces and brackets, which templates give a meaning,
nothing is left.

In: names and descriptions. Out: verb phrases and noun phrases. Must not know: schemas, values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from openk2.synth.meanings import words_of

Kind = Literal["create", "read", "list", "change", "delete", "act"]
"""What a call does to the owner's data, as far as the name says it."""

_VERBS: Mapping[str, tuple[Kind, str, tuple[str, ...]]] = {
    "create": ("create", "创建", ("create", "set up", "make")),
    "add": ("create", "添加", ("add", "put in")),
    "new": ("create", "新建", ("create", "make")),
    "insert": ("create", "插入", ("insert", "add")),
    "register": ("create", "注册", ("register",)),
    "book": ("create", "预订", ("book", "reserve")),
    "schedule": ("create", "安排", ("schedule", "plan")),
    "post": ("create", "发布", ("post", "publish")),
    "publish": ("create", "发布", ("publish",)),
    "upload": ("create", "上传", ("upload",)),
    "submit": ("create", "提交", ("submit", "send in")),
    "request": ("create", "申请", ("request", "ask for")),
    "generate": ("create", "生成", ("generate", "make")),
    "get": ("read", "查询", ("get", "show me", "look up", "pull up")),
    "fetch": ("read", "获取", ("fetch", "get", "bring up")),
    "retrieve": ("read", "获取", ("retrieve", "get", "show me")),
    "read": ("read", "读取", ("read", "open")),
    "show": ("read", "显示", ("show me", "display")),
    "describe": ("read", "查看", ("describe", "show me")),
    "view": ("read", "查看", ("show me", "open")),
    "check": ("read", "检查", ("check", "look at")),
    "calculate": ("read", "计算", ("calculate", "work out")),
    "compute": ("read", "计算", ("compute", "work out")),
    "estimate": ("read", "估算", ("estimate",)),
    "convert": ("read", "转换", ("convert",)),
    "translate": ("read", "翻译", ("translate",)),
    "analyze": ("read", "分析", ("analyze", "take a look at")),
    "validate": ("read", "校验", ("validate", "check")),
    "verify": ("read", "验证", ("verify", "check")),
    "count": ("read", "统计", ("count",)),
    "track": ("read", "跟踪", ("track", "follow")),
    "download": ("read", "下载", ("download", "get me")),
    "list": ("list", "列出", ("list", "show me", "give me")),
    "search": ("list", "搜索", ("search for", "find", "look for")),
    "find": ("list", "查找", ("find", "look for")),
    "query": ("list", "查询", ("query", "look up")),
    "lookup": ("list", "查找", ("look up", "find")),
    "browse": ("list", "浏览", ("browse", "show me")),
    "update": ("change", "更新", ("update", "change")),
    "set": ("change", "设置", ("set", "change")),
    "edit": ("change", "编辑", ("edit", "change")),
    "modify": ("change", "修改", ("modify", "change")),
    "change": ("change", "修改", ("change",)),
    "put": ("change", "更新", ("put", "update")),
    "patch": ("change", "更新", ("update",)),
    "rename": ("change", "重命名", ("rename",)),
    "move": ("change", "移动", ("move",)),
    "replace": ("change", "替换", ("replace",)),
    "assign": ("change", "分配", ("assign",)),
    "delete": ("delete", "删除", ("delete", "remove", "get rid of")),
    "remove": ("delete", "移除", ("remove", "take out")),
    "cancel": ("delete", "取消", ("cancel", "call off")),
    "clear": ("delete", "清空", ("clear",)),
    "drop": ("delete", "删除", ("drop",)),
    "send": ("act", "发送", ("send",)),
    "run": ("act", "运行", ("run", "start")),
    "execute": ("act", "执行", ("execute", "run")),
    "start": ("act", "启动", ("start",)),
    "stop": ("act", "停止", ("stop",)),
    "play": ("act", "播放", ("play", "put on")),
    "pause": ("act", "暂停", ("pause",)),
    "open": ("act", "打开", ("open",)),
    "close": ("act", "关闭", ("close",)),
    "enable": ("act", "启用", ("enable", "turn on")),
    "disable": ("act", "停用", ("disable", "turn off")),
    "share": ("act", "分享", ("share",)),
    "pay": ("act", "支付", ("pay",)),
    "buy": ("act", "购买", ("buy", "get me")),
    "order": ("create", "订购", ("order",)),
    "transfer": ("act", "转账", ("transfer",)),
    "approve": ("act", "批准", ("approve",)),
    "reject": ("act", "拒绝", ("reject",)),
    "export": ("act", "导出", ("export",)),
    "import": ("act", "导入", ("import",)),
    "copy": ("act", "复制", ("copy",)),
    "click": ("act", "点击", ("click",)),
    "navigate": ("act", "打开", ("go to",)),
    "write": ("change", "写入", ("write",)),
    "save": ("change", "保存", ("save", "store")),
    "test": ("act", "测试", ("test",)),
    "make": ("create", "制作", ("make",)),
    "apply": ("act", "应用", ("apply",)),
    "invite": ("act", "邀请", ("invite",)),
    "subscribe": ("act", "订阅", ("subscribe to",)),
    "deploy": ("act", "部署", ("deploy",)),
    "install": ("act", "安装", ("install",)),
    "compare": ("read", "比较", ("compare",)),
    "record": ("create", "记录", ("record", "note down")),
    "reserve": ("create", "预约", ("reserve", "book")),
    "attach": ("change", "附加", ("attach",)),
    "connect": ("act", "连接", ("connect",)),
    "reset": ("change", "重置", ("reset",)),
    "restart": ("act", "重启", ("restart",)),
    "archive": ("change", "归档", ("archive",)),
    "merge": ("change", "合并", ("merge",)),
    "extract": ("read", "提取", ("extract",)),
    "scan": ("read", "扫描", ("scan",)),
    "recommend": ("list", "推荐", ("recommend", "suggest")),
    "summarize": ("read", "总结", ("summarize", "sum up")),
    "predict": ("read", "预测", ("predict",)),
    "monitor": ("read", "监控", ("monitor", "keep an eye on")),
    "return": ("read", "返回", ("get", "show me")),
    "provide": ("read", "提供", ("give me", "show me")),
    "display": ("read", "显示", ("show me",)),
    "perform": ("act", "执行", ("perform", "do")),
    "use": ("act", "使用", ("use",)),
    "mark": ("change", "标记", ("mark",)),
    "tag": ("change", "标记", ("tag",)),
    "renew": ("act", "续期", ("renew",)),
    "associate": ("change", "关联", ("associate", "link")),
    "authenticate": ("act", "认证", ("authenticate",)),
    "sign": ("act", "签署", ("sign",)),
    "load": ("act", "加载", ("load",)),
    "select": ("act", "选择", ("select", "pick")),
    "build": ("create", "构建", ("build",)),
    "call": ("act", "呼叫", ("call",)),
    "turn": ("act", "切换", ("turn",)),
    "switch": ("act", "切换", ("switch",)),
    "access": ("read", "访问", ("access",)),
    "evaluate": ("read", "评估", ("evaluate",)),
    "optimize": ("act", "优化", ("optimize",)),
    "simulate": ("read", "模拟", ("simulate",)),
    "detect": ("read", "检测", ("detect",)),
    "identify": ("read", "识别", ("identify",)),
    "filter": ("list", "筛选", ("filter",)),
    "take": ("act", "拍摄", ("take",)),
}
_ZH_VERBS: tuple[tuple[str, Kind], ...] = (
    ("创建", "create"), ("新建", "create"), ("新增", "create"), ("添加", "create"),
    ("预订", "create"), ("提交", "create"), ("生成", "create"), ("删除", "delete"),
    ("移除", "delete"), ("取消", "delete"), ("修改", "change"), ("更新", "change"),
    ("设置", "change"), ("编辑", "change"), ("搜索", "list"), ("列出", "list"), ("查找", "list"),
    ("获取", "read"), ("查询", "read"), ("查看", "read"), ("读取", "read"), ("计算", "read"),
    ("发送", "act"), ("执行", "act"), ("启动", "act"), ("停止", "act"),
)  # fmt: skip
_NOUN_PAIRS = """
    user:用户 users:用户 account:账户 accounts:账户 file:文件 files:文件 folder:文件夹
    directory:目录 event:日程 events:日程 calendar:日历 meeting:会议 task:任务 tasks:任务
    project:项目 projects:项目 message:消息 messages:消息 email:邮箱 mail:邮件 contact:联系方式
    contacts:联系人 phone:电话 number:编号 order:订单 orders:订单 product:产品 products:产品
    item:项目 items:项目 price:价格 cost:费用 payment:付款 invoice:发票 customer:客户
    customers:客户 company:公司 team:团队 group:群组 groups:群组 channel:频道 comment:评论
    comments:评论 post:帖子 posts:帖子 page:页码 pages:页面 document:文档 documents:文档
    doc:文档 note:笔记 notes:笔记 image:图片 images:图片 photo:照片 video:视频 audio:音频
    music:音乐 song:歌曲 album:专辑 artist:歌手 playlist:歌单 movie:电影 book:书 weather:天气
    forecast:预报 temperature:温度 city:城市 country:国家 location:地点 place:地点 address:地址
    route:路线 distance:距离 map:地图 flight:航班 flights:航班 hotel:酒店 room:房间
    restaurant:餐厅 ticket:工单 tickets:工单 booking:预订 reservation:预订 date:日期 time:时间
    day:日期 start:开始 end:结束 duration:时长 name:名称 title:标题 description:描述
    content:内容 text:文本 type:类型 status:状态 state:状态 id:编号 ids:编号 key:键 value:值
    query:关键词 keyword:关键词 keywords:关键词 search:搜索 limit:数量上限 count:数量
    amount:金额 quantity:数量 size:大小 language:语言 currency:货币 rate:汇率 exchange:兑换
    stock:股票 market:市场 data:数据 information:信息 info:信息 details:详情 list:列表
    report:报告 history:历史 statistics:统计 stats:统计 summary:摘要 analysis:分析 settings:设置
    config:配置 configuration:配置 profile:资料 role:角色 permission:权限 permissions:权限
    policy:策略 rule:规则 rules:规则 tag:标签 tags:标签 label:标签 category:类别 categories:类别
    database:数据库 table:表 tables:表 record:记录 records:记录 collection:集合 index:索引
    server:服务器 service:服务 services:服务 instance:实例 cluster:集群 network:网络 domain:域名
    url:网址 link:链接 website:网站 web:网页 path:路径 code:代码 repository:仓库 repo:仓库
    branch:分支 commit:提交 issue:问题 issues:问题 version:版本 device:设备 devices:设备
    light:灯 alarm:闹钟 reminder:提醒 news:新闻 article:文章 articles:文章 game:游戏 player:玩家
    score:分数 patient:患者 doctor:医生 course:课程 student:学生 vehicle:车辆 car:汽车 job:任务
    jobs:任务 log:日志 logs:日志 session:会话 token:令牌 password:密码 source:来源 target:目标
    from:来源 to:目标 sender:发件人 recipient:收件人 owner:所有者 author:作者 color:颜色
    format:格式 model:模型 prompt:提示词 year:年份 month:月份 age:年龄 gender:性别 weight:重量
    height:高度 width:宽度 current:当前 latest:最新 available:可用 all:全部 new:新 recent:最近
    top:热门 first:名 last:姓 full:完整 max:最大 min:最小 total:总 transaction:交易
    transactions:交易 balance:余额 wallet:钱包 budget:预算 tax:税 loan:贷款 subscription:订阅
    plan:计划 campaign:活动 template:模板 workflow:工作流 schedule:安排 review:评价 rating:评分
    feedback:反馈 subject:主题 body:正文 attachment:附件 reason:原因 priority:优先级
    deadline:截止日期 due:截止 member:成员 members:成员 employee:员工 department:部门 store:商店
    cart:购物车 coupon:优惠券 shipment:货运 package:包裹 warehouse:仓库 inventory:库存
    reference:参考号 maker:厂商 remark:备注 handle:用户名 result:结果 created:创建 hour:时间
    copies:份数 recipe:食谱 food:食物 exercise:锻炼 health:健康 energy:能源 power:电量
    speed:速度 level:级别
"""
_NOUNS_ZH: Mapping[str, str] = {
    en: zh for en, _, zh in (pair.partition(":") for pair in _NOUN_PAIRS.split())
}
_SECOND_PERSON = re.compile(r"\b(you|your|this tool|use this|the tool|tool)\b", re.IGNORECASE)
_MARKS = re.compile(r"[\[\]{}<>|`\"“”*#\\\x00-\x1f\x7f]+")
_ENGLISH = re.compile(r"[A-Za-z][A-Za-z0-9 ,'/()&-]*")
_HAN = re.compile(r"[\u3400-\u9fff]")
_MOST_WORDS = 14
_MOST_HAN = 24


@dataclass(frozen=True, slots=True)
class Doing:
    """What a tool does."""

    kind: Kind
    en: tuple[str, ...]
    """Verb phrases in the imperative: `delete the file`."""
    zh: tuple[str, ...]
    noun_en: str
    """What it does it to: `file`."""
    noun_zh: str


def harmless(text: str) -> str:
    """Take out what templates, markup and terminals would read as theirs."""
    return " ".join(_MARKS.sub(" ", text).split())


def has_han(text: str) -> bool:
    """Tell whether a text is Chinese, at least in part."""
    return _HAN.search(text) is not None


def doing_of(name: str, description: str) -> Doing:
    """Say what a tool does.

    Args:
        name: The tool's name; what is before a `__` is its server's.
        description: What its owner says about it.
    """
    words = words_of(name.rpartition("__")[2]) or ["it"]
    sentence = _first_sentence(description)
    told = _imperative(sentence)
    verb, noun = _verb_and_noun(words, told.split()[0] if told else "")
    kind, verb_zh, verbs = _VERBS[verb]
    noun_en = " ".join(noun) or "it"
    noun_zh = zh_of(noun) or "内容"
    plain = tuple(f"{verb} {_the(noun_en)}" for verb in verbs)
    chinese = _chinese(sentence)
    told_kinds: list[Kind] = [one for word, one in _ZH_VERBS if word in chinese[:8]]
    zh = (chinese,) if chinese else (f"{verb_zh}{noun_zh}", f"{verb_zh}一下{noun_zh}")
    kinds: list[Kind] = [*told_kinds, kind]
    return Doing(kinds[0], (told, *plain[:2]) if told else plain, zh, noun_en, noun_zh)


def _verb_and_noun(words: list[str], told: str) -> tuple[str, list[str]]:
    """Find the verb: the one that the description begins with, or that the name begins with."""
    at = next((at for at in range(min(3, len(words))) if words[at] in _VERBS), None)
    if at == 2 and told and told != words[2]:
        at = None
    if at is None:
        return told or "get", words
    return words[at], words[at + 1 :] or words[:at]


def zh_of(words: list[str]) -> str:
    """Say a noun phrase in Chinese; words that are in no dictionary stay as they are."""
    told = (word for word in words if word not in ("of", "the", "by", "a"))
    parts = [_NOUNS_ZH.get(word) or _NOUNS_ZH.get(word.removesuffix("s"), word) for word in told]
    text = ""
    for part in parts:
        joint = " " if text and (text[-1].isascii() and part[:1].isascii()) else ""
        text += joint + part
    return text


def _the(noun: str) -> str:
    plural = noun.endswith("s") and not noun.endswith("ss")
    return f"the {noun}" if not plural else noun


def _first_sentence(description: str) -> str:
    head = re.split(
        r"(?<=[a-z0-9)])[.;!?](?:\s|$)|[。；！\n]| - |: ", description[:400], maxsplit=1
    )[0]
    return harmless(head).strip(" .,:;-")


def _imperative(sentence: str) -> str:
    """Turn `Returns the user's rides` into `return …`; empty where that is not safe."""
    found = _ENGLISH.fullmatch(sentence)
    words = sentence.split()
    if not found or not 2 <= len(words) <= _MOST_WORDS or _SECOND_PERSON.search(sentence):
        return ""
    first = _base(words[0].lower())
    if first not in _VERBS:
        return ""
    if first in ("return", "retrieve", "provide"):
        first = "get"
    return " ".join([first, *words[1:]])


def _base(verb: str) -> str:
    for ending, instead in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("es", "e"), ("s", "")):
        if verb.endswith(ending) and verb.removesuffix(ending) + instead in _VERBS:
            return verb.removesuffix(ending) + instead
    return verb


def _chinese(sentence: str) -> str:
    if not has_han(sentence) or len(sentence) > _MOST_HAN:
        return ""
    return re.split(r"[，,（(]", sentence, maxsplit=1)[0].strip()

"""What instructions are given about: plain things, with three plain sentences on each.

In: nothing. Out: topics in English and Chinese. Must not know: instructions, checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from openk2.text.copy_phrases import Lang

_EN = """
the sea | The sea is wide. Its water is salty. Many fish live there.
the moon | The moon goes around the earth. It shines at night. People have walked on it.
bread | Bread is made from flour. It is baked in an oven. Many people eat it for breakfast.
a bicycle | A bicycle has two wheels. You move it with pedals. It needs no fuel.
a library | A library lends books. Readers sit there in silence. It is open to everyone.
winter | Winter is cold. Snow falls in many places. The days are short.
a garden | A garden is full of plants. Flowers bloom there in summer. Someone waters it.
coffee | Coffee is a hot drink. It is made from roasted beans. Many adults drink it early.
a train | A train runs on rails. It carries many passengers. It stops at stations.
cats | Cats are small animals. They hunt mice. They sleep for most of the day.
rain | Rain falls from clouds. It makes the streets wet. Farmers need it.
a doctor | A doctor helps sick people. She knows many medicines. She works in a clinic.
music | Music is made of sounds. Some people play the piano. Others like to sing.
a river | A river carries water to the sea. Boats travel on it. Bridges cross it.
football | Football is played with a ball. Each team has eleven players. They try to score goals.
a market | A market sells fresh food. Farmers bring their fruit. It opens before sunrise.
the sun | The sun is a star. It gives us light and heat. It rises in the east.
a teacher | A teacher works in a school. He explains new ideas. Pupils ask him questions.
mountains | Mountains are high. Their tops are covered with snow. Climbers like them.
tea | Tea is made with leaves. It comes from Asia. Some people add milk.
a kitchen | A kitchen is for cooking. It has a stove. Pots hang on the wall.
birds | Birds have feathers. Most of them can fly. They build nests in trees.
a letter | A letter is written on paper. It travels in an envelope. It needs a stamp.
the forest | The forest is full of trees. Deer hide there. The air is clean.
a clock | A clock shows the time. It has two hands. It ticks quietly.
milk | Milk comes from cows. It is white. Cheese is made from it.
a bridge | A bridge crosses a river. It is made of stone or steel. Cars drive over it.
dogs | Dogs are loyal animals. They like to run. They guard the house.
sleep | Sleep gives us rest. Children need more of it. Dreams come at night.
apples | Apples grow on trees. They are red or green. They taste sweet.
a city | A city has many streets. Thousands of people live there. It is loud.
the wind | The wind moves the leaves. It turns mills. Sailors wait for it.
a hospital | A hospital has many beds. Nurses work there. It is open all night.
chess | Chess is a game for two. It has a king and a queen. You need patience.
a computer | A computer follows programs. It stores files. You type on a keyboard.
rice | Rice grows in wet fields. It is boiled in water. Half of the world eats it.
the weather | The weather changes often. Today it may be sunny. Tomorrow clouds may come.
a ship | A ship sails on water. It carries heavy goods. The captain steers it.
horses | Horses are strong. They eat grass. People ride them.
a birthday | A birthday comes once a year. Friends bring gifts. There is a cake with candles.
"""
_ZH = """
大海 | 大海很宽广。海水是咸的。海里有很多鱼。 | 海 鱼 水
月亮 | 月亮绕着地球转。它在夜里发光。人类登上过月亮。 | 月 地球 夜
面包 | 面包是用面粉做的。它在烤箱里烤熟。很多人早餐吃面包。 | 面包 面粉 烤 早餐
自行车 | 自行车有两个轮子。骑车要踩踏板。它不需要汽油。 | 自行车 轮 骑 踏板
图书馆 | 图书馆里有很多书。大家安静地读书。人人都可以去。 | 书 读 安静
冬天 | 冬天很冷。许多地方会下雪。白天很短。 | 冬 冷 雪
花园 | 花园里有很多植物。夏天花开了。有人给花浇水。 | 花 植物 园
火车 | 火车在铁轨上跑。它载着很多乘客。它在车站停靠。 | 火车 铁轨 乘客 车站
猫 | 猫是小动物。它会抓老鼠。它白天常常睡觉。 | 猫 老鼠 动物
雨 | 雨从云里落下。街道变湿了。农民需要雨。 | 雨 云 湿
医生 | 医生帮助病人。她懂得很多药。她在诊所工作。 | 医 病 药 诊所
音乐 | 音乐由声音组成。有人弹钢琴。也有人喜欢唱歌。 | 音乐 声 琴 歌
河流 | 河水流向大海。船在河上走。桥跨过河流。 | 河 水 船 桥
足球 | 足球比赛有两队。每队十一个人。大家努力进球。 | 足球 球 比赛 队
太阳 | 太阳是一颗恒星。它给我们光和热。它从东边升起。 | 太阳 光 热 恒星
老师 | 老师在学校工作。他讲解新知识。学生向他提问。 | 老师 学校 学生 讲
茶 | 茶用叶子泡成。它来自亚洲。有人喜欢加奶。 | 茶 叶 泡
鸟 | 鸟有羽毛。多数鸟会飞。它们在树上筑巢。 | 鸟 羽毛 飞 巢
森林 | 森林里有很多树。鹿躲在那里。空气很干净。 | 森林 树 鹿 空气
苹果 | 苹果长在树上。它有红的和绿的。它吃起来很甜。 | 苹果 树 甜
城市 | 城市有很多街道。很多人住在那里。城市很热闹。 | 城市 街 热闹 人
风 | 风吹动树叶。它让风车转动。水手等待风。 | 风 吹
马 | 马很强壮。它吃草。人可以骑马。 | 马 草 骑
生日 | 生日一年一次。朋友送来礼物。蛋糕上有蜡烛。 | 生日 礼物 蛋糕 朋友
"""
_COMMON = frozenset(
    [
        "about",
        "they",
        "them",
        "there",
        "their",
        "most",
        "many",
        "some",
        "from",
        "with",
        "comes",
        "made",
        "more",
        "have",
        "for",
        "into",
        "need",
        "needs",
        "likes",
        "like",
        "over",
        "each",
        "other",
        "others",
        "once",
        "make",
        "makes",
        "half",
    ]
)


@dataclass(frozen=True, slots=True)
class Topic:
    """Something to write about."""

    name: str
    lang: Lang
    sentences: tuple[str, ...]
    marks: tuple[str, ...]
    """An answer with none of these is about something else."""

    def touched(self, text: str) -> bool:
        """Tell whether a text is about it."""
        lowered = text.lower()
        return any(mark in lowered for mark in self.marks)


def _topics() -> Iterator[Topic]:
    for line in _EN.strip().splitlines():
        name, text = line.split(" | ")
        said = {word.strip(".,").lower() for word in f"{name} {text}".split()}
        marks = {word for word in said if len(word) > 3 and word not in _COMMON}
        marks.add(name.split()[-1])
        yield Topic(name, "en", tuple(_cut(text, ". ")), tuple(sorted(marks)))
    for line in _ZH.strip().splitlines():
        name, text, marks = line.split(" | ")
        yield Topic(name, "zh", tuple(_cut(text, "。")), tuple(marks.split()))


def _cut(text: str, end: str) -> list[str]:
    return [part.strip(" .。") + end.strip() for part in text.split(end) if part.strip(" .。")]


TOPICS: Mapping[str, Topic] = {topic.name: topic for topic in _topics()}

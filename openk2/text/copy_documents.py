"""Plain pre-training texts that can only be continued by looking back.

In: a word bank and a random generator. Out: short documents: repeated lists, look-ups, and the
same record as JSON and as sentences. They bring forth the induction heads that copying needs.
Must not know: tools, messages, tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from openk2.text.conversations import as_json
from openk2.text.copy_phrases import Lang
from openk2.text.copy_values import VALUES, Stated, WordBank, words

ZH_SHARE = 0.3


def copy_documents(bank: WordBank, seed: int) -> Iterator[str]:
    """Yield documents without end; the same seed and bank give the same ones."""
    index = 0
    while True:
        yield copy_document(Random(f"copy_documents/{seed}/{index}"), bank)
        index += 1


def copy_document(rng: Random, bank: WordBank) -> str:
    """Make one document of one of the kinds."""
    lang: Lang = "zh" if rng.random() < ZH_SHARE else "en"
    kinds = (_repeated, _list_again, _look_up, _json_and_sentences, _table, _quoted)
    return rng.choice(kinds)(rng, bank, lang)


def _repeated(rng: Random, bank: WordBank, lang: Lang) -> str:
    drawn = words(rng, bank, lang, rng.randint(3, 20))
    line = (" " if lang == "en" else "，").join(drawn)
    return "\n".join([line] * rng.randint(2, 3))


def _list_again(rng: Random, bank: WordBank, lang: Lang) -> str:
    drawn = words(rng, bank, lang, rng.randint(3, 10))
    if lang == "zh":
        line = "、".join(drawn)
        return f"清单：{line}。再说一遍：{line}。第一个是{drawn[0]}，最后一个是{drawn[-1]}。"
    line = ", ".join(drawn)
    return f"List: {line}. Again: {line}. The first is {drawn[0]} and the last is {drawn[-1]}."


def _look_up(rng: Random, bank: WordBank, lang: Lang) -> str:
    count = rng.randint(2, 8)
    keys = words(rng, bank, lang, count)
    kind = rng.choice(("word", "phrase", "person", "place", "identifier", "integer", "date"))
    values = [VALUES[kind](rng, bank, lang).text for _ in keys]
    facts = list(zip(keys, values, strict=True))
    if lang == "zh":
        told, ask = "{k}的{n}是{v}。", "{k}的{n}是什么？{v}"
        noun = rng.choice(("名字", "代号", "值", "答案"))
    else:
        told, ask = "The {n} of {k} is {v}.", "What is the {n} of {k}? {v}"
        noun = rng.choice(("name", "code", "value", "answer", "label"))
        if rng.random() < 0.4:
            told, ask = "{k}: {v}", "{k}? {v}"
    lines = [told.format(k=k, n=noun, v=v) for k, v in facts]
    rng.shuffle(facts)
    return "\n".join([*lines, "", *(ask.format(k=k, n=noun, v=v) for k, v in facts)])


def draw_record(
    rng: Random, bank: WordBank, lang: Lang, most: int, *, lists: bool = True
) -> dict[str, tuple[str, Stated]]:
    """Draw at most `most` fields: name to label and value; without `lists` all have one value."""
    fields: dict[str, tuple[str, Stated]] = {}
    plain = [w for w in bank.said.parameters
             if w.kind in VALUES and (lists or not w.kind.endswith("s"))]  # fmt: skip
    for wording in rng.sample(plain, rng.randint(1, most)):
        name = rng.choice(wording.names)
        label = wording.zh_name if lang == "zh" else name.replace("_", " ")
        fields.setdefault(name, (label, VALUES[wording.kind](rng, bank, lang)))
    return fields


_SENTENCES = ("The {label} is {value}", "{label}: {value}")


def _json_and_sentences(rng: Random, bank: WordBank, lang: Lang) -> str:
    fields = draw_record(rng, bank, lang, 5)
    data = as_json({name: stated.value for name, (_, stated) in fields.items()})
    frames = ("{label}是{value}", "{label}：{value}") if lang == "zh" else _SENTENCES
    frame = rng.choice(frames)
    parts = [frame.format(label=label, value=stated.text) for label, stated in fields.values()]
    text = "，".join(parts) + "。" if lang == "zh" else ". ".join(parts) + "."
    halves = [text, data]
    rng.shuffle(halves)
    return "\n".join(halves)


def _table(rng: Random, bank: WordBank, lang: Lang) -> str:
    keys = words(rng, bank, lang, rng.randint(2, 6))
    columns = rng.sample([w for w in bank.said.parameters if w.kind in VALUES], 2)
    names = [c.zh_name if lang == "zh" else c.names[0] for c in columns]
    rows = [[VALUES[c.kind](rng, bank, lang).text for c in columns] for _ in keys]
    lines = ["| | " + " | ".join(names) + " |"]
    lines += [f"| {key} | {' | '.join(row)} |" for key, row in zip(keys, rows, strict=True)]
    at, column = rng.randrange(len(keys)), rng.randrange(2)
    return "\n".join([*lines, f"{keys[at]}, {names[column]}: {rows[at][column]}"])


def _quoted(rng: Random, bank: WordBank, lang: Lang) -> str:
    said = VALUES[rng.choice(("phrase", "email", "identifier", "url", "phone", "address"))](
        rng, bank, lang
    ).text
    name = VALUES["person"](rng, bank, lang).text
    if lang == "zh":
        return f"{name}说：“{said}”。他说了什么？“{said}”。谁说的？{name}。"
    return f'{name} said: "{said}". What was said? "{said}". Who said it? {name}.'

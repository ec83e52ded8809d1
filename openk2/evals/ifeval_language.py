"""Which language a text is in: by its script, then by letters and small words of its own.

In: a text. Out: an ISO 639-1 code, or none where there is nothing to tell by.
Must not know: why it is asked.

It tells apart the languages that IFEval's prompts ask for, and the neighbours that they could be
taken for. Small words decide within a script: a sentence has several, and they differ between
languages that share most of their other words.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_SCRIPTS = {
    "HANGUL": "ko", "THAI": "th", "BENGALI": "bn", "GUJARATI": "gu", "GURMUKHI": "pa",
    "TAMIL": "ta", "TELUGU": "te", "KANNADA": "kn", "MALAYALAM": "ml", "HEBREW": "he",
    "GREEK": "el", "HIRAGANA": "ja", "KATAKANA": "ja", "CJK": "zh", "ARMENIAN": "hy",
    "GEORGIAN": "ka",
}  # fmt: skip
"""Scripts that one language of these has to itself, by the first word of their letters' names."""

_WORDS = {
    "LATIN": {
        "en": "a the and of to is in that it for you was with as on are this be have not they at "
        "but from or an we your can will my there their which if has what when all i his her me "
        "he she him us so do did too just would could been said only about",
        "de": "der die das und ist nicht ein eine ich zu den mit von auf für sich dem es im auch "
        "wie wir sie sind war oder bei nach über aus wird haben kann",
        "fr": "le la les et est des un une que qui pour dans ce pas sur avec au plus il je nous "
        "vous sont du en ne se par mais ou être cette",
        "es": "el la los las y es que de en un una por con para no se su como más pero del al lo "
        "está son este muy cuando también hay ser",
        "pt": "o a os as e é que de em um uma por com para não se seu como mais mas do da no na "
        "dos das ao está são este muito quando também você ser pela pelo",
        "it": "il lo la gli le e è che di in un una per con non si del della dei sono come più ma "
        "anche questo nel alla ho mi ci essere molto quando",
        "nl": "de het een en is van dat niet op te zijn voor met ik je aan er om ook maar wij naar "
        "wordt hebben deze kan bij",
        "sv": "och det att är en som på för med inte jag har av den till om ett var vi men kan ska "
        "från när också",
        "fi": "ja on ei se että hän oli mutta kun niin kuin olen minä sinä myös ovat tämä mitä "
        "joka voi jos tai ole hyvin sen ne me he kanssa",
        "sw": "na ya wa kwa ni za katika la cha kama hii hiyo yake kuwa lakini sana pia watu huu "
        "huo au vya yangu ili hayo wao mimi wewe sisi bila hakuna",
        "vi": "và là của không có cho một những được các người trong tôi với này đã để bạn ở khi "
        "như đến rất cũng nhiều làm",
        "id": "yang dan di ini itu dengan untuk tidak dari dalam adalah akan pada juga saya ke "
        "karena ada mereka kami anda atau bisa oleh",
        "tr": "ve bir bu için ile çok da de ne o gibi daha olarak var ben sen değil ama kadar "
        "sonra olan en mi",
        "pl": "i w nie na się z jest to że do jak ale o co po tak za od dla przez są był ma jego "
        "jej czy może",
    },
    "CYRILLIC": {
        "ru": "и в не на что он с как это по но из у за то от же вы для мы так все она был его они "
        "бы только я к ещё есть быть",
        "bg": "и на да се е за не от че са си с в по като той тя това ще до ми бъде който която "
        "които или но към съм има много сте аз беше",
        "uk": "і в не на що він з як це по але із у за то від же ви для ми так все вона був його "
        "вони та є й до або",
    },
    "DEVANAGARI": {
        "hi": "है हैं के का की में से और को पर यह ने एक नहीं था थे थी हो कि भी जो तो कर रहे लिए वह "
        "मैं आप हम अपने साथ इस",
        "mr": "आहे आहेत आणि च्या चा ची चे मध्ये या हे हा ही ते तो ती नाही होते होता होती केले करून "
        "मी तुम्ही आपण आम्ही साठी एक असे पण व",
        "ne": "छ छन् र को मा ले लाई हो भएको गर्न गर्ने पनि यो त्यो थियो हुन्छ छैन तपाईं हामी म "
        "हुन् गरेको लागि साथ एक भने तर के",
    },
    "ARABIC": {
        "ar": "في من على إلى أن هذا التي الذي عن مع هو هي كان لا ما هذه كل قد لم أو ثم بعد كما و "
        "بين إن ذلك",
        "fa": "و در به از که این را با است برای آن یک خود تا بر هم می شود شد ها های ما من نیست "
        "بود اما هر یا",
        "ur": "کے کی میں ہے اور سے کا کو ہیں نے پر یہ کہ بھی ایک نہیں تو وہ تھا کر ہو جو اس لیے "
        "آپ ہم تھے تھی رہا",
    },
}  # fmt: skip
_OWN_LETTERS = {
    "LATIN": {
        "vi": "ăđơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ",
        "de": "ßäöü", "pt": "ãõ", "es": "ñ¿¡", "pl": "łżąęśźćń", "tr": "ğışİ", "fi": "ä",
        "sv": "åä", "fr": "œêîôûçë",
    },
    "CYRILLIC": {"ru": "ыэё", "uk": "іїєґ", "bg": "ъщ"},
    "DEVANAGARI": {"mr": "ळ"},
    "ARABIC": {"ur": "ٹڈڑںےہھ", "fa": "پچژگ", "ar": "ةىأإ"},
}  # fmt: skip
_LETTER_WEIGHT = 0.5
"""What one letter of its own says for a language, against one small word: most are not wholly its
own."""
_FEWEST = 0.03
"""Small words and own letters per word below which nothing is said; running text has 0.2 or
more."""
_SETS = {
    script: {language: frozenset(words.split()) for language, words in languages.items()}
    for script, languages in _WORDS.items()
}
_ALL = frozenset(_SCRIPTS.values()) | {name for names in _WORDS.values() for name in names}
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|[\u0300-\u036f\u0900-\u0dff\u0e00-\u0e7f\u200c\u200d])*")


def language_of(text: str) -> str | None:
    """Tell the language of most of a text; None where it has no letters or too few small words."""
    script = _main_script(text)
    return None if script is None else _SCRIPTS.get(script) or _by_words(text.casefold(), script)


def may_be(text: str) -> frozenset[str]:
    """Return the languages that are written in a text's script; without letters, all."""
    script = _main_script(text)
    if script is None:
        return _ALL
    alone = _SCRIPTS.get(script)
    return frozenset({alone}) if alone else frozenset(_WORDS.get(script, ()))


def _main_script(text: str) -> str | None:
    scripts = Counter(_script(char) for char in text if char.isalpha())
    if not scripts:
        return None
    if scripts["HIRAGANA"] + scripts["KATAKANA"] > scripts["CJK"] / 10:
        scripts["HIRAGANA"] += scripts.pop("CJK", 0)  # Japanese nouns are written as Chinese ones
    return max(scripts, key=lambda name: _weight(name, scripts[name]))


def _script(char: str) -> str:
    return unicodedata.name(char, "UNKNOWN").split()[0].split("-")[0]


def _weight(script: str, letters: int) -> float:
    """Weigh letters by how much they write: one of Chinese or Hangul stands for two to four."""
    return letters * (3 if script in ("CJK", "HANGUL") else 1)


def _by_words(text: str, script: str) -> str | None:
    languages = _SETS.get(script)
    if languages is None:
        return None
    text = unicodedata.normalize("NFC", text)
    words, letters = Counter(_WORD.findall(text)), Counter(text)
    scores: dict[str, float] = {}
    for language, known in languages.items():
        own = sum(letters[letter] for letter in _OWN_LETTERS[script].get(language, ""))
        said = sum(words[word] * min(1.0, len(word) / 2) for word in known)
        scores[language] = said + _LETTER_WEIGHT * own
    best = max(scores, key=scores.__getitem__)
    return best if scores[best] > _FEWEST * words.total() else None

"""Calls whose copied words are split into tokens as they are where they were read.

`" horst"` in a request may be the tokens ` hor|st`, but `"horst"` in a call `h|or|st`: so it is
with a third of all English words in nano's vocabulary. The text is the same either way; taught in
the tokens that were read, copying is one token after the other, and only the first changes.

In: the tokens of a rendered conversation. Out: the same text in other tokens. Must not know:
messages, tools, what is trained on beyond a mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from openk2.text.template import ARGUMENT_BEGIN, CALL_BEGIN, CALL_END
from openk2.text.tokenizer import Tokenizer


class CopySpelling:
    """Respells the calls of one vocabulary."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Look at every token once."""
        special = set(tokenizer.specials.values())
        self._tokenizer = tokenizer
        self._text = [
            "" if i in special else tokenizer.decode([i]) for i in range(tokenizer.vocab_size)
        ]
        self._word = [text.isascii() and text.isalpha() for text in self._text]
        self._bare = {
            i: tokenizer.encode(text[1:])
            for i, text in enumerate(self._text)
            if text[:1] == " " and text[1:].isascii() and text[1:].isalpha()
        }
        names = (CALL_BEGIN, ARGUMENT_BEGIN, CALL_END)
        self._call, self._arguments, self._end = (tokenizer.specials[name] for name in names)

    def respell(self, ids: Sequence[int], learn: Sequence[bool]) -> tuple[list[int], list[bool]]:
        """Return ids and mask with learned calls in the tokens of what was read before them."""
        read: dict[str, list[int]] = {}
        out: list[int] = []
        mask: list[bool] = []
        within, at = 0, 0
        while at < len(ids):
            token, end = ids[at], at + 1
            if token in (self._call, self._arguments, self._end):
                within = token
            spelled = [token]
            if within == self._call and token != within:
                end = next(i for i in range(at, len(ids)) if ids[i] == self._arguments)
                spelled = self._header(ids[at:end], read) if learn[at] else list(ids[at:end])
            elif within == self._arguments:
                if learn[at] and self._word[token] and self._text[ids[at - 1]][-1:] == '"':
                    end = self._word_end(ids, end)
                    spelled = read.get(self._join(ids[at:end]), list(ids[at:end]))
            elif token in self._bare:
                end = self._word_end(ids, end)
                spelled = list(ids[at:end])
                read[self._join(spelled)[1:]] = [*self._bare[token], *spelled[1:]]
            elif self._text[token] == '":"' and self._text[ids[at - 1]] == "name":
                end = next(i for i in range(end, len(ids)) if self._text[ids[i]][:1] in ('"', ""))
                spelled = list(ids[at:end])
                read[f"functions.{self._join(spelled[1:])}"] = spelled[1:]
            out += spelled
            mask += [learn[at]] * len(spelled)
            at = end
        return out, mask

    def _header(self, ids: Sequence[int], read: Mapping[str, list[int]]) -> list[int]:
        """Spell `functions.NAME:3` with the name as it was declared."""
        name, _, number = self._join(ids).rpartition(":")
        if name not in read:
            return list(ids)
        encode = self._tokenizer.encode
        return [*encode("functions"), *encode("."), *read[name], *encode(f":{number}")]

    def _word_end(self, ids: Sequence[int], at: int) -> int:
        while at < len(ids) and self._word[ids[at]]:
            at += 1
        return at

    def _join(self, ids: Sequence[int]) -> str:
        return "".join(self._text[i] for i in ids)

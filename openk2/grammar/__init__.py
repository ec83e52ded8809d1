"""Strict answers: tools and JSON schemas in, the tokens that may come next out.

In: a rule for one answer and the bytes of a vocabulary. Out: masks, token by token.
Must not know: the engine, HTTP, tokenizer files, or how a conversation is rendered.
"""

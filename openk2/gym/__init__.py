"""Families of problems whose answers a program can check.

In: a seed. Out: problems, how each is played with a model, and what an answer is worth.
Must not know: what learns from them, tokens, tensors.
"""

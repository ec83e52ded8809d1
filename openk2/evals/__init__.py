"""Measuring any language model: benchmarks, the runner, the report.

In: benchmarks' packs and a `ChatModel`. Out: answers on disk, scores with intervals.
Must not know: how a model computes, what is trained, the command line.
"""

"""Token ids in, token ids and log-probabilities out: batched decoding over the latent cache.

In: a model, prompts as token ids, how to sample. Out: a stream of tokens per request.
Must not know: text, tokenizers, tool calls, HTTP.
"""

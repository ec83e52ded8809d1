"""Text to tokens and back: tokenizer, chat template, parser, corpus, packing."""

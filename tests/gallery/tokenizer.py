"""A tokenizer of a few words, made in place: lengths and masks are what planning needs of it, not a vocabulary."""

from typing import Any

import tokenizers
import transformers

SPECIAL = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "bos_token": "<s>"}
WORDS = ("a", "dog", "surfing", "on", "the", "moon")
VOCABULARY = 32
"""Tokens a shrunken text encoder knows: all of these, and some to spare."""
PAD, EOS, UNKNOWN, BOS = range(4)
CHAT = "{% for message in messages %}{% for part in message['content'] %}{{ part['text'] }} {% endfor %}{% endfor %}"


def tiny(max_length: int, side: str = "right", **options: Any) -> transformers.PreTrainedTokenizerFast:
    """A tokenizer that splits at spaces and punctuation, and ends every text with `</s>`."""
    vocabulary = {word: number for number, word in enumerate((*SPECIAL.values(), *WORDS))}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    model.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", EOS)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, model_max_length=max_length, padding_side=side, **SPECIAL, **options
    )

"""Makes a tiny language model's folder: a tokenizer and a configuration. The weights are made by vLLM itself, with
``--load-format dummy``. Run as a script by the interpreter that has vLLM: ``python tiny_model.py FOLDER``.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

VOCABULARY = 2000
CHAT = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def words(count: int) -> list[str]:
    """Made-up words, the same each time: the tokenizer needs text, no meaning."""
    source = random.Random(2000)
    syllables = [a + b for a in "bcdfghjklmnprstvwz" for b in ("a", "e", "i", "o", "u", "ai", "er", "on")]
    return ["".join(source.choices(syllables, k=source.randint(1, 4))) for _ in range(count)]


def make(folder: Path) -> None:
    """Write tokenizer and configuration into ``folder``."""
    # Only the vLLM environment has these.
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # type: ignore[import-not-found]
    from transformers import LlamaConfig, PreTrainedTokenizerFast  # type: ignore[import-not-found]

    specials = ["<s>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = words(60_000)
    tokenizer.train_from_iterator((" ".join(text[at : at + 12]) for at in range(0, len(text), 12)), trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise SystemExit(f"the tokenizer has {tokenizer.get_vocab_size()} tokens instead of {VOCABULARY}")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="<|end|>", pad_token="<|end|>", chat_template=CHAT
    )
    fast.save_pretrained(folder)
    LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        dtype="bfloat16",
        bos_token_id=0,
        eos_token_id=1,
    ).save_pretrained(folder)


if __name__ == "__main__":
    make(Path(sys.argv[1]))

"""A random PerceptionLM of a few hundred kilobytes with a tokenizer of single bytes, in a folder."""

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from midsight.configs import PEConfig
from midsight.plm import PLM, PLMConfig
from midsight.plm.model import build_language_model
from midsight.plm.tokenizer import JsonTokenizer

SPECIAL = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|image|>", "<|video|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>",
)  # fmt: skip
TOWER = PEConfig(
    patch_size=14, width=32, layers=2, heads=2, mlp_ratio=2.0, output_dim=None, image_size=56, pool_type="none",
    use_ln_post=False, ls_init_value=0.1, use_cls_token=True,
)  # fmt: skip


def save(folder: Path, context: int = 1024, seed: int = 0) -> Path:
    """A folder in transformers' layout; every weight is drawn anew, and the answer depends on picture and question."""
    source = folder.parent / f"{folder.name}-tokenizer"
    source.mkdir(parents=True)
    byte_tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    coder = Tokenizer(models.BPE({token: index for index, token in enumerate(byte_tokens)}, []))
    coder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    coder.decoder = decoders.ByteLevel()
    coder.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    coder.save(str(source / "tokenizer.json"))
    ids = {name: coder.token_to_id(name) for name in SPECIAL}
    text = dict(
        model_type="llama", hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, vocab_size=256 + len(SPECIAL), max_position_embeddings=context,
        tie_word_embeddings=False, bos_token_id=ids["<|begin_of_text|>"], eos_token_id=ids["<|eot_id|>"],
    )  # fmt: skip
    config = PLMConfig(
        TOWER, text, image_token_id=ids["<|image|>"], video_token_id=ids["<|video|>"], max_tiles=4,
        tie_word_embeddings=False, stop_token_ids=(ids["<|end_of_text|>"], ids["<|eot_id|>"]),
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = PLM(config, build_language_model(text), JsonTokenizer(source / "tokenizer.json"))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval().save_pretrained(folder)

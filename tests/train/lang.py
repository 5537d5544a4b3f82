"""Tiny parts for tests of training with a language model, and a program that trains on them.

Run as a program: FOLDER DATA START [KEY=VALUE ...] [--resume] [--stop STEP]
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer

from midsight import pe
from midsight.checkpoints import save_pretrained
from midsight.configs import PreprocessConfig
from midsight.plm.model import build_language_model
from midsight.train.align_lang import train_lang
from midsight.train.config import changed, read_settings
from midsight.train.lang_config import LangConfig
from tests import peers
from tests.plm import tiny

CORE = pe.PEConfig(
    patch_size=14, width=48, layers=4, heads=4, mlp_ratio=2.0, output_dim=16, image_size=28, use_cls_token=True
)
TEXT = pe.PETextConfig(context_length=8, width=32, heads=2, layers=2, output_dim=16, vocab_size=64)
SMOL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<empty_output>")


def core(folder: Path, seed: int = 1) -> Path:
    """A PE-Core pair at 28 pixels."""
    model = peers.randomize(pe.CLIP(CORE, TEXT), seed)
    preprocess = PreprocessConfig(image_size=28)
    return save_pretrained(folder, model.state_dict(), name="core", vision=CORE, text=TEXT, preprocess=preprocess)


def language(folder: Path, names: tuple[str, ...] = SMOL, spare: int = 0, **more: Any) -> Path:
    """A language model of transformers with a tokenizer of those special tokens."""
    tokenizer = Tokenizer.from_str(tiny._trained())
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    rows = tokenizer.get_vocab_size() + spare
    stops = dict(eos_token_id=tokenizer.token_to_id("<|im_end|>"), bos_token_id=None)
    text = dict(tiny.LANGUAGE, vocab_size=rows, tie_word_embeddings=True) | stops | more
    model = peers.randomize(build_language_model(text), seed=2)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def recipe(data: Path | str, **changes: Any) -> LangConfig:
    """A short run; keys with two underscores stand for those with a dot."""
    values: dict[str, Any] = {
        "steps": 4,
        "model": {"max_tiles": 4, "max_frames": 4},
        "tower": {"drop_path": 0.0},
        "data": {"sets": [{"rows": str(data)}], "batch_size": 4, "max_length": 160, "workers": 1},
        "optim": {"lr": 2e-3, "warmup_steps": 1},
        "run": {"device": "cpu", "log_every": 1},
    }
    config = changed(LangConfig(), values, "test")
    for key, value in changes.items():
        group, _, name = key.partition("__")
        config = changed(config, {group: {name: value}} if name else {group: value}, "test")
    return config


def _program() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("data")
    parser.add_argument("start")
    parser.add_argument("changes", nargs="*")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--stop", type=int, default=0)
    asked = parser.parse_args()

    def stop(record: Mapping[str, Any]) -> None:
        if record["step"] == asked.stop:
            os.kill(os.getpid(), signal.SIGTERM)

    named = [f"model.start={json.dumps(asked.start)}", *asked.changes]
    config = read_settings(recipe(asked.data), None, named)
    outcome = train_lang(config, asked.folder, resume=asked.resume, report=stop)
    return 0 if outcome.finished else 128 + (outcome.signal or 15)


if __name__ == "__main__":
    torch.set_num_threads(1)
    status = _program()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

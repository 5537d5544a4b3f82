"""Weights: files and foreign layouts to the published state dict and back. Names and shapes only, no modules.

read_state_dict("PE-Core-L14-336.pt")       published names, whatever the layout
open_pretrained("facebook/PE-Core-L14-336") the same with configuration and preprocessing
save_pretrained(folder, ...), load_pretrained(folder)
convert(source, target, to="timm")          official, timm, open_clip, perception_lm, midsight
to_timm, from_timm, to_open_clip, ...       between dictionaries
"""

from midsight.checkpoints.convert import LAYOUTS, Converted, Summary, convert, inspect
from midsight.checkpoints.hub import EMBEDDED, Source, cached_file, is_cached, resolve
from midsight.checkpoints.identity import identity
from midsight.checkpoints.match import check, infer_config
from midsight.checkpoints.official import expected_shapes, from_official, to_official
from midsight.checkpoints.open_clip import from_open_clip, to_open_clip
from midsight.checkpoints.perception_lm import from_perception_lm, to_perception_lm, to_perception_lm_native
from midsight.checkpoints.pretrained import (
    Pretrained,
    load_pair,
    load_pretrained,
    load_tower,
    open_pretrained,
    save_pretrained,
)
from midsight.checkpoints.reader import detect_layout, read_state_dict, read_tensors, to_published
from midsight.checkpoints.renames import text_tower, vision_tower
from midsight.checkpoints.timm import from_timm, to_timm
from midsight.checkpoints.writer import write_safetensors, write_torch

__all__ = [
    "EMBEDDED",
    "LAYOUTS",
    "Converted",
    "Pretrained",
    "Source",
    "Summary",
    "cached_file",
    "check",
    "convert",
    "detect_layout",
    "expected_shapes",
    "from_official",
    "from_open_clip",
    "from_perception_lm",
    "from_timm",
    "identity",
    "infer_config",
    "inspect",
    "is_cached",
    "load_pair",
    "load_pretrained",
    "load_tower",
    "open_pretrained",
    "read_state_dict",
    "read_tensors",
    "resolve",
    "save_pretrained",
    "text_tower",
    "to_official",
    "to_open_clip",
    "to_perception_lm",
    "to_perception_lm_native",
    "to_published",
    "to_timm",
    "vision_tower",
    "write_safetensors",
    "write_torch",
]

"""Perception Encoder: the vision tower, the text tower and the pair, under their published names."""

from midsight.configs import PEConfig, PETextConfig
from midsight.pe.clip import CLIP
from midsight.pe.text import TextTransformer
from midsight.pe.vision import VisionTransformer

__all__ = ["CLIP", "PEConfig", "PETextConfig", "TextTransformer", "VisionTransformer"]

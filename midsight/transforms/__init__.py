"""Pixels and text to tensors, as the published checkpoints expect them."""

from midsight.transforms.image import get_image_transform
from midsight.transforms.tokenizer import TextTokenizer, get_text_tokenizer

__all__ = ["TextTokenizer", "get_image_transform", "get_text_tokenizer"]

"""torchvision's operators (`roi_align`, `batched_nms`, ...), or a word on how to get them."""

from midsight.errors import MissingDependencyError

try:
    from torchvision import ops
except ImportError as error:
    raise MissingDependencyError("detection needs torchvision: pip install 'midsight[dense]'") from error

__all__ = ["ops"]

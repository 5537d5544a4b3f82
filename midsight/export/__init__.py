"""Models for other programs: ONNX, OpenVINO and torch.export files whose numbers are checked."""

from midsight.export.card import Card, Port, read_card
from midsight.export.config import ExportConfig
from midsight.export.run import Exported, export
from midsight.export.runner import Runner

__all__ = ["Card", "ExportConfig", "Exported", "Port", "Runner", "export", "read_card"]

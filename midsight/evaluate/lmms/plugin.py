"""What lmms-eval loads from the entry point `lmms_eval.models`: the name of the model and where its class is.

`lmms-eval --model midsight_plm --model_args pretrained=FOLDER --tasks ...`
"""

from typing import Any

MODEL = "midsight_plm"


def manifest() -> Any:
    """lmms-eval's ModelManifest of the model."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id=MODEL, simple_class_path="midsight.evaluate.lmms.model.MidsightPLM")

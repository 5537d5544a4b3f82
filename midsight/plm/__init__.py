"""PerceptionLM: a PE tower in front of a language model of transformers.

PLM.from_pretrained("facebook/Perception-LM-1B")   or a folder, in transformers' layout or the published one
"""

from midsight.plm.config import PLMConfig
from midsight.plm.decode import Sampling
from midsight.plm.model import PLM

__all__ = ["PLM", "PLMConfig", "Sampling"]

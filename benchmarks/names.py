"""The models measured, under each library's name, and the smallest programs. Imports nothing: `child.py` reads it."""

TIMM_NAMES = {
    "PE-Core-T16-384": "vit_pe_core_tiny_patch16_384",
    "PE-Core-S16-384": "vit_pe_core_small_patch16_384",
    "PE-Core-B16-224": "vit_pe_core_base_patch16_224",
}
OPEN_CLIP_NAMES = {
    "PE-Core-T16-384": "PE-Core-T-16-384",
    "PE-Core-S16-384": "PE-Core-S-16-384",
    "PE-Core-B16-224": "PE-Core-B-16",
}
SIZES = {"PE-Core-T16-384": 384, "PE-Core-S16-384": 384, "PE-Core-B16-224": 224}  # side of the input, pixels
GFLOP = {"PE-Core-T16-384": 9.5, "PE-Core-S16-384": 31.3, "PE-Core-B16-224": 35.6}  # 2 x multiply-adds of one image


def nothing() -> None:
    """What Python alone takes."""


def only_midsight() -> None:
    """What `import midsight` takes."""
    import midsight  # noqa: F401

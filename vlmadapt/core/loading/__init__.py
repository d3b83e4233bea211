"""Loading backbones by name, and verifying them."""

from vlmadapt.core.loading.load import load_backbone, untrained

__all__ = ["load_backbone", "untrained"]

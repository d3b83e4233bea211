"""Loading backbones by name, and verifying them."""

from vlmadapt.core.loading.load import is_published, load_backbone, untrained

__all__ = ["is_published", "load_backbone", "untrained"]

"""Frozen dual encoders, seen as two towers."""

from vlmadapt.core.backbone.backbone import Backbone, Tower
from vlmadapt.core.backbone.image_tower import ImageTower
from vlmadapt.core.backbone.text_tower import TextTower

__all__ = ["Backbone", "ImageTower", "TextTower", "Tower"]

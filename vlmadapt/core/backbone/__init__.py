"""Frozen dual encoders, seen as two towers."""

from vlmadapt.core.backbone.backbone import Backbone
from vlmadapt.core.backbone.tower import ImageTower, TextTower

__all__ = ["Backbone", "ImageTower", "TextTower"]

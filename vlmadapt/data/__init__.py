"""Labelled images: where they come from, how they are split, and how they reach a model."""

"""Zero-shot CLIP, the baseline without training."""

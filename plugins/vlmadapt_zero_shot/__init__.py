"""What a frozen CLIP can do without any training."""

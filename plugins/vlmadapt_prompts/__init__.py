"""Prompt-learning methods: trainable context vectors around the class name."""

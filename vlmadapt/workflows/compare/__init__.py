"""Comparing methods: a grid of ordinary runs, and what follows from their numbers."""

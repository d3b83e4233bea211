"""Comparing methods over data sets and seeds."""

"""Classifiers on cached features of the frozen backbone: linear heads, closed forms, and a trained projection."""

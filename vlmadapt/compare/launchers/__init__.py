"""Launchers: ways to run the jobs of a comparison, found through the entry-point group `vlmadapt.launchers`."""

"""Methods that adapt features or blocks: branches, low-rank updates, caches, linear probe."""

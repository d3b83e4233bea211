"""Methods that add small branches to blocks or features."""

"""Files that `vlmadapt new` writes, with `$name` where something is to be filled in."""

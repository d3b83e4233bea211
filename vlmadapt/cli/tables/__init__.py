"""Tables printed by the command line."""

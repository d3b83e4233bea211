"""Methods that train norms and per-channel scales of both towers: 2SFS and MAIL."""

"""What a user does: fit, evaluate, predict."""

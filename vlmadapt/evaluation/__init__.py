"""Testing and predicting with finished runs."""

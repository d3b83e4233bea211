"""Methods that learn prompts in both towers at once."""

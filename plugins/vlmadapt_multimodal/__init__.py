"""Methods that learn prompts in the image tower, most of them in both towers."""

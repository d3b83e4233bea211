"""Finished runs in use elsewhere: exported models, the Hugging Face Hub, a page to try them, explanations."""

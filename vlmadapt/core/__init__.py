"""The core: backbones, hooks, the engine. It knows no method by name."""

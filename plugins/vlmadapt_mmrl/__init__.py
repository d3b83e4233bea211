"""Multi-Modal Representation Learning and its successor."""

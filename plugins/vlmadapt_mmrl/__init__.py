"""Multi-Modal Representation Learning: MMRL and MMRL++."""

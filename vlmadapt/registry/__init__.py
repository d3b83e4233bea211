"""Plugin discovery through entry points, static descriptions of plugins, and the scaffold of a new one."""

from vlmadapt.registry.entry_points import (
    API_VERSION,
    BACKBONES,
    DATASETS,
    KIND,
    METHODS,
    ONLY,
    OWN,
    PUBLISHED,
    STRICT,
    SUPPORTED_APIS,
    Plugin,
    find,
    missing,
    plugins,
    strict,
    unreadable,
)

__all__ = [
    "API_VERSION",
    "BACKBONES",
    "DATASETS",
    "KIND",
    "METHODS",
    "ONLY",
    "OWN",
    "PUBLISHED",
    "STRICT",
    "SUPPORTED_APIS",
    "Plugin",
    "find",
    "missing",
    "plugins",
    "strict",
    "unreadable",
]

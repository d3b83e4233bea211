"""Prompt templates of data sets and users."""

from __future__ import annotations

from collections.abc import Sequence

from vlmadapt.errors import DataError

DEFAULT_TEMPLATES = ("a photo of a {}.",)
"""Templates of data without their own."""


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """The templates as a tuple.

    Raises:
        DataError: the list is empty, or a template does not hold exactly one `{}`.
    """
    if not templates:
        raise DataError(f"no prompt template was given; use for example '{DEFAULT_TEMPLATES[0]}'.")
    for template in templates:
        if template.count("{}") != 1:
            raise DataError(
                f"template '{template}' must hold exactly one {{}} for the class name, as in '{DEFAULT_TEMPLATES[0]}'."
            )
    return tuple(templates)

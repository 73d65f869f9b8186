"""What recipes, schedules and augmentations check when they are made."""

from dataclasses import fields

import numpy as np


def as_plain_numbers(settings) -> None:
    """NumPy's numbers become Python's: JSON, checkpoints and generators want plain ones."""
    for item in fields(settings):
        value = getattr(settings, item.name)
        if isinstance(value, np.generic):
            object.__setattr__(settings, item.name, value.item())


def check(settings, name: str, fine: bool, wanted: str) -> None:
    """Raises ValueError with the value of the field `name` and what is wanted, unless `fine`."""
    if not fine:
        value = getattr(settings, name)
        raise ValueError(f"{type(settings).__name__}({name}={value!r}): give {wanted}")


def is_whole(value) -> bool:
    """A whole number, True and False left out."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value) -> bool:
    """A number, True and False left out."""
    return isinstance(value, int | float) and not isinstance(value, bool)

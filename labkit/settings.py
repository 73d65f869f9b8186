"""What is checked of numbers that a user gives, and of the fields of recipes and the like."""

from dataclasses import fields
from numbers import Integral, Real

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
    """A whole number, NumPy's too; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value) -> bool:
    """A real number, NumPy's too; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)

"""labkit: the package behind the labs.

    import labkit
    data = labkit.load("fashion_mnist")
    history = labkit.fit(model, data, labkit.Recipe(epochs=5))

Names are imported when they are first used, so that ``import labkit`` costs next to nothing.
"""

import importlib

__version__ = "0.1.0"

_ROOMS = (
    "data",
    "augment",
    "layers",
    "models",
    "numpy_net",
    "summary",
    "train",
    "calibration",
    "speedrun",
    "study",
    "plot",
    "widgets",
    "clinic",
    "bugs",
    "checks",
    "environment",
    "exercises",
    "publish",
)

# What a notebook may write as labkit.NAME, and the room that it lives in.
_NAMES = {
    "load": "data",
    "Recipe": "train",
    "Constant": "train",
    "Step": "train",
    "Plateau": "train",
    "Cosine": "train",
    "OneCycle": "train",
    "fit": "train",
    "evaluate": "train",
    "lr_range": "train",
    "predict": "train",
    "read_curves": "train",
    "device": "train",
    "diagnose": "clinic",
    "is_quick": "environment",
}

__all__ = [*_NAMES, *_ROOMS]


def __getattr__(name: str):
    if name in _NAMES:
        return getattr(importlib.import_module(f"labkit.{_NAMES[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"labkit.{name}")
    raise AttributeError(f"labkit has no {name!r}; it has {', '.join(sorted(__all__))}")


def __dir__():
    return sorted(__all__)

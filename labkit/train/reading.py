"""What the curves of a run say: `labkit.read_curves`."""

import numpy as np
import pandas as pd

# A symptom is named from here on. Chosen by looking at small runs on CIFAR-10, not derived.
ZIGZAG = 0.03  # of the validation loss: how far an epoch lies off the mean of its neighbours
WIDE_GAP, WIDER = 0.10, 0.05  # of accuracy: at the end, and how much it has grown
SMALL_FALL = 0.03  # of the training loss, from one third of the run to the next
LEARNED = 0.90  # training accuracy above which a flat training loss is no complaint

_COLUMNS = ("train_loss", "train_acc", "val_loss", "val_acc")
_FEWEST = 6


def read_curves(history) -> dict[str, str]:
    """The symptoms that a run's curves show: a sentence each, with its evidence and what to try.

    history: what `fit` returns, or its `frame()`, or one run of `labkit.study.epochs`.
    Keys, as far as they are found:

    - "oscillation": the validation loss turns round in at least half of the epochs, and typically
      lies 3 % or more of itself off the mean of its two neighbours;
    - "gap": training accuracy is 0.10 or more above validation accuracy in the last third of the
      run, and the distance has grown by 0.05 or more since the first;
    - "plateau": the training loss falls by less than 3 % from the second third to the last, at a
      training accuracy below 0.90.

    The limits are rules of thumb. An empty dict is no certificate.

    Raises ValueError for several runs at once, without validation, for fewer than 6 epochs, or for
    a value that is not finite.
    """
    frame = history if isinstance(history, pd.DataFrame) else history.frame()
    if "epoch" in frame and frame["epoch"].duplicated().any():
        raise ValueError("these are the epochs of several runs: choose one configuration and seed")
    values = {column: _values(frame, column) for column in _COLUMNS}
    found = {
        "oscillation": _oscillation(values["val_loss"]),
        "gap": _gap(values["train_acc"], values["val_acc"], values["val_loss"]),
        "plateau": _plateau(values["train_loss"], values["train_acc"]),
    }
    return {symptom: sentence for symptom, sentence in found.items() if sentence}


def _values(frame: pd.DataFrame, column: str) -> np.ndarray:
    if column not in frame:
        validation = column.startswith("val")
        way_out = (
            "load the data with val_fraction above 0" if validation else "give what fit returns"
        )
        raise ValueError(f"the run has no {column}, and curves can't be read without: {way_out}")
    values = frame[column].to_numpy(float)
    if len(values) < _FEWEST:
        raise ValueError(
            f"{len(values)} epochs are too few to read curves from: train for {_FEWEST} or more"
        )
    if not np.isfinite(values).all():
        epoch = int((~np.isfinite(values)).argmax()) + 1
        raise ValueError(
            f"{column} is {values[epoch - 1]} in epoch {epoch}: the run diverged, take a smaller lr"
        )
    return values


def _oscillation(val_loss: np.ndarray) -> str:
    steps = np.diff(val_loss)
    turns, most = int((steps[1:] * steps[:-1] < 0).sum()), len(steps) - 1
    off = np.abs(val_loss[1:-1] - (val_loss[2:] + val_loss[:-2]) / 2)
    zigzag = float(np.median(off) / np.median(val_loss))
    if turns < most / 2 or zigzag < ZIGZAG:
        return ""
    return (
        f"Oscillation: the validation loss turns round in {turns} of {most} epochs, and is "
        f"typically {zigzag:.0%} away from the mean of the epochs before and after. Try a smaller "
        "lr, or a schedule that lets it fall."
    )


def _gap(train_acc: np.ndarray, val_acc: np.ndarray, val_loss: np.ndarray) -> str:
    gaps = _thirds(train_acc - val_acc)
    if gaps[2] < WIDE_GAP or gaps[2] - gaps[0] < WIDER:
        return ""
    lowest = int(val_loss.argmin())
    rise = _thirds(val_loss)[2] / val_loss[lowest] - 1
    stop = ", and stop early" if lowest + 1 < len(val_loss) else ""
    return (
        f"Gap: training accuracy is {gaps[2]:.2f} above validation accuracy in the last third, "
        f"{gaps[0]:.2f} in the first; in the last third the validation loss is on average "
        f"{rise:.0%} above its lowest (epoch {lowest + 1}). Try more images, augmentation, dropout "
        f"or weight decay{stop}."
    )


def _plateau(train_loss: np.ndarray, train_acc: np.ndarray) -> str:
    _, before, last = _thirds(train_loss)
    reached = _thirds(train_acc)[2]
    fall = 1 - last / before if before else 0.0
    if fall >= SMALL_FALL or reached >= LEARNED:
        return ""
    change = f"{fall:.1%} less" if fall >= 0 else f"{-fall:.1%} more"
    return (
        f"Plateau: the training loss is {last:.2f} in the last third, {change} than in the third "
        f"before, at a training accuracy of only {reached:.2f}. Try another lr (smaller if the "
        "loss fell before, larger if it never did), then a larger network."
    )


def _thirds(values: np.ndarray) -> tuple[float, float, float]:
    """Means over the first, the second and the last third of the epochs."""
    return tuple(float(part.mean()) for part in np.array_split(values, 3))

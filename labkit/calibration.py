"""Does a classifier know how sure it may be? Its reliability, one number for it, and a remedy.

Source: Guo, Pleiss, Sun and Weinberger 2017, On Calibration of Modern Neural Networks.
"""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

_COOLEST, _HOTTEST = 0.01, 100.0


def reliability(probabilities: Tensor, labels: Tensor, bins: int = 15) -> pd.DataFrame:
    """Confidence and accuracy of the images whose confidence lies in one of `bins` equal bins.

    probabilities: N x C, their rows sum to 1.  labels: N, the true classes. An image's confidence
    is the largest of its probabilities; bin m holds those in ((m - 1) / bins, m / bins].

    One row a bin: low and high (its ends), images (how many), hits (how many are right),
    confidence and accuracy (means, fractions; NaN in an empty bin). Raises ValueError for other
    shapes, or rows that do not sum to 1.
    """
    probabilities, labels = _checked(probabilities, labels)
    if bins < 1:
        raise ValueError(f"reliability(bins={bins}): give one bin or more, as 15")
    confidence, predictions = (x.numpy() for x in probabilities.max(1))
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    hits = np.bincount(place, weights=predictions == labels.numpy(), minlength=bins).astype(int)
    total = np.bincount(place, weights=confidence, minlength=bins)
    some = np.where(count > 0, count, np.nan)
    edges = np.arange(bins + 1) / bins
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "images": count,
            "hits": hits,
            "confidence": total / some,
            "accuracy": hits / some,
        }
    )


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """The distance between confidence and accuracy, on average over all images; a fraction.

    Arguments and errors as in `reliability`. 0 for a classifier that is right in 70 % of the
    cases in which it is sure to 70 %. It depends on `bins`, and with few images chance alone
    keeps it above 0. Source: Guo et al. 2017, equation 3.
    """
    table = reliability(probabilities, labels, bins)
    gaps = (table["accuracy"] - table["confidence"]).abs().fillna(0)
    return float((gaps * table["images"]).sum() / table["images"].sum())


def temperature(logits: Tensor, labels: Tensor) -> float:
    """The T above 0 for which softmax(logits / T) has the smallest cross-entropy on these images.

    logits: N x C, of images that the model was not trained on, and that it is not tested on: the
    validation set.  labels: N. T > 1 makes the model less sure, T < 1 surer; no prediction
    changes. Between 0.01 and 100: the lower end where no image is wrong, the upper one where the
    labels' logits lie on average below the mean of their rows.
    Raises ValueError for other shapes, or logits that are not finite.

    The derivative of the loss in b = 1 / T is the mean of (the logits' average under softmax - the
    label's logit). It never falls as b grows, so that halving an interval finds its zero.
    Source: Guo et al. 2017, section 4.2.
    """
    logits, labels = _shapes(logits, labels, "logits")
    right = logits.gather(1, labels[:, None]).mean()

    def slope(b: float) -> float:
        return ((logits * (b * logits).softmax(1)).sum(1).mean() - right).item()

    low, high = np.log(1 / _HOTTEST), np.log(1 / _COOLEST)  # of b
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(float(np.exp(middle))) > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


def _shapes(values: Tensor, labels: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Both on the CPU, the values in float64."""
    values, labels = torch.as_tensor(values), torch.as_tensor(labels)
    if values.dim() != 2 or not len(values) or labels.shape != values.shape[:1]:
        raise ValueError(
            f"calibration needs {name} N x C and labels N, got {tuple(values.shape)} and "
            f"{tuple(labels.shape)}: give an evaluation's {name} and labels"
        )
    if not values.isfinite().all():
        raise ValueError(f"these {name} are not all finite: did the run diverge?")
    if labels.min() < 0 or labels.max() >= values.shape[1]:
        raise ValueError(
            f"labels go from {labels.min()} to {labels.max()}, but {name} have {values.shape[1]} "
            "classes: give those of one evaluation"
        )
    return values.detach().cpu().double(), labels.cpu().long()


def _checked(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    probabilities, labels = _shapes(probabilities, labels, "probabilities")
    sums = probabilities.sum(1)
    if probabilities.min() < 0 or (sums - 1).abs().max() > 1e-3:
        raise ValueError(
            f"probabilities are 0 or more, and their rows sum to 1; here they run from "
            f"{probabilities.min():.3g}, and a row sums to {sums[(sums - 1).abs().argmax()]:.3g}: "
            "give evaluation.probabilities, or logits.softmax(1)"
        )
    return probabilities, labels

"""Small data that every test can train on: no network, no real data set."""

import os

import pytest
import torch

import labkit
from labkit.data import Split, Splits

# Two processes test side by side; each keeps to its own core.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")


def make_splits(n=240, classes=3, shape=(1, 8, 8), val=True, seed=0) -> Splits:
    """Noisy images whose class is the column of a bright stripe: easy, but not trivial."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(3 * n) // 3 % classes
    images = torch.randint(0, 120, (3 * n, *shape), generator=generator, dtype=torch.uint8)
    for label in range(classes):
        images[labels == label, :, :, 2 * label] += 100
    names = tuple(f"class {label}" for label in range(classes))
    mean, std = (0.3,) * shape[0], (0.2,) * shape[0]
    parts = [
        Split(images[part::3], labels[part::3], names, f"stripes {name}", mean, std)
        for part, name in enumerate(("train", "val", "test"))
    ]
    return Splits(
        name="stripes",
        train=parts[0],
        val=parts[1] if val else None,
        test=parts[2],
        fingerprint=f"stripes-{n}-{seed}",
    )


@pytest.fixture
def stripes() -> Splits:
    return make_splits()


@pytest.fixture
def make_model():
    """A small network with Dropout and BatchNorm, whose weights depend on the seed alone."""

    def build(seed=0, inputs=64, classes=3):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return torch.nn.Sequential(
                torch.nn.Flatten(),
                torch.nn.Linear(inputs, 16),
                torch.nn.BatchNorm1d(16),
                torch.nn.ReLU(),
                torch.nn.Dropout(0.2),
                torch.nn.Linear(16, classes),
            )

    return build


@pytest.fixture
def quick_fit():
    """`labkit.fit` without a progress bar."""

    def fit(model, data, **recipe):
        return labkit.fit(model, data, labkit.Recipe(**recipe), progress=False)

    return fit

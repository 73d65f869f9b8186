"""The order of images, and which of them are set aside: the same wherever the files came from."""

from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

_CHUNK = 1024  # images that are copied at a time, small enough for the processor's cache


@dataclass(frozen=True, eq=False)
class Pool:
    """Some of the images of a source, in canonical order.

    pixels, labels, hashes: of all images, as the source gives them.
    order: the indices of this pool's images, sorted by the hash of their pixels (then by label).
    """

    pixels: np.ndarray
    labels: np.ndarray
    hashes: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, pixels: np.ndarray, labels: np.ndarray) -> "Pool":
        """All images of a source: uint8 N x C x H x W, and labels N."""
        digests = []
        for start in range(0, len(pixels), _CHUNK):
            rows = np.ascontiguousarray(pixels[start : start + _CHUNK]).reshape(-1, pixels[0].size)
            digests += [blake2b(row, digest_size=8).digest() for row in rows]
        hashes = np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)
        return cls(pixels, labels, hashes, np.lexsort((labels, hashes)))

    def __len__(self) -> int:
        return len(self.order)

    def divide(self, total: int, seed: int | None = None) -> tuple["Pool", "Pool"]:
        """Choose `total` images, class by class in proportion: (the chosen, the rest).

        With a seed they are drawn; without, they are the first of each class in canonical order.
        """
        labels = self.labels[self.order]
        chosen = np.zeros(len(self), bool)
        rng = None if seed is None else np.random.default_rng(seed)
        for label, share in enumerate(_shares(np.bincount(labels), total)):
            members = np.flatnonzero(labels == label)
            if rng is not None:
                members = rng.permutation(members)
            chosen[members[:share]] = True
        return replace(self, order=self.order[chosen]), replace(self, order=self.order[~chosen])

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Images (uint8 N x C x H x W) and labels (int64 N) in canonical order."""
        images = np.empty((len(self), *self.pixels.shape[1:]), np.uint8)
        for start in range(0, len(self), _CHUNK):
            images[start : start + _CHUNK] = self.pixels[self.order[start : start + _CHUNK]]
        return torch.from_numpy(images), torch.from_numpy(self.labels[self.order])


def _shares(counts: np.ndarray, total: int) -> np.ndarray:
    """How many of each class make up `total` in proportion (largest remainders round up)."""
    total = min(total, counts.sum())
    exact = counts * total / max(counts.sum(), 1)
    shares = np.floor(exact).astype(int)
    by_remainder = np.argsort(shares - exact, kind="stable")
    shares[by_remainder[: total - shares.sum()]] += 1
    return shares


def fingerprint(*pools: Pool) -> str:
    """16 hex digits that change with the images, their labels or their size, not their order."""
    digest = blake2b(digest_size=8)
    for pool in pools:
        digest.update(repr((len(pool), pool.pixels.shape[1:])).encode())
        digest.update(pool.hashes[pool.order].astype(">u8").tobytes())
        digest.update(pool.labels[pool.order].astype(">u4").tobytes())
    return digest.hexdigest()


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8 images scaled to [0, 1].

    A channel that is the same everywhere gets the standard deviation 1, so that dividing by it
    is harmless.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for channel in range(images.shape[1]):
        counts = torch.bincount(images[:, channel].flatten(), minlength=256)
        share = counts / counts.sum(dtype=torch.float64)
        mean.append(float((share * levels).sum()))
        std.append(float((share * (levels - mean[-1]) ** 2).sum().sqrt()) or 1.0)
    return tuple(mean), tuple(std)

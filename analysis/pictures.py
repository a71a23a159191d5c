"""Crops as the report shows them: every picture once, as an address that holds it, and how good it is."""

from __future__ import annotations

import base64
import hashlib
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsrprune.errors import UserError
from vsrprune.results.result import CROP_PLACES
from vsrprune.store.atomic import read_json


@dataclass(frozen=True)
class Picture:
    """What tells it from others, its RGB pixels, and itself for an `img`."""

    key: str
    pixels_HWC: NDArray[np.uint8]
    uri: str


class Pictures:
    """Every picture once, however many files hold the same bytes. lossless: whether no pixel may change."""

    def __init__(self, lossless: bool = True) -> None:
        self._lossless = lossless
        self._by_key: dict[str, Picture] = {}

    def read(self, path: Path) -> Picture | None:
        """The picture in a file; None if it cannot be read."""
        try:
            data = path.read_bytes()
            key = hashlib.sha256(data).hexdigest()[:16]
            if key not in self._by_key:
                self._by_key[key] = _picture(key, data, self._lossless)
            return self._by_key[key]
        except (OSError, ValueError, SyntaxError):  # Pillow raises the last for a broken PNG
            return None

    @property
    def size(self) -> int:
        """Characters of all data URIs."""
        return sum(len(picture.uri) for picture in self._by_key.values())

    def all(self) -> list[Picture]:
        """Every picture."""
        return list(self._by_key.values())

    def uris(self) -> dict[str, str]:
        """Data URIs by key."""
        return {key: picture.uri for key, picture in self._by_key.items()}


def read_places(folder: Path, has_truth: bool = True) -> list[dict[str, Any]]:
    """Where a job's crops lie: clip, x, y and side of each; empty without crops.

    has_truth: whether there must be pictures of the truth. Raises UserError, naming the file, where one of them is
    missing or cannot be read.
    """
    path = folder / "crops" / CROP_PLACES
    if not path.is_file():
        return []
    try:
        places = [{"clip": str(at["clip"]), **{name: int(at[name]) for name in ("x", "y", "side")}}
                  for at in read_json(path)]  # fmt: skip
        for place in places:
            for kind in ("frame", "dense", "pruned", *(("truth",) if has_truth else ())):
                path = folder / "crops" / f"{place['clip']}_{kind}.png"
                with Image.open(path) as image:
                    image.load()
    # Pillow raises SyntaxError for a broken PNG.
    except (OSError, ValueError, KeyError, TypeError, SyntaxError, RecursionError) as error:
        raise UserError(f"its crops are damaged: {path.name} is missing or cannot be read") from error
    return places


def _picture(key: str, data: bytes, lossless: bool) -> Picture:
    with Image.open(io.BytesIO(data)) as image:
        rgb = image.convert("RGB")
    stream = io.BytesIO()
    # Lossless it is a quarter smaller than PNG; a whole frame of 720p takes some 0.1 MB otherwise.
    rgb.save(stream, "WEBP", lossless=lossless, quality=50 if lossless else 75, method=4)
    uri = "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
    return Picture(key, np.asarray(rgb), uri)


def psnr(image_HWC: NDArray[np.uint8], truth_HWC: NDArray[np.uint8]) -> float:
    """PSNR over red, green and blue in dB; infinite for equal images, NaN for different sizes."""
    if image_HWC.shape != truth_HWC.shape:
        return math.nan
    error = float(np.mean((image_HWC.astype(np.float64) - truth_HWC.astype(np.float64)) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf

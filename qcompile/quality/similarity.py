"""SSIM: how alike the structure of two images is.

Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli: Image quality assessment: from error visibility to structural
similarity, IEEE Transactions on Image Processing 13(4), 2004. As there: a Gaussian window of 11x11 pixels and standard
deviation 1.5, K1 = 0.01, K2 = 0.03, the mean over all windows that lie inside the image. Colour channels are averaged.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

WINDOW = 11
"""Pixels along each side of the window; images must be at least as large."""
_SIGMA = 1.5
_C1 = (0.01 * 255) ** 2
_C2 = (0.03 * 255) ** 2


def ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """Mean structural similarity of two uint8 images [height, width, 3]: 1 where they are equal, lower elsewhere.

    Raises:
        ValueError: their sizes differ, or a side is shorter than the window.
    """
    if image.shape != reference.shape or min(image.shape[:2]) < WINDOW:
        raise ValueError(
            f"SSIM needs two images of one size, {WINDOW} pixels or more: {image.shape}, {reference.shape}"
        )
    mine, theirs = image.astype(np.float64), reference.astype(np.float64)
    mean, mean_theirs = _blur(mine), _blur(theirs)
    variance = _blur(mine * mine) - mean**2
    variance_theirs = _blur(theirs * theirs) - mean_theirs**2
    covariance = _blur(mine * theirs) - mean * mean_theirs
    values = ((2 * mean * mean_theirs + _C1) * (2 * covariance + _C2)) / (
        (mean**2 + mean_theirs**2 + _C1) * (variance + variance_theirs + _C2)
    )
    half = WINDOW // 2
    return float(values[half:-half, half:-half].mean())


def _blur(channels: np.ndarray) -> np.ndarray:
    """Weighted means over the window around each pixel, channel by channel."""
    blurred: np.ndarray = gaussian_filter(channels, (_SIGMA, _SIGMA, 0), radius=(WINDOW // 2, WINDOW // 2, 0))
    return blurred

import numpy as np
import pytest

from qcompile.quality.similarity import ssim


def picture() -> np.ndarray:
    y, x = np.mgrid[0:48, 0:64]
    return np.stack([(x * 4) % 256, (y * 5) % 256, (x + y) * 2 % 256], -1).astype(np.uint8)


def noisy(image: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]]
    return np.clip(image.astype(int) + ((x * 7 + y * 13) % 41 - 20)[..., None], 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda image: image, 1.0),
        (noisy, 0.4794418099235136),
        (lambda image: 255 - image, -0.03115559676253085),
        (lambda image: np.roll(image, 3, 1), 0.9692338723187838),
    ],
    ids=["same", "noise", "inverse", "shifted"],
)
def test_values_of_scikit_image(change, expected: float) -> None:
    # skimage 0.26: structural_similarity(channel_axis=-1, gaussian_weights=True, use_sample_covariance=False)
    assert ssim(change(picture()), picture()) == pytest.approx(expected, abs=1e-12)


def test_images_that_can_not_be_compared() -> None:
    with pytest.raises(ValueError, match="one size"):
        ssim(picture(), picture()[:-1])
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(picture()[:10], picture()[:10])

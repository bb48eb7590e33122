"""The published severities of ImageNet-C and CIFAR-10-C (Hendrycks & Dietterich, 2019).

They were chosen for images of 224 and of 32 pixels and differ by more than that ratio, so results of one set cannot be
compared with those of the other. `levels_for` says which set an image gets.
"""

from __future__ import annotations

from dataclasses import dataclass

from analyzer.robustness.corruptions.severities import Levels

Pair = tuple[float, float]
Triple = tuple[float, float, float]
Glass = tuple[float, int, int]

SMALL = 64
"""Images whose shorter side is below this many pixels get the severities of CIFAR-10-C."""

RANGE = "range of values"
DEFOCUS = "radius of the disk in pixels, standard deviation of its smoothing"
MOTION = "half the length in pixels, standard deviation of the weights in pixels"
ZOOM = "largest factor, step between factors"
GREY_SHARE = "share of the contrast that is left"
SATURATION = "factor of the saturation, what is added to it"
SIDE = "share of the image's side that is left"
ELASTIC = "shares of the image's side: displacement, its smoothing, displacement of the corners of a triangle"
QUALITY = "JPEG quality"
PHOTONS = "photons at the largest value"
TIMES_VALUE = "share of the value"
SIGMA = "standard deviation in pixels"
GLASS = "standard deviation of the smoothing in pixels, largest move in pixels, rounds"
FOG = "density, decay of the cloud's detail"


@dataclass(frozen=True, kw_only=True)
class ImageLevels:
    """Severities of the corruptions of images, each named like its function.

    Attributes:
        source: The benchmark they were published with.
    """

    source: str
    gaussian_noise: Levels[float]
    shot_noise: Levels[float]
    impulse_noise: Levels[float]
    speckle_noise: Levels[float]
    gaussian_blur: Levels[float]
    defocus_blur: Levels[Pair]
    glass_blur: Levels[Glass]
    motion_blur: Levels[Pair]
    zoom_blur: Levels[Pair]
    fog: Levels[Pair]
    brightness: Levels[float]
    contrast: Levels[float]
    saturate: Levels[Pair]
    pixelate: Levels[float]
    elastic_transform: Levels[Triple]
    jpeg_compression: Levels[int]


# The elastic displacements were published as multiples of 244 pixels for images of 224.
_OF_SIDE = 244 / 224

IMAGENET_C = ImageLevels(
    source="ImageNet-C",
    gaussian_noise=Levels((0.08, 0.12, 0.18, 0.26, 0.38), RANGE),
    shot_noise=Levels((60, 25, 12, 5, 3), PHOTONS),
    impulse_noise=Levels((0.03, 0.06, 0.09, 0.17, 0.27), "share of values"),
    speckle_noise=Levels((0.15, 0.2, 0.35, 0.45, 0.6), TIMES_VALUE),
    gaussian_blur=Levels((1, 2, 3, 4, 6), SIGMA),
    defocus_blur=Levels(((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)), DEFOCUS),
    glass_blur=Levels(((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)), GLASS),
    motion_blur=Levels(((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)), MOTION),
    zoom_blur=Levels(((1.10, 0.01), (1.15, 0.01), (1.20, 0.02), (1.24, 0.02), (1.30, 0.03)), ZOOM),
    fog=Levels(((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)), FOG),
    brightness=Levels((0.1, 0.2, 0.3, 0.4, 0.5), RANGE),
    contrast=Levels((0.4, 0.3, 0.2, 0.1, 0.05), GREY_SHARE),
    saturate=Levels(((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)), SATURATION),
    pixelate=Levels((0.6, 0.5, 0.4, 0.3, 0.25), SIDE),
    elastic_transform=Levels(
        (
            (2 * _OF_SIDE, 0.7 * _OF_SIDE, 0.1 * _OF_SIDE),
            (2 * _OF_SIDE, 0.08 * _OF_SIDE, 0.2 * _OF_SIDE),
            (0.05 * _OF_SIDE, 0.01 * _OF_SIDE, 0.02 * _OF_SIDE),
            (0.07 * _OF_SIDE, 0.01 * _OF_SIDE, 0.02 * _OF_SIDE),
            (0.12 * _OF_SIDE, 0.01 * _OF_SIDE, 0.02 * _OF_SIDE),
        ),
        ELASTIC,
    ),
    jpeg_compression=Levels((25, 18, 15, 10, 7), QUALITY),
)

CIFAR_C = ImageLevels(
    source="CIFAR-10-C",
    gaussian_noise=Levels((0.04, 0.06, 0.08, 0.09, 0.10), RANGE),
    shot_noise=Levels((500, 250, 100, 75, 50), PHOTONS),
    impulse_noise=Levels((0.01, 0.02, 0.03, 0.05, 0.07), "share of values"),
    speckle_noise=Levels((0.06, 0.1, 0.12, 0.16, 0.2), TIMES_VALUE),
    gaussian_blur=Levels((0.4, 0.6, 0.7, 0.8, 1), SIGMA),
    defocus_blur=Levels(((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)), DEFOCUS),
    glass_blur=Levels(((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)), GLASS),
    motion_blur=Levels(((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)), MOTION),
    zoom_blur=Levels(((1.05, 0.01), (1.10, 0.01), (1.15, 0.01), (1.20, 0.01), (1.25, 0.01)), ZOOM),
    fog=Levels(((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)), FOG),
    brightness=Levels((0.05, 0.1, 0.15, 0.2, 0.3), RANGE),
    contrast=Levels((0.75, 0.5, 0.4, 0.3, 0.15), GREY_SHARE),
    saturate=Levels(((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)), SATURATION),
    pixelate=Levels((0.95, 0.9, 0.85, 0.75, 0.65), SIDE),
    elastic_transform=Levels(
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)), ELASTIC
    ),
    jpeg_compression=Levels((80, 65, 58, 50, 40), QUALITY),
)


def levels_for(height: int, width: int) -> ImageLevels:
    """The set of severities for images of a size.

    Args:
        height: In pixels.
        width: In pixels.
    """
    return CIFAR_C if min(height, width) < SMALL else IMAGENET_C

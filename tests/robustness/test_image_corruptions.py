"""Corruptions of images: each against a closed form or another implementation, and in any range of values."""

import sys
from io import BytesIO

import numpy as np
import pytest
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy import ndimage

from analyzer.errors import DataError, MissingExtraError
from analyzer.robustness.corruptions import image_blurs, images, unit_images
from analyzer.robustness.corruptions.catalogue import corruptions_of, known_of
from analyzer.robustness.corruptions.image_levels import CIFAR_C, IMAGENET_C, levels_for
from analyzer.robustness.corruptions.severities import SEVERITIES

pytestmark = pytest.mark.plain

UNIT = (0.0, 1.0)


def rng():
    return np.random.default_rng(0)


def pictures(n=3, height=16, width=20, channels=3):
    """Smooth random pictures that fill the range from 0 to 1."""
    u = ndimage.gaussian_filter(np.random.default_rng(1).random((n, height, width, channels)), (0, 1, 1, 0))
    low, high = u.min(axis=(1, 2, 3), keepdims=True), u.max(axis=(1, 2, 3), keepdims=True)
    return np.clip((u - low) / (high - low), 0, 1)


def point(height=41, width=51):
    x = np.zeros((1, height, width, 1))
    x[0, height // 2, width // 2] = 1
    return x


ALL = corruptions_of("image", (1, 20, 20, 4))
LARGE = {c.name: c for c in corruptions_of("image", (1, 70, 70, 3))}
NAMED = pytest.mark.parametrize("corruption", ALL, ids=[c.name for c in ALL])


def test_small_images_get_the_severities_of_cifar():
    assert levels_for(32, 500) is CIFAR_C
    assert levels_for(224, 224) is levels_for(64, 64) is IMAGENET_C
    # As Hendrycks and Dietterich publish them.
    assert IMAGENET_C.gaussian_noise.settings == (0.08, 0.12, 0.18, 0.26, 0.38)
    assert CIFAR_C.gaussian_noise.settings == (0.04, 0.06, 0.08, 0.09, 0.10)
    assert IMAGENET_C.elastic_transform.at(1)[0] * 224 == pytest.approx(2 * 244)
    assert ALL[0].levels is CIFAR_C.gaussian_noise


@NAMED
@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (0.0, 255.0), (-2.5, 0.3)])
def test_the_range_of_values_does_not_matter(corruption, bounds):
    u, (low, high) = pictures(channels=4), bounds
    x = np.clip(low + (high - low) * u, low, high)
    plain, ranged = corruption(u, 4, 0, UNIT).x, corruption(x, 4, 0, bounds).x
    # JPEG and photons are whole numbers: rounding of the input may move one of them by one.
    atol = 0.02 if corruption.name in ("jpeg_compression", "shot_noise") else 1e-6
    np.testing.assert_allclose((ranged - low) / (high - low), plain, atol=atol)


@NAMED
def test_types_are_kept_and_bytes_are_rounded(corruption):
    bits = np.rint(255 * pictures()).astype(np.uint8)
    found = corruption(bits, 3, 0, (0, 255)).x
    exact = corruption(bits.astype(np.float64), 3, 0, (0, 255)).x
    assert found.dtype == np.uint8
    assert (np.abs(found - exact) <= 0.501).mean() > 0.99
    for dtype in (np.float16, np.float32):
        assert corruption(pictures().astype(dtype), 3, 0, UNIT).x.dtype == dtype


@NAMED
@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (2, 2, 3, 3), (1, 8, 8, 1), (2, 3, 90, 4)])
def test_images_of_any_size(corruption, shape):
    x = np.random.default_rng(0).random(shape, np.float32)
    if corruption.name == "saturate" and shape[-1] == 1:
        with pytest.raises(DataError, match="no colours"):
            corruption(x, 1, 0, UNIT)
        assert "saturate" not in [c.name for c in corruptions_of("image", shape)]
        return
    for severity in SEVERITIES:
        found = corruption(x, severity, 0, UNIT).x
        assert found.shape == shape
        assert np.isfinite(found).all()


@NAMED
def test_large_images_of_one_value_have_nothing_to_blur(corruption):
    x = np.full((2, 70, 64, 3), 0.4, np.float32)
    moved = np.ptp(LARGE[corruption.name](x, 5, 0, UNIT).x)
    noisy = corruption.name in ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "fog", "saturate")
    assert moved > 0.05 if noisy else moved < 1e-6


@pytest.mark.parametrize("corruption", [c for c in ALL if not c.random], ids=lambda c: c.name)
def test_what_is_not_random_does_not_depend_on_the_batch(corruption):
    x = pictures()
    alone = np.concatenate([corruption(image[None], 3, 0, UNIT).x for image in x])
    np.testing.assert_allclose(corruption(x, 3, 0, UNIT).x, alone, atol=1e-12)


def test_what_is_no_image_is_refused():
    with pytest.raises(DataError, match="channels last"):
        corruptions_of("image", (2, 8, 8))
    with pytest.raises(DataError, match="channels last"):
        known_of("image", np.zeros((2, 8, 8)))
    with pytest.raises(DataError, match="channels last"):
        images.contrast(np.zeros((2, 8, 8)), 1, rng(), UNIT)
    with pytest.raises(DataError, match="Move the channels"):
        images.contrast(np.zeros((2, 3, 8, 8)), 1, rng(), UNIT)
    with pytest.raises(DataError, match="outside bounds"):
        images.contrast(np.full((2, 8, 8, 3), 200.0), 1, rng(), UNIT)


# ------------------------------------------------------------------------------------------------------------ noise
@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("bounds", [UNIT, (-3.0, 5.0)])
def test_noise_of_sensors_has_the_moments_of_its_distribution(severity, bounds):
    low, high = bounds
    value = 0.4
    x = np.full((30, 40, 40, 3), low + (high - low) * value)

    def noise(function):
        u = (function(x, severity, rng(), bounds) - low) / (high - low)
        assert u.mean() == pytest.approx(value, abs=2e-3)
        return u.std()

    assert noise(images.gaussian_noise) == pytest.approx(CIFAR_C.gaussian_noise.at(severity), rel=0.02)
    assert noise(images.speckle_noise) == pytest.approx(value * CIFAR_C.speckle_noise.at(severity), rel=0.02)
    assert noise(images.shot_noise) == pytest.approx(np.sqrt(value / CIFAR_C.shot_noise.at(severity)), rel=0.02)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_salt_and_pepper_hit_the_share_said(severity):
    x = np.full((30, 40, 40, 3), 0.25, np.float32)
    found = images.impulse_noise(x, severity, rng(), UNIT)
    share = CIFAR_C.impulse_noise.at(severity)
    for value in (0, 1):
        assert (found == value).mean() == pytest.approx(share / 2, rel=0.08)
    assert set(np.unique(found)) == {0, 0.25, 1}


# ------------------------------------------------------------------------------------------------- light and colour
@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_scales_exactly(severity):
    x = pictures()
    found = images.contrast(x, severity, rng(), UNIT)
    np.testing.assert_allclose(found.mean(axis=(1, 2)), x.mean(axis=(1, 2)))
    share = CIFAR_C.contrast.at(severity)
    np.testing.assert_allclose(
        found - x.mean(axis=(1, 2), keepdims=True), share * (x - x.mean(axis=(1, 2), keepdims=True))
    )


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_and_saturation_are_those_of_hsv(severity):
    x = pictures()
    # Black, white, grey, a full colour and one without blue.
    x[0, 0, :5] = [[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0], [0.3, 0.7, 0]]
    hsv = rgb_to_hsv(x)
    brighter, stronger = hsv.copy(), hsv.copy()
    brighter[..., 2] = np.clip(hsv[..., 2] + CIFAR_C.brightness.at(severity), 0, 1)
    factor, added = CIFAR_C.saturate.at(severity)
    stronger[..., 1] = np.clip(hsv[..., 1] * factor + added, 0, 1)
    np.testing.assert_allclose(images.brightness(x, severity, rng(), UNIT), hsv_to_rgb(brighter), atol=1e-9)
    np.testing.assert_allclose(images.saturate(x, severity, rng(), UNIT), hsv_to_rgb(stronger), atol=1e-9)


@pytest.mark.parametrize("function", [images.brightness, images.saturate, images.jpeg_compression])
def test_a_fourth_channel_is_no_colour(function):
    x = pictures(channels=4)
    found = function(x, 5, rng(), UNIT)
    np.testing.assert_allclose(found[..., 3], x[..., 3])
    np.testing.assert_allclose(found[..., :3], function(x[..., :3], 5, rng(), UNIT))


def test_brightness_of_grey_images_is_added():
    x = pictures(channels=1)
    np.testing.assert_allclose(images.brightness(x, 5, rng(), UNIT), np.minimum(x + 0.3, 1))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_fog_is_one_cloud_for_all_colours_and_keeps_the_brightest_value_possible(severity):
    x = pictures() * 0.8
    density, _ = CIFAR_C.fog.at(severity)
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    cloud = (images.fog(x, severity, rng(), UNIT) * (brightest + density) / brightest - x) / density
    np.testing.assert_allclose(cloud, np.broadcast_to(cloud[..., :1], cloud.shape), atol=1e-9)
    assert cloud.min() > -1e-9
    assert cloud.max() < 1 + 1e-9


def test_clouds_fill_the_range_and_are_smoother_where_detail_decays_faster():
    def roughness(decay):
        cloud = unit_images.plasma((8, 64, 64), decay, rng())
        assert (cloud.min(axis=(1, 2)) == 0).all()
        assert (cloud.max(axis=(1, 2)) == 1).all()
        return np.square(np.diff(cloud, axis=1)).mean() / cloud.var()

    assert roughness(3.0) < roughness(2.0) < roughness(1.4) < 1.0


# ---------------------------------------------------------------------------------------------------------- storage
def test_pixels_of_half_the_side_are_means_of_four():
    x = pictures(height=64, width=80)
    means = x.reshape(3, 32, 2, 40, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(images.pixelate(x, 2, rng(), UNIT), means.repeat(2, axis=1).repeat(2, axis=2))


@pytest.mark.parametrize(("size", "coarse"), [(7, 3), (32, 30), (5, 5), (9, 1)])
def test_coarse_pixels_are_means_over_the_area_they_cover(size, coarse):
    x = np.random.default_rng(0).random(size)
    # Each pixel as 1000 thin ones: the area is then a count.
    fine = np.repeat(x, 1000 * coarse).reshape(coarse, -1).mean(axis=1)
    expected = fine[((np.arange(size) + 0.5) * coarse / size).astype(int)]
    np.testing.assert_allclose(unit_images.area_average(size, coarse) @ x, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_that_of_pillow(channels):
    bits = np.rint(255 * pictures(channels=channels)).astype(np.uint8)
    found = images.jpeg_compression(bits, 4, rng(), (0, 255))
    for ours, image in zip(found, bits, strict=True):
        file = BytesIO()
        Image.fromarray(image.squeeze()).save(file, "JPEG", quality=50)
        np.testing.assert_array_equal(ours.squeeze(), np.asarray(Image.open(file)))


def test_without_pillow_jpeg_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match="Pillow"):
        images.jpeg_compression(pictures(), 1, rng(), UNIT)


# ------------------------------------------------------------------------------------------------------------- blur
@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_point_under_gaussian_blur_is_a_gaussian(severity):
    x, sigma = point(), CIFAR_C.gaussian_blur.at(severity)
    y, z = np.mgrid[-20:21, -25:26]
    expected = np.exp(-(y**2 + z**2) / (2 * sigma**2))
    np.testing.assert_allclose(
        image_blurs.gaussian_blur(x, severity, rng(), UNIT)[0, :, :, 0], expected / expected.sum(), atol=1e-4
    )


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_is_a_convolution_with_a_disk(severity, large):
    x = pictures(height=66, width=70) if large else pictures()
    radius, smoothing = (IMAGENET_C if large else CIFAR_C).defocus_blur.at(severity)
    kernel = unit_images.disk(radius, smoothing)
    expected = ndimage.correlate(x, kernel[None, :, :, None], mode="mirror")
    np.testing.assert_allclose(image_blurs.defocus_blur(x, severity, rng(), UNIT), expected, atol=1e-9)


def test_a_disk_is_even_inside_empty_outside_and_of_weight_1():
    kernel = unit_images.disk(10, 0.5)
    y, x = np.mgrid[-12:13, -12:13]
    away = np.hypot(y, x)
    assert kernel.shape == (25, 25)
    assert kernel.sum() == pytest.approx(1)
    np.testing.assert_allclose(kernel[away <= 6], 1 / (away <= 10).sum())
    assert (kernel[away > 13] == 0).all()
    # A disk of one pixel is its window: exp(-d² / 2σ²) of 3 × 3.
    window = np.exp(-np.array([1, 0, 1]) / (2 * 0.4**2))
    np.testing.assert_allclose(unit_images.disk(0.3, 0.4)[1:4, 1:4], np.outer(window, window) / window.sum() ** 2)


def test_motion_smears_each_point_along_a_line_of_its_own():
    x = np.repeat(point(), 30, axis=0)
    found = image_blurs.motion_blur(x, 5, rng(), UNIT)[..., 0]
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1)
    weights = np.exp(-(np.arange(19) ** 2) / (2 * 2.5**2))
    np.testing.assert_allclose(found[:, 20, 25], weights[0] / weights.sum())
    slopes = []
    for image in found:
        rows, columns = np.argwhere(image > 1e-12).T
        # What was right of the point, or on it, is carried to the left: the line starts there.
        reach = 25 - columns.min()
        assert columns.max() == 25
        slope = (20 - rows[np.argmin(columns)]) / reach
        assert np.abs((20 - rows) - slope * (25 - columns)).max() <= 1.5
        slopes.append(slope)
    assert -1.1 <= min(slopes) < -0.5
    assert 0.5 < max(slopes) <= 1.1


@pytest.mark.parametrize("severity", SEVERITIES)
def test_zoom_is_the_mean_of_enlargements(severity):
    x = pictures()
    largest, step = CIFAR_C.zoom_blur.at(severity)
    factors = np.arange(1, largest + step / 2, step)
    total = x.copy()
    for factor in factors:
        matrix = np.diag([1, 1 / factor, 1 / factor, 1])
        middle = (np.array(x.shape) - 1) / 2
        total += ndimage.affine_transform(x, matrix, middle - matrix @ middle, order=1, mode="mirror")
    expected = total / (len(factors) + 1)
    np.testing.assert_allclose(image_blurs.zoom_blur(x, severity, rng(), UNIT), expected, atol=1e-6)


def test_sampling_is_that_of_scipy_also_beyond_the_border():
    x = pictures(2, 7, 9, 1)
    rows, columns = np.random.default_rng(0).uniform(-20, 30, size=(2, 2, 7, 9))
    expected = [
        ndimage.map_coordinates(image[..., 0], [r, c], order=1, mode="mirror")
        for image, r, c in zip(x, rows, columns, strict=True)
    ]
    np.testing.assert_allclose(unit_images.sampled(x, rows, columns)[..., 0], expected, atol=1e-9)


def test_behind_glass_each_pixel_is_a_near_one():
    # At the mildest setting the smoothing is of a twentieth of a pixel: none. Moves are of -1 or 0, in both directions.
    names = np.arange(1200.0).reshape(1, 20, 60, 1) / 1199
    found = image_blurs.glass_blur(names, 1, rng(), UNIT) * 1199
    moved = np.rint(found - names * 1199)[0, 1:, 1:]
    steps, counts = np.unique(moved, return_counts=True)
    assert steps.tolist() == [-61, -60, -1, 0]
    np.testing.assert_allclose(counts / counts.sum(), 0.25, atol=0.05)
    # Two rounds, then: half of a pixel and its standard deviation in each.
    slope = np.broadcast_to(np.linspace(0, 1, 60)[None, None, :, None], (4, 60, 60, 1))
    twice = ((image_blurs.glass_blur(slope, 4, rng(), UNIT) - slope) * 59)[:, :, 4:-4]
    assert twice.mean() == pytest.approx(-1, abs=0.03)


def test_the_elastic_map_tilts_by_the_corners_and_ripples_by_the_field():
    rows, columns = image_blurs._tilted((4, 30, 40), 0.0, rng())
    y, x = np.mgrid[:30, :40]
    np.testing.assert_allclose(rows, np.broadcast_to(y, rows.shape), atol=1e-9)
    np.testing.assert_allclose(columns, np.broadcast_to(x, rows.shape), atol=1e-9)
    # Three corners that move independently by U(-t, t): the middle of the triangle's long side moves by their mean.
    rows, columns = image_blurs._tilted((4000, 30, 30), 2.0, rng())
    assert (rows[:, 15, 15] - 15).std() == pytest.approx(2 / np.sqrt(3) / np.sqrt(2), rel=0.05)
    # On a slope, brightness tells how far each pixel came from: settings are in shares of the side.
    slope = np.broadcast_to(np.linspace(0.3, 0.7, 60)[None, :, None, None], (50, 60, 60, 1))
    moved = (image_blurs.elastic_transform(slope, 1, rng(), UNIT) - slope) * 59 / 0.4
    away = moved[:, 30, 30, 0]
    assert away.std() == pytest.approx(0.08 * 60 / np.sqrt(6), rel=0.25)

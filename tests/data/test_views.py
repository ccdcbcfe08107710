"""Random views: each operation against Pillow or a direct computation, the draws by their distribution, and the edges."""
import colorsys
import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import data
from minigrad.data import augment, views

Image = pytest.importorskip("PIL.Image")
ImageFilter, ImageOps = pytest.importorskip("PIL.ImageFilter"), pytest.importorskip("PIL.ImageOps")


def images(n=5, channels=3, height=32, width=32, seed=0):
    """Pictures from 0 to 1, smooth and noisy parts in them, in whole steps of a byte."""
    rng = np.random.default_rng(seed)
    smooth = np.cumsum(np.cumsum(rng.standard_normal((n, channels, height, width)), 2), 3)
    smooth = (smooth - smooth.min()) / max(float(np.ptp(smooth)), 1e-6) if smooth.size else smooth
    return (np.rint(255 * (0.8 * smooth + 0.2 * rng.random(smooth.shape))) / 255).astype(np.float32)


def picture(x):
    """A Pillow image of (C, H, W) from 0 to 1."""
    pixels = np.rint(255 * x).astype(np.uint8)
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def pixels(image):
    """(C, H, W) from 0 to 1 of a Pillow image."""
    found = np.asarray(image, np.float32) / 255
    return found[None] if found.ndim == 2 else found.transpose(2, 0, 1)


def levels(found, wanted, most):
    """Checks that they are at most so many steps of a byte apart."""
    assert found.dtype == np.float32 and found.shape == wanted.shape
    assert abs(found - wanted).max() * 255 <= most


FUNCTIONS = {  # every public one, as a function of images and a generator
    "random_resized_crop": lambda x, rng: views.random_resized_crop(x, rng, (12, 20)),
    "horizontal_flip": views.horizontal_flip,
    "colour_jitter": views.colour_jitter,
    "random_greyscale": lambda x, rng: views.random_greyscale(x, rng, 0.5),
    "gaussian_blur": views.gaussian_blur,
    "random_solarize": lambda x, rng: views.random_solarize(x, rng, 0.5),
    "simclr": data.views.simclr(24, 1.0, True)[0],
    "byol": data.views.byol(24)[1],
    "dino": data.views.dino(32, 10, 1)[2],
    "mae": data.views.mae(24)[0],
    "plain": data.views.simclr(17, crop=False, colour=False, flip=False)[0],
    "exemplar": data.ExemplarView(24),
    "exemplar of the patches' size": data.ExemplarView(),
}
every = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)


# -- operations --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(32, 32), (7, 50), (1, 3)])
def test_crops_are_pillows(interpolation, size):
    x = images(40, 1, 23, 31)
    boxes = views.random_boxes(40, 23, 31, np.random.default_rng(0), (0.01, 1.0), (0.3, 3.0))
    found = views.resized_crop(x, boxes, size, interpolation)
    for image, (top, left, h, w), ours in zip(x, boxes, found):
        box = Image.fromarray(image[0]).crop((left, top, left + w, top + h))  # of floats, so nothing is rounded
        theirs = np.asarray(box.resize(size[::-1], Image.Resampling[interpolation.upper()]))
        np.testing.assert_allclose(ours[0], np.clip(theirs, 0, 1), atol=2e-5)


def test_a_crop_of_everything_changes_nothing():
    x = images(3, 3, 20, 30)
    for interpolation in ("bilinear", "bicubic"):
        np.testing.assert_array_equal(views.resized_crop(x, np.tile([0, 0, 20, 30], (3, 1)), (20, 30), interpolation), x)
        np.testing.assert_array_equal(views.centre_crop(x, 20, interpolation), x[..., 5:25])


def test_boxes_have_the_areas_and_ratios_asked_for():
    boxes = views.random_boxes(20000, 200, 200, np.random.default_rng(0))
    top, left, h, w = boxes.T
    assert (boxes >= 0).all() and (top + h <= 200).all() and (left + w <= 200).all() and (h > 0).all() and (w > 0).all()
    area, ratio = h * w / 200**2, w / h
    assert area.min() > 0.075 and area.max() <= 1 and ratio.min() > 0.73 and ratio.max() < 1.37
    small = area < 0.5  # of larger ones some do not fit
    np.testing.assert_allclose(np.histogram(area[small], 4, (0.08, 0.5))[0] / small.sum(), 0.25, atol=0.02)
    np.testing.assert_allclose(np.histogram(np.log(ratio[small]), 4, np.log((3 / 4, 4 / 3)))[0] / small.sum(), 0.25, atol=0.02)
    for start, length in ((top, h), (left, w)):  # and all places that there are
        free = length < 150
        assert (start[free] / (200 - length[free])).mean() == pytest.approx(0.5, abs=0.01)
        assert (start[free] == 0).any() and (start + length == 200)[free].any()


@pytest.mark.parametrize("height, width, ratio, wanted", [
    (10, 100, (3 / 4, 4 / 3), (0, 43, 10, 13)), (100, 10, (3 / 4, 4 / 3), (43, 0, 13, 10)),
    (30, 40, (1, 2), (0, 0, 30, 40)), (1, 60, (3 / 4, 4 / 3), (0, 29, 1, 1)), (40, 1, (1e-9, 1e-8), (0, 0, 40, 1))])
def test_boxes_that_never_fit_are_in_the_middle(height, width, ratio, wanted):
    boxes = views.random_boxes(50, height, width, np.random.default_rng(0), (1.0, 1.0), ratio)
    np.testing.assert_array_equal(np.median(boxes, 0), wanted)
    assert abs(boxes - wanted).max() <= 1  # one of the right ratio may fit when rounded


@pytest.mark.parametrize("channels", [1, 3])
def test_certain_flips_greys_and_inversions_are_pillows(channels):
    x, rng = images(6, channels, 9, 12), np.random.default_rng(0)
    for function, theirs, most in ((views.horizontal_flip, ImageOps.mirror, 0.01),
                                   (views.random_greyscale, lambda i: i.convert("L").convert(i.mode), 0.51),
                                   (views.random_solarize, lambda i: ImageOps.solarize(i, 128), 0.01)):
        wanted = np.stack([pixels(theirs(picture(i))) for i in x])
        levels(function(x, rng, 1.0), wanted, most)
        np.testing.assert_array_equal(function(x, rng, 0.0), x)


def test_hue_is_turned_in_hsv():
    x, shifts = images(8, 3, 6, 7), np.linspace(-0.5, 0.5, 8)
    found = augment.hue(x, shifts)
    for image, shift, ours in zip(x, shifts, found):
        flat = [colorsys.rgb_to_hsv(*map(float, p)) for p in image.reshape(3, -1).T]
        wanted = np.array([colorsys.hsv_to_rgb((h + shift) % 1, s, v) for h, s, v in flat]).T.reshape(3, 6, 7)
        np.testing.assert_allclose(ours, wanted, atol=2e-6)
    for image, shift, ours in zip(x, shifts, found):  # Pillow has 256 hues and saturations
        h, s, v = picture(image).convert("HSV").split()
        turned = h.point([(i + round(shift * 255)) % 256 for i in range(256)])
        levels(ours, pixels(Image.merge("HSV", (turned, s, v)).convert("RGB")), 8)


def test_hsv_there_and_back():
    colours = np.array(list(itertools.product([0, 0.2, 0.7, 1], repeat=3)), np.float32).T.reshape(1, 3, 8, 8)
    h, s, v = augment.to_hsv(colours)
    np.testing.assert_allclose(augment.from_hsv(h, s, v), colours, atol=1e-6)
    wanted = np.array([colorsys.rgb_to_hsv(*p) for p in colours.reshape(3, -1).T.astype(float)]).T
    np.testing.assert_allclose(np.stack([h % 1 % (1 - 1e-7), s, v]).reshape(3, -1), wanted, atol=1e-6)


@pytest.mark.parametrize("height, width", [(24, 31), (1, 5), (2, 1)])
def test_blur_is_a_convolution_with_a_gaussian(height, width):
    x, sigma, radius = images(3, 3, height, width), np.array([0.1, 0.8, 2.0]), 2
    found = augment.blur(x, sigma, radius)
    d = np.arange(-radius, radius + 1)
    for image, s, ours in zip(x, sigma, found):
        kernel = np.exp(-(d[:, None] ** 2 + d ** 2) / (2 * s * s))
        padded = np.pad(image.astype(float), ((0, 0), (radius, radius), (radius, radius)), "edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape, (1, 2))
        np.testing.assert_allclose(ours, (windows * kernel).sum((3, 4)) / kernel.sum(), atol=2e-6)


def test_blur_is_about_pillows():
    """Which takes three boxes for the Gaussian, and repeats the edge before each."""
    x = images(3, 3, 40, 40)
    for sigma in (1.0, 1.5, 2.0, 3.0):
        wanted = np.stack([pixels(picture(i).filter(ImageFilter.GaussianBlur(sigma))) for i in x])
        levels(augment.blur(x, sigma, 12)[..., 8:-8, 8:-8], wanted[..., 8:-8, 8:-8], 2.01)


def test_the_kernel_is_a_tenth_of_the_image(monkeypatch):
    seen = []
    monkeypatch.setattr(augment, "blur", lambda x, sigma, radius: seen.append((radius, sigma)) or x)
    for size in (8, 32, 96, 224):
        views.gaussian_blur(np.zeros((500, 1, size, size), np.float32), np.random.default_rng(0), 1.0, (0.5, 1.5))
    assert [radius for radius, _ in seen] == [1, 1, 4, 11]  # kernels of 3, 3, 9 and 23
    sigma = seen[0][1]
    assert sigma.shape == (500,) and 0.5 <= sigma.min() < 0.52 and 1.48 < sigma.max() <= 1.5


def test_each_image_has_a_blur_of_its_own(monkeypatch):
    monkeypatch.setattr(augment, "blur", lambda x, sigma, radius: np.broadcast_to(sigma[:, None, None, None], x.shape))
    x = np.zeros((50, 1, 1, 1), np.float32)
    sigma, some = (views.gaussian_blur(x, np.random.default_rng(0), p)[:, 0, 0, 0] for p in (1, 0.5))
    assert len(set(sigma)) == 50 and 10 < (some > 0).sum() < 40
    np.testing.assert_array_equal(some[some > 0], sigma[some > 0])


# -- draws -------------------------------------------------------------------------------------------------------------

OPERATIONS = ("brightness", "contrast", "colour", "hue")


def test_each_image_is_jittered_in_an_order_of_its_own(monkeypatch):
    for k, name in enumerate(OPERATIONS):
        monkeypatch.setattr(augment, name, lambda x, _value, digit=k + 1: 10 * x + digit)
    found = views.colour_jitter(np.zeros((6000, 3, 1, 2), np.float32), np.random.default_rng(0), p=0.8)
    assert (found == found[:, :1, :, :1]).all()
    orders, counts = np.unique(found[:, 0, 0, 0].astype(int), return_counts=True)
    assert set(orders) == {0} | {int("".join(p)) for p in itertools.permutations("1234")}
    np.testing.assert_allclose(counts[0] / 6000, 0.2, atol=0.02)
    np.testing.assert_allclose(counts[1:] / 6000, 0.8 / 24, atol=0.01)


@pytest.mark.parametrize("k, strength, low, high", [
    (0, 0.4, 0.6, 1.4), (1, 1.6, 0, 2.6), (2, 1.0, 0, 2), (3, 0.1, -0.1, 0.1), (3, 0.5, -0.5, 0.5)])
def test_factors_are_uniform(monkeypatch, k, strength, low, high):
    monkeypatch.setattr(augment, OPERATIONS[k], lambda x, value: np.broadcast_to(value[:, None, None, None], x.shape))
    strengths = [0.0] * 4
    strengths[k] = strength
    found = views.colour_jitter(np.zeros((4000, 3, 1, 1), np.float32), np.random.default_rng(0), *strengths, p=1)[:, 0, 0, 0]
    assert low - 1e-6 <= found.min() and found.max() <= high + 1e-6
    np.testing.assert_allclose(np.histogram(found, 4, (low, high))[0] / 4000, 0.25, atol=0.03)


@pytest.mark.parametrize("function, changed", [
    (lambda x, rng: views.horizontal_flip(x, rng, 0.3), 0.3), (lambda x, rng: views.random_greyscale(x, rng, 0.3), 0.3),
    (lambda x, rng: views.gaussian_blur(x, rng, 0.3), 0.3), (lambda x, rng: views.random_solarize(x, rng, 0.3), 0.3),
    (lambda x, rng: views.colour_jitter(x, rng, p=0.3), 0.3), (lambda x, rng: views.colour_jitter(x, rng, 0, 0, 0, 0, 1), 0)])
def test_probabilities(function, changed):
    x = images(1, 3, 8, 8).repeat(3000, 0)
    found = function(x, np.random.default_rng(0))
    assert (found != x).any((1, 2, 3)).mean() == pytest.approx(changed, abs=0.04)


@every
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_does_not_depend_on_its_neighbours(function, channels):
    x = images(12, channels)
    found = function(x, np.random.default_rng(3))
    spoilt = x.copy()
    spoilt[::2] = np.nan
    others = function(spoilt, np.random.default_rng(3))
    np.testing.assert_array_equal(others[1::2], found[1::2])
    assert np.isnan(others[::2]).all()


@every
def test_images_have_draws_of_their_own_and_seeds_repeat_them(function):
    x = images(1).repeat(400, 0)  # more than a block
    found = function(x, np.random.default_rng(0))
    np.testing.assert_array_equal(found, function(x, np.random.default_rng(0)))
    kinds = len({i.tobytes() for i in found})
    assert kinds > 1 or function is FUNCTIONS["plain"]
    assert (found != function(x, np.random.default_rng(1))).any() or function is FUNCTIONS["plain"]


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"horizontal_flip", "random_solarize", "random_greyscale", "plain"}))
def test_no_two_views_are_the_same(name):
    found = FUNCTIONS[name](images(1).repeat(200, 0), np.random.default_rng(0))
    assert len({i.tobytes() for i in found}) > 80  # some are not blurred or jittered


def test_blocks_are_put_together(monkeypatch):
    x = np.linspace(0, 1, 50, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 8, 8), np.float32)
    for size in (1, 3000, 1 << 20):
        monkeypatch.setattr(views, "BLOCK", size)
        np.testing.assert_allclose(data.views.mae(5)[0](x, np.random.default_rng(0)), x[:, :, :5, :5], atol=1e-6)


# -- edges -------------------------------------------------------------------------------------------------------------

@every
@settings(max_examples=25, deadline=None)
@given(n=st.integers(0, 3), channels=st.sampled_from([1, 3]), height=st.integers(1, 40), width=st.integers(1, 40),
       seed=st.integers(0, 99))
def test_any_shape(function, n, channels, height, width, seed):
    x = images(n, channels, height, width, seed)
    before = x.copy()
    x.flags.writeable = False
    with np.errstate(all="raise", under="ignore"):
        found = function(x, np.random.default_rng(seed))
    assert found.dtype == np.float32 and found.shape[:2] == (n, channels) and found.flags.writeable
    assert not np.shares_memory(found, x)
    assert ((found >= -1e-6) & (found <= 1 + 1e-6)).all()
    np.testing.assert_array_equal(x, before)


@every
def test_strides_bytes_and_other_floats(function):
    x = images(6)
    wanted = function(x, np.random.default_rng(0))
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    every_other = np.zeros((12, 3, 32, 64), np.float32)
    every_other[::2, ..., ::2] = x
    for same in (np.rint(255 * x).astype(np.uint8), last.transpose(0, 3, 1, 2), every_other[::2, ..., ::2],
                 np.asfortranarray(x), x.astype(np.float64), x.astype(">f4"), x[::-1].copy()[::-1], x.tolist()):
        found = function(same, np.random.default_rng(0))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=2e-5)
    assert function(x.astype(np.float16), np.random.default_rng(0)).dtype == np.float32


@every
@pytest.mark.parametrize("x, message", [
    (np.zeros((2, 2, 8, 8), np.float32), "channels"), (np.zeros((2, 4, 8, 8), np.float32), "channels"),
    (np.zeros((3, 8, 8), np.float32), r"\(3, 8, 8\)"), (np.float32(0.5), r"\(\)"), (np.zeros((1, 3, 0, 8)), "shape"),
    (np.zeros((1, 3, 8, 8), np.int64), "int64"), (np.zeros((1, 3, 8, 8), bool), "bool"), (None, "shape"),
    (np.full((1, 3, 8, 8), 255, np.float32), "reach from 0 to 255"), (np.full((1, 3, 8, 8), -1.0), "reach from -1"),
    (np.full((1, 3, 8, 8), np.inf), "inf")])
def test_what_are_no_images(function, x, message):
    with pytest.raises(ValueError, match=message):
        function(x, np.random.default_rng(0))


@every
def test_a_seed_is_no_generator(function):
    for rng in (0, None, np.random.RandomState(0)):
        with pytest.raises(TypeError, match="rng must be a np.random.Generator, not "):
            function(images(1), rng)


def test_a_nan_stays_where_it_is_seen():
    x = images(1, 3, 10, 10)
    x[0, 0, 2, 3] = np.nan
    found = views.resized_crop(x.repeat(2, 0), [[0, 0, 10, 10], [4, 4, 6, 6]], 10)
    np.testing.assert_array_equal(found[0], x[0])
    assert np.isfinite(found[1]).all()
    blurred = np.isnan(augment.blur(x, 1.0, 1))[0]
    assert blurred[0, 1:4, 2:5].all() and blurred.sum() == 9
    turned = np.isnan(augment.hue(x, 0.2))[0]
    assert turned[:, 2, 3].all() and turned.sum() == 3


X, RNG = np.zeros((2, 3, 8, 8), np.float32), np.random.default_rng(0)
BAD_RANGES = [(0.5, 0.2), (0, 1), (-1, 1), (np.nan, 1), (0.1, np.inf), (0.1,), (0.1, 0.2, 0.3), 0.5, None, "ab", (True, 1)]
BAD_PARTS = [-0.1, 1.1, np.nan, None, "0.5", True, [0.5]]


@pytest.mark.parametrize("make, name, values", [
    (lambda v: views.random_resized_crop(X, RNG, v), "size", [0, -1, 1.5, None, "8", (8, 8, 8), True]),
    (lambda v: views.random_resized_crop(X, RNG, 8, scale=v), "scale", [*BAD_RANGES, (0.5, 1.1)]),
    (lambda v: views.random_resized_crop(X, RNG, 8, ratio=v), "ratio", BAD_RANGES),
    (lambda v: views.random_resized_crop(X, RNG, 8, interpolation=v), "interpolation", ["nearest", "", None, 2]),
    (lambda v: views.horizontal_flip(X, RNG, v), "p", BAD_PARTS),
    (lambda v: views.colour_jitter(X, RNG, p=v), "p", BAD_PARTS),
    (lambda v: views.colour_jitter(X, RNG, brightness=v), "brightness", [-0.1, np.inf, np.nan, None, (0.1, 0.2)]),
    (lambda v: views.colour_jitter(X, RNG, contrast=v), "contrast", [-0.1, 101, None]),
    (lambda v: views.colour_jitter(X, RNG, saturation=v), "saturation", [-0.1, "1"]),
    (lambda v: views.colour_jitter(X, RNG, hue=v), "hue", [-0.1, 0.51]),
    (lambda v: views.random_greyscale(X, RNG, v), "p", BAD_PARTS),
    (lambda v: views.gaussian_blur(X, RNG, v), "p", BAD_PARTS),
    (lambda v: views.gaussian_blur(X, RNG, 0.5, v), "sigma", BAD_RANGES),
    (lambda v: views.random_solarize(X, RNG, v), "p", BAD_PARTS),
    (lambda v: views.random_solarize(X, RNG, 0.5, v), "threshold", BAD_PARTS),
    (lambda v: data.View(v), "size", [0, 2.5, None]),
    (lambda v: data.View(8, crop=v), "crop", [v for v in BAD_RANGES if v is not None] + [(0.2, 1.2)]),
    (lambda v: data.View(8, ratio=v), "ratio", BAD_RANGES),
    (lambda v: data.View(8, sigma=v), "sigma", BAD_RANGES),
    (lambda v: data.View(8, interpolation=v), "interpolation", ["cubic"]),
    (lambda v: data.View(8, jitter=v), "jitter", [
        (0.1, 0.1, 0.1), 0.5, None, (0.1, 0.1, 0.1, 0.6), (-1, 0, 0, 0), (0, 0, 0, np.nan)]),
    *((lambda v, n=n: data.View(8, **{n: v}), n, BAD_PARTS) for n in ("flip", "jitter_p", "greyscale", "blur", "solarize")),
    (lambda v: data.ExemplarView(v), "size", [0, 2.5]),
    (lambda v: data.ExemplarView(scale=v), "scale", [*BAD_RANGES, (0.1, 1)]),
    *((lambda v, n=n: data.ExemplarView(**{n: v}), n, BAD_RANGES) for n in ("contrast", "power", "factor")),
    *((lambda v, n=n: data.ExemplarView(**{n: v}), n, [-0.1, 181, np.nan, None])
      for n in ("shift", "rotation", "offset", "hue")),
    (lambda v: data.views.simclr(32, v), "strength", [-1, 2.6, np.nan, None]),
    (lambda v: data.views.dino(32, 16, v), "local_views", [-1, 1.5, None]),
    (lambda v: data.views.dino(32, scale=v), "scale", [0.01, 1.2, None]),
])
def test_bad_settings_are_named(make, name, values):
    for value in values:
        with pytest.raises(ValueError, match=rf"\b{name} (must|is)\b"):
            make(value)


@pytest.mark.parametrize("boxes", [
    [[0, 0, 8, 8]], [[0, 0, 8, 9]] * 2, [[-1, 0, 3, 3]] * 2, [[0, 0, 0, 3]] * 2, [[0.0, 0, 8, 8]] * 2, [[5, 5, 4, 3]] * 2,
    None])
def test_boxes_outside_are_refused(boxes):
    with pytest.raises(ValueError, match="boxes"):
        views.resized_crop(X, boxes, 8)


def test_settings_may_be_of_any_kind_of_number():
    view = data.View(np.int64(8), [np.float32(0.5), 1], flip=0, jitter=np.zeros(4), greyscale=np.float64(0), sigma=[1, 2])
    assert view == data.View(8, (0.5, 1.0), flip=0.0, jitter=(0.0,) * 4, greyscale=0.0, sigma=(1.0, 2.0))
    assert hash(view) is not None and data.View(**dataclasses.asdict(view)) == view
    assert view(X, RNG).shape == (2, 3, 8, 8)


# -- published settings --------------------------------------------------------------------------------------------------

def test_published_settings():
    first, second = data.views.simclr(32)
    assert first == second and first.crop == (0.08, 1.0) and first.jitter == (0.4, 0.4, 0.4, 0.1) and first.jitter_p == 0.8
    assert (first.flip, first.greyscale, first.blur, first.solarize) == (0.5, 0.2, 0.0, 0.0)
    large = data.views.simclr(224, 1.0, True)[0]
    assert large.jitter == (0.8, 0.8, 0.8, 0.2) and large.blur == 0.5
    assert [(v.blur, v.solarize) for v in data.views.byol(32)] == [(1.0, 0.0), (0.1, 0.2)]
    assert all(v.jitter == (0.4, 0.4, 0.2, 0.1) for v in (*data.views.byol(32), *data.views.dino(32)))
    crops = data.views.dino(224)
    assert [(v.size, v.crop, v.blur, v.solarize) for v in crops] == [
        (224, (0.4, 1.0), 1.0, 0.0), (224, (0.4, 1.0), 0.1, 0.2)] + 8 * [(96, (0.05, 0.4), 0.5, 0.0)]
    view, = data.views.mae(32)
    assert (view.crop, view.flip, view.greyscale, view.blur, view.solarize) == ((0.2, 1.0), 0.5, 0.0, 0.0, 0.0)
    assert not any(view.jitter)


@pytest.mark.parametrize("preset", [data.views.simclr, data.views.byol, data.views.dino])
def test_switches(preset):
    assert all(v.crop is None and any(v.jitter) for v in preset(32, crop=False))
    for v in preset(32, colour=False):
        assert not any(v.jitter) and not v.greyscale and not v.solarize and v.crop
    assert not any(v.flip for v in preset(32, flip=False)) and not data.views.mae(32, flip=False)[0].flip
    assert not any(v.blur for v in preset(32, blur=False))
    x = images(50, 1)
    alone = preset(32, crop=False, colour=False, flip=False, blur=False)[0]
    np.testing.assert_array_equal(alone(x, np.random.default_rng(0)), x)


def test_all_views_in_one_call():
    x = images(4, 1)
    found = data.make_views(x, np.random.default_rng(0), data.views.dino(32, 16, 3))
    assert [v.shape for v in found] == [(4, 1, 32, 32)] * 2 + [(4, 1, 16, 16)] * 3
    assert len({v[0].tobytes() for v in found}) == 5
    assert data.make_views(x, np.random.default_rng(0), ()) == []


# -- Exemplar-CNN ------------------------------------------------------------------------------------------------------

NOTHING = dict(shift=0.0, scale=(1.0, 1.0), rotation=0.0, contrast=(1.0, 1.0), power=(1.0, 1.0), factor=(1.0, 1.0), offset=0.0,
               hue=0.0)


@pytest.mark.parametrize("channels", [1, 3])
def test_exemplar_of_nothing_is_the_middle(channels):
    x = images(3, channels, 20, 30)
    np.testing.assert_allclose(data.ExemplarView(**NOTHING)(x, RNG), x, atol=2e-6)
    np.testing.assert_allclose(data.ExemplarView(8, **NOTHING)(x, RNG), x[..., 6:14, 11:19], atol=2e-6)
    assert data.ExemplarView(40, **NOTHING)(x, RNG).shape == (3, channels, 40, 40)  # the mirror image around it
    wider = np.pad(x, ((0, 0), (0, 0), (10, 10), (5, 5)), "symmetric")
    np.testing.assert_allclose(data.ExemplarView(40, **NOTHING)(x, RNG), wider, atol=2e-6)


def test_exemplar_moves_within_its_ranges(monkeypatch):
    seen = []
    warp = augment.warp
    monkeypatch.setattr(augment, "warp", lambda x, matrices, **settings: seen.append(matrices) or warp(x, matrices, **settings))
    x = np.ones((3000, 1, 10, 10), np.float32)
    found = data.ExemplarView(**{**NOTHING, "shift": 0.2, "scale": (0.7, 1.4), "rotation": 20.0})(x, np.random.default_rng(0))
    np.testing.assert_allclose(found, 1, atol=1e-6)  # no pixel from beyond the mirror image
    m = np.concatenate(seen)
    scale, angle = 1 / np.hypot(m[:, 0, 0], m[:, 0, 1]), np.rad2deg(np.arctan2(m[:, 0, 1], m[:, 0, 0]))
    for values, low, high in ((np.log(scale), np.log(0.7), np.log(1.4)), (angle, -20, 20), (m[:, 0, 2], -2, 2),
                              (m[:, 1, 2], -2, 2)):
        assert low - 1e-4 <= values.min() and values.max() <= high + 1e-4
        np.testing.assert_allclose(np.histogram(values, 4, (low, high))[0] / 3000, 0.25, atol=0.03)
    np.testing.assert_allclose(np.linalg.det(m[:, :, :2]), scale ** -2.0, rtol=1e-4)  # a rotation and one scale


@pytest.mark.parametrize("settings", [dict(scale=(0.25, 0.25), rotation=180.0), dict(shift=1.0)])
@pytest.mark.parametrize("size", [None, 4, 25])
def test_exemplar_sees_no_end_of_its_mirror_image(settings, size):
    found = data.ExemplarView(size, **{**NOTHING, **settings})(np.ones((200, 1, 10, 13), np.float32), np.random.default_rng(0))
    np.testing.assert_allclose(found, 1, atol=1e-6)


def test_exemplar_changes_saturation_and_value():
    x = images(2, 3, 6, 6)
    found = data.ExemplarView(**{**NOTHING, "power": (2.0, 2.0), "factor": (0.9, 0.9)})(x, RNG)
    for image, ours in zip(x, found):
        flat = [colorsys.rgb_to_hsv(*map(float, p)) for p in image.reshape(3, -1).T]
        wanted = np.array([colorsys.hsv_to_rgb(h, 0.9 * s * s, 0.9 * v * v) for h, s, v in flat]).T.reshape(3, 6, 6)
        np.testing.assert_allclose(ours, wanted, atol=5e-6)
    grey = x[:, :1]
    found = data.ExemplarView(**{**NOTHING, "power": (2.0, 2.0), "factor": (0.9, 0.9), "hue": 0.5})(grey, RNG)
    np.testing.assert_allclose(found, 0.9 * grey * grey, atol=2e-6)
    moved = data.ExemplarView(**{**NOTHING, "offset": 0.1})(np.full((2000, 1, 1, 1), 0.5, np.float32), RNG) - 0.5
    assert -0.1 <= moved.min() < -0.09 and 0.09 < moved.max() <= 0.1 + 1e-6


def test_contrast_along_principal_components():
    x, factors = 0.4 + 0.2 * images(4, 3, 9, 9), np.random.default_rng(0).uniform(0.5, 2, (4, 3)).astype(np.float32)
    found = views.along_components(x, factors)
    for image, f, ours in zip(x.astype(float), factors, found):
        p = image.reshape(3, -1)
        axes = np.linalg.svd(p - p.mean(1, keepdims=True))[0][:, ::-1]  # least variance first
        wanted = p.mean(1, keepdims=True) + sum(
            f[k] * np.outer(axes[:, k], axes[:, k] @ (p - p.mean(1, keepdims=True))) for k in range(3))
        np.testing.assert_allclose(ours.reshape(3, -1), wanted, atol=2e-5)
    np.testing.assert_allclose(views.along_components(x, np.ones((4, 3), np.float32)), x, atol=2e-6)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_view_of_the_images_size_is_the_images(interpolation):
    view = data.views.View(6, None, interpolation=interpolation, flip=0, jitter=(0.0,) * 4, greyscale=0)
    x = np.random.default_rng(0).random((3, 3, 6, 6), dtype=np.float32)
    x[0, 0, 2, 3] = np.nan
    found = view(x, np.random.default_rng(0))
    np.testing.assert_array_equal(found, x)  # a number that is missing stays where it is
    assert not np.shares_memory(found, x)
    grey = np.arange(108, dtype=np.uint8).reshape(3, 1, 6, 6)
    np.testing.assert_allclose(view(grey, np.random.default_rng(0)), grey / 255, rtol=1e-6)
    with pytest.raises(ValueError, match="images must be from 0 to 1"):
        view(x + 1, np.random.default_rng(0))
    y = np.random.default_rng(1).random((20, 3, 6, 6), dtype=np.float32)
    y.setflags(write=False)
    everything = data.views.View(6, None, interpolation=interpolation, flip=1, greyscale=0.5, blur=0.5, solarize=0.5)
    assert not np.array_equal(everything(y, np.random.default_rng(0)), y)  # which cannot be written to


@pytest.mark.parametrize("area", [0, -0.1, 1.1, np.nan, True, "a", None, mg.Tensor([0.2, 0.3])])
def test_the_least_area_is_named_where_it_is_wrong(area):
    with pytest.raises(ValueError, match="mae: area must be"):
        data.views.mae(8, area=area)
    assert data.views.mae(8, area=mg.Tensor(0.5))[0].crop == (0.5, 1.0)

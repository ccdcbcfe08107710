"""Augmentations of batches: every image operation against Pillow's on the same bytes."""
import numpy as np
import pytest

from minigrad import data
from minigrad.data import augment

Image = pytest.importorskip("PIL.Image")
ImageEnhance, ImageOps = pytest.importorskip("PIL.ImageEnhance"), pytest.importorskip("PIL.ImageOps")


def images(n=5, size=32, channels=3, seed=0):
    """Smooth pictures of bytes (n, channels, size, size), of uneven brightness."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 230, (n, channels, 4, 4)).astype(np.uint8)
    return np.stack([np.stack([np.asarray(Image.fromarray(c).resize((size, size), Image.BICUBIC)) for c in x]) for x in coarse])


def pillow(x, function):
    """A Pillow function on each image of bytes."""
    out = [np.asarray(function(Image.fromarray(i.transpose(1, 2, 0)))) for i in x]
    return np.stack(out).transpose(0, 3, 1, 2)


def levels(x, difference, name):
    """Checks bytes against a float image in [0, 1]: at most `difference` levels apart."""
    def check(found):
        assert found.dtype == np.float32 and found.shape == x.shape
        assert abs(found * 255 - x).max() <= difference, name
    return check


BYTES = {  # ours, Pillow's, a value, and the largest difference in grey levels (Pillow rounds between its steps)
    "autocontrast": (lambda i, v: ImageOps.autocontrast(i), [0.0], 1.01),
    "brightness": (lambda i, v: ImageEnhance.Brightness(i).enhance(v), [0.05, 0.5, 0.95, 1.6], 1.01),
    "colour": (lambda i, v: ImageEnhance.Color(i).enhance(v), [0.05, 0.5, 0.95, 1.6], 1.6),
    "contrast": (lambda i, v: ImageEnhance.Contrast(i).enhance(v), [0.05, 0.5, 0.95, 1.6], 1.6),
    "sharpness": (lambda i, v: ImageEnhance.Sharpness(i).enhance(v), [0.05, 0.5, 0.95, 1.6], 1.6),
    "equalize": (lambda i, v: ImageOps.equalize(i), [0.0], 0.01),
    "posterize": (lambda i, v: ImageOps.posterize(i, int(v)), [4, 5, 6, 7, 8], 0.01),
    "solarize": (lambda i, v: ImageOps.solarize(i, v * 255), [0.0, 0.3, 0.7], 0.01),
    "invert": (lambda i, v: ImageOps.invert(i), [0.0], 0.01),
    "identity": (lambda i, v: i, [0.0], 0.01),
}


@pytest.mark.parametrize("name", BYTES)
def test_values_are_pillows(name):
    theirs, values, difference = BYTES[name]
    x = images()
    for value in values:
        ours = augment.OPERATIONS[name][0](x / np.float32(255), np.full(len(x), value, np.float32))
        levels(pillow(x, lambda i: theirs(i, value)), difference, f"{name} {value}")(ours)


def geometric(name, value, size):
    """Pillow's (a, b, c, d, e, f): output pixel (x, y) is input pixel (a x + b y + c, d x + e y + f)."""
    middle = size / 2
    matrix = {"shear_x": (1, value, 0, 1), "shear_y": (1, 0, value, 1)}.get(name, (1, 0, 0, 1))
    a, b, d, e = matrix
    shift = {"translate_x": (value * size, 0), "translate_y": (0, value * size)}.get(name, (0, 0))
    return a, b, middle - a * middle - b * middle + shift[0], d, e, middle - d * middle - e * middle + shift[1]


@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"])
@pytest.mark.parametrize("part", [-0.9, 0.3, 1.0])
def test_places_are_pillows(name, part):
    """But for the frame, where Pillow repeats the outermost pixels and we blend with the fill."""
    x = images()[:, :1]
    operation, _, high = augment.OPERATIONS[name]
    value, size, fill = part * high, x.shape[-1], 0.25

    def theirs(image):
        if name == "rotate":
            return image.rotate(value, Image.BILINEAR, fillcolor=fill)
        return image.transform(image.size, Image.AFFINE, geometric(name, value, size), Image.BILINEAR, fillcolor=fill)

    wanted = np.stack([np.asarray(theirs(Image.fromarray(i[0] / np.float32(255)))) for i in x])[:, None]
    marked = np.asarray(theirs(Image.fromarray(np.pad(np.ones((size - 4, size - 4), np.float32), 2, constant_values=9))))
    inside = marked == 1  # all four neighbours are pixels well inside
    outside = np.asarray(theirs(Image.fromarray(np.full((size, size), 9, np.float32)))) == np.float32(fill)
    found = operation(x / np.float32(255), np.full(len(x), value, np.float32), fill=fill)
    assert inside.sum() > 200 and outside.sum() > 10
    np.testing.assert_allclose(found[:, :, inside], wanted[:, :, inside], atol=2e-3)
    deep = outside & np.roll(outside, 1, 0) & np.roll(outside, -1, 0) & np.roll(outside, 1, 1) & np.roll(outside, -1, 1)
    np.testing.assert_allclose(found[:, :, deep], fill, atol=1e-6)


def test_all_operations_are_compared():
    geometry = {"rotate", "shear_x", "shear_y", "translate_x", "translate_y"}
    assert set(BYTES) | geometry == set(augment.OPERATIONS)
    assert set(augment.GREY) <= set(augment.OPERATIONS) and set(augment.COLOUR) == set(augment.OPERATIONS) - {"invert"}


def test_each_image_gets_its_own_operation_and_level():
    x = images(6) / np.float32(255)
    names, which, at = ("brightness", "rotate", "invert"), np.array([0, 1, 2, 0, 1, 2]), np.linspace(0, 1, 6)
    found = augment.apply(x, names, which, at, fill=0.5)
    for i in range(6):
        operation, low, high = augment.OPERATIONS[names[which[i]]]
        np.testing.assert_array_equal(found[i:i + 1], operation(x[i:i + 1], low + at[i:i + 1] * (high - low), fill=0.5))


SINGLE = {name: lambda x, operation=operation, middle=(low + high) / 2: operation(x, middle)
          for name, (operation, low, high) in augment.OPERATIONS.items()} | {
    "hue": lambda x: augment.hue(x, 0.1), "to_hsv": augment.to_hsv, "blur": lambda x: augment.blur(x, 1.0, 1),
    "smoothed": augment.smoothed, "greyscale": augment.greyscale,
    "apply": lambda x: augment.apply(x, ["invert"], np.zeros(len(x), int), np.ones(len(x)))}


@pytest.mark.parametrize("name", SINGLE)
def test_single_operations_take_bytes_as_floats_and_refuse_what_is_no_picture(name):
    x = images(2, 8)
    np.testing.assert_array_equal(SINGLE[name](x), SINGLE[name](x / np.float32(255)))
    for wrong in (x[0], x[:, :2], x.astype(int), x.transpose(0, 2, 3, 1), x.astype(np.float32), x > 9):
        with pytest.raises(ValueError, match=f"^{name}: images "):
            SINGLE[name](wrong)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1e9, "1", None, [0.5], [[0.5, 0.5]], True])
@pytest.mark.parametrize("name, value", [
    *[(name, "value") for name in ("shear_x", "shear_y", "translate_x", "translate_y")], ("rotate", "degrees"), ("hue", "shift"),
    *[(name, "factor") for name in ("brightness", "colour", "contrast", "sharpness")], ("posterize", "bits"),
    ("solarize", "threshold"), ("blur", "sigma")])
def test_values_of_single_operations_are_named(name, value, wrong):
    if (name, wrong) != ("rotate", -1e9):
        with pytest.raises(ValueError, match=f"^{name}: {value} must be a number for each of 2 images or one for all, finite"):
            getattr(augment, name)(images(2, 8), wrong, *[1][:name == "blur"])


@pytest.mark.parametrize("call, said", [
    (lambda x: augment.rotate(x, 5, fill=2), "rotate: fill must be"), (lambda x: augment.blur(x, 1, -1), "blur: radius must be"),
    (lambda x: augment.hue(x[:, :1], 0.1), "hue: colour images"), (lambda x: augment.to_hsv(x[:, :1]), "to_hsv: colour images"),
    (lambda x: augment.from_hsv(x[:, 0], x[:, 1], x[:1, 2]), "from_hsv: hue, saturation and value"),
    (lambda x: augment.equalize(x * np.float32(np.nan)), "equalize: images must have no NaN"),
    (lambda x: augment.warp(x, np.zeros((6, 2, 3))), r"warp: matrices \(N, 2, 3\), one for each of 2 images"),
    (lambda x: augment.warp(x[0], np.zeros((2, 2, 3))), "warp: images"), (lambda x: augment.warp(x, None, np.nan), "warp: fill"),
    (lambda x: augment.apply(x, ["roll"], [0, 0], [0, 0]), "apply: each of names is"),
    (lambda x: augment.apply(x, ["invert"], [0, 1], [0, 0]), "apply: which must be 2 places among 1 names"),
    (lambda x: augment.apply(x, ["invert"], [0], [0, 0]), "apply: which must be"),
    (lambda x: augment.apply(x, ["invert"], [0, 0], [0, 2]), "apply: levels must be")])
def test_other_arguments_of_single_operations_are_named(call, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        call(images(2, 8) / np.float32(255))


def test_shifts_and_flips_are_fair_and_lose_nothing_else():
    rng, x = np.random.default_rng(0), np.zeros((9000, 1, 9, 9), np.float32)
    x[:, :, 4, 4] = 1
    moved = augment.translate(x, rng, 1).reshape(9000, 9, 9).sum(0) / 9000
    np.testing.assert_allclose(moved[3:6, 3:6], 1 / 9, atol=0.015)
    assert moved.sum() == pytest.approx(1, abs=1e-5)
    edge = augment.translate(np.ones((200, 1, 5, 5), np.float32), rng, 2, fill=7.0)
    assert set(np.unique(edge)) == {1.0, 7.0}
    picture = np.random.default_rng(1).random((1, 3, 4, 4), np.float32)
    flipped = augment.random_flip(np.repeat(picture, 4000, 0), rng)
    share = (flipped == picture[..., ::-1]).all((1, 2, 3)).mean()
    assert abs(share - 0.5) < 0.03 and ((flipped == picture) | (flipped == picture[..., ::-1])).all()
    noisy = augment.gaussian_noise(np.zeros((100, 3, 8, 8), np.float32), rng, 0.15)
    assert noisy.dtype == np.float32 and noisy.std() == pytest.approx(0.15, rel=0.03) and abs(noisy.mean()) < 0.01


DRAWN = {"random_affine": data.random_affine, "weak": data.weak, "random_flip": augment.random_flip, "cutout": augment.cutout,
         "translate": lambda x, rng: augment.translate(x, rng, 1),
         "gaussian_noise": lambda x, rng: augment.gaussian_noise(x, rng, 0.1),
         "make_views": lambda x, rng: data.make_views(x, rng, [augment.random_flip]),
         "random_boxes": lambda x, rng: data.views.random_boxes(len(x), *x.shape[2:], rng),
         "caption": lambda x, rng: data.captioned(x, [0] * len(x), ["a"], ["{}"]).caption(0, rng)}


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("rng", [0, None, np.random.RandomState(0)])
def test_a_seed_is_no_generator(name, rng):
    DRAWN[name](np.zeros((2, 1, 8, 8), np.float32), np.random.default_rng(0))
    if (name, rng) != ("caption", None):  # the first caption
        with pytest.raises(TypeError, match=f"{name}: rng must be a np.random.Generator, not "):
            DRAWN[name](np.zeros((2, 1, 8, 8), np.float32), rng)


@pytest.mark.parametrize("name", ["random_affine", "weak", "random_flip", "cutout", "translate"])
def test_one_image_is_no_batch(name):
    x = np.zeros((8,) if name == "random_affine" else (3, 8, 8), np.float32)
    with pytest.raises(ValueError, match=rf"{name}: images .* wanted, not of shape \({x.shape[0]}"):
        DRAWN[name](x, np.random.default_rng(0))


SETTINGS = {"random_affine": ("rotation", "scale", "shear", "shift"), "random_flip": ("p",), "cutout": ("size", "fill"),
            "translate": ("pixels", "fill"), "gaussian_noise": ("std",)}


@pytest.mark.parametrize("name, setting", [(name, setting) for name in SETTINGS for setting in SETTINGS[name]])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, "1", None, -1])
def test_settings_out_of_range_are_named(name, setting, wrong):
    function, needed = getattr(augment, name), {"translate": dict(pixels=1), "gaussian_noise": dict(std=0.1)}.get(name, {})
    if (setting, wrong) != ("fill", -1):
        with pytest.raises(ValueError, match=f"{name}: {setting} must be "):
            function(np.zeros((2, 1, 8, 8), np.float32), np.random.default_rng(0), **{**needed, setting: wrong})


@pytest.mark.parametrize("settings, said", [(dict(operations=["roll"]), "operations is .* not 'roll'"), (dict(count=-1), "count"),
                                            (dict(cutout=np.nan), "cutout"), (dict(fill=None), "fill"), (dict(fill=2), "fill")])
def test_settings_of_randaugment_are_checked(settings, said):
    with pytest.raises(ValueError, match=f"RandAugment: .*{said}"):
        data.RandAugment(**settings)


@pytest.mark.parametrize("shape", [(2, 1, 0, 0), (2, 3, 0, 4), (2, 3, 4, 0), (0, 3, 4, 4), (2, 0, 4, 4)])
@pytest.mark.parametrize("name", ["weak", "random_flip", "cutout", "translate"])
def test_images_without_pixels_stay_so(name, shape):
    assert DRAWN[name](np.zeros(shape, np.float32), np.random.default_rng(0)).shape == shape


def test_cutout_covers_half_the_width_at_most():
    x = augment.cutout(np.ones((2000, 3, 32, 32), np.float32), np.random.default_rng(0), 0.5, 0.25)
    covered = (x == 0.25)[:, 0].sum((1, 2))
    assert covered.max() == 16 * 16 and covered.min() >= 8 * 8 and (x[:, :1] == x).all()
    rows = (x == 0.25).any((1, 3)).sum(1)
    assert set(rows) <= set(range(8, 17))


def test_randaugment_draws_every_operation_and_keeps_the_range():
    x = images(200) / np.float32(255)
    one = data.RandAugment(count=1, cutout=0.0)
    found = one(x, np.random.default_rng(0))
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1 + 1e-6
    same = (found == x).all((1, 2, 3)).mean()
    assert 0.02 < same < 0.2  # the identity, and operations at the end of their range
    np.testing.assert_array_equal(found, one(x, np.random.default_rng(0)))
    assert (data.RandAugment()(x, np.random.default_rng(0)) == 0.5).mean() > 0.1  # cutout


def test_randaugment_takes_bytes_as_floats_and_refuses_what_is_no_picture():
    bytes_ = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), np.uint8)
    found, wanted = (data.RandAugment()(x, np.random.default_rng(1)) for x in (bytes_, bytes_ / np.float32(255)))
    assert found.dtype == np.float32 and (found == wanted).all() and 0.1 < found.mean() < 0.9
    for x in (bytes_[0], bytes_[:, :2], bytes_.astype(int), bytes_.astype(np.float32), bytes_.transpose(0, 2, 3, 1)):
        with pytest.raises(ValueError, match="RandAugment: images"):
            data.RandAugment()(x, np.random.default_rng(1))
    with pytest.raises(TypeError, match="RandAugment: rng must be a np.random.Generator, not 1"):
        data.RandAugment()(bytes_, 1)

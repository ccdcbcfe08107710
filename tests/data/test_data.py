"""Data: archives made here in the publishers' form, damaged files, episodes, augmentation, the embedded characters."""
import gzip
import io
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from minigrad import data
from minigrad.data import cifar10

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "cache"))


def omniglot_zip(path, drawings=(3, 3)):
    with zipfile.ZipFile(path, "w") as archive:
        for character, count in enumerate(drawings, 1):
            for d in range(count):
                pixels = np.full((105, 105), 255, np.uint8)
                pixels[30 * character:30 * character + 20, 10:60] = 0
                content = io.BytesIO()
                Image.fromarray(pixels).convert("1").save(content, "PNG")
                archive.writestr(f"images_background_small1/Alpha/character{character:02}/{character:04}_{d:02}.png", content.getvalue())


def test_omniglot_is_read_from_the_publishers_zip_and_from_the_cache(tmp_path):
    omniglot_zip(tmp_path / "images_background_small1.zip")
    for _ in range(2):
        found = data.load_omniglot("small1", tmp_path)
        assert found.images.shape == (2, 3, 28, 28) and found.names == ["Alpha/character01", "Alpha/character02"]
        assert found.images.min() == 0 and found.images.max() == 1
        assert found.images[0, 0, 9, 8] == 1 and found.images[1, 0, 9, 8] == 0  # ink is 1
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(b"damaged")
    assert (data.load_omniglot("small1", tmp_path).images == found.images).all()
    assert data.load_omniglot("small1", tmp_path).without(["Alpha"]).names == []


def test_damaged_archives_are_clear_errors(tmp_path):
    path = tmp_path / "images_background_small1.zip"
    path.write_bytes(b"no zip")
    with pytest.raises(ValueError, match="damaged"):
        data.load_omniglot("small1", tmp_path)
    omniglot_zip(path, (2, 3))
    with pytest.raises(ValueError, match="equally many"):
        data.load_omniglot("small1", tmp_path)
    with pytest.raises(ValueError, match="split"):
        data.load_omniglot("tiny", tmp_path)


def test_idx_files(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    content = struct.pack(">HBB3I", 0, 8, 3, 2, 3, 4) + array.tobytes()
    (tmp_path / "a").write_bytes(gzip.compress(content))
    assert (data.read_idx(tmp_path / "a") == array).all()
    for bad in (content[:-1], gzip.compress(content)[:-9], b"\0\0\x09\x01" + content[4:], b""):
        (tmp_path / "b").write_bytes(bad)
        with pytest.raises(ValueError, match="damaged"):
            data.read_idx(tmp_path / "b")


def test_rotations_are_new_classes():
    images = np.random.default_rng(0).random((2, 3, 5, 5)).astype(np.float32)
    turned = data.with_rotations(data.Characters(images, ["A/1", "A/2"]))
    assert turned.images.shape == (8, 3, 5, 5) and len(set(turned.names)) == 8
    assert (turned.images[3, 1] == np.rot90(images[1, 1])).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_episodes_are_disjoint_labelled_and_repeatable(way, shot, query, seed):
    images = np.arange(6 * 6).reshape(6, 6, 1)  # image number = 6 class + drawing
    sampler = data.EpisodeSampler(images, way, shot, query, seed)
    state = sampler.state_dict()
    e = sampler.sample()
    assert len(set(e.support.ravel()) | set(e.query.ravel())) == way * (shot + query)
    assert (e.classes[e.support_labels] == e.support.ravel() // 6).all()
    assert (e.classes[e.query_labels] == e.query.ravel() // 6).all()
    sampler.load_state_dict(state)
    assert (sampler.sample().query == e.query).all()


def test_classes_of_episodes_come_in_any_order():
    """Else a learner could know a class by its label."""
    sampler = data.EpisodeSampler(np.zeros((5, 2, 1)), 5, 1, 1)
    assert len({tuple(sampler.sample().classes) for _ in range(8)}) > 4


@pytest.mark.parametrize("way, shot, query", [(7, 1, 1), (2, 4, 3), (0, 1, 1), (2, 0, 1), (2.5, 1, 1), ("2", 1, 1), (2, True, 1)])
def test_impossible_episodes_are_refused(way, shot, query):
    with pytest.raises(ValueError, match="episodes"):
        data.EpisodeSampler(np.zeros((6, 6, 1)), way, shot, query)


X, Y = np.arange(10.0).reshape(10, 1), np.arange(10)


@pytest.mark.parametrize("call, said", [
    (lambda: data.SemiSupervisedLoader(X, Y[:9], X), "a label for each of 10 images wanted, got 9"),
    (lambda: data.SemiSupervisedLoader(X[:9], Y, X), "a label for each of 9 images wanted, got 10"),
    (lambda: data.SemiSupervisedLoader(X, Y, X[:0]), "there are 10 labelled images and 0 others"),
    (lambda: data.SemiSupervisedLoader(X[:0], Y[:0], X), "there are 0 labelled images and 10 others"),
    (lambda: data.labels.Shuffled(0, 0).take(1), "there are no examples to draw from"),
    (lambda: data.SemiSupervisedLoader(X, Y, X, 0), "batch must be a whole number, 1 or more"),
    (lambda: data.SemiSupervisedLoader(X, Y, X, 2.5), "batch must be a whole number, 1 or more"),
    (lambda: data.SemiSupervisedLoader(X, Y, X, 2, -1), "ratio must be a whole number, 0 or more"),
    (lambda: data.balanced_subset([], 0), r"one label or more wanted, \(N,\), got shape \(0,\)"),
    (lambda: data.balanced_subset(np.zeros((3, 2), int), 2), r"one label or more wanted, \(N,\), got shape \(3, 2\)"),
    (lambda: data.balanced_subset(Y % 2, 5.5), "balanced_subset: count must be a whole number"),
    (lambda: data.balanced_subset([0, 1, -1], 3), "labels must be 0 or more, not -1"),
    (lambda: data.balanced_subset([0, 0, 0, 1], 4, names=["a"]), "2 labels of class 1 wanted"),
    (lambda: data.SemiSupervisedLoader(None, Y, X), "images must be an array"),
    (lambda: data.SemiSupervisedLoader(X, None, X), "labels must be an array"),
    (lambda: data.SemiSupervisedLoader(X, Y, None), "unlabelled must be an array"),
    (lambda: data.SemiSupervisedLoader(X, Y, X[:, 0]), r"labelled ones of \(1,\) and others of \(\)"),
    (lambda: data.SemiSupervisedLoader(X.astype(np.uint8), Y, X), "labelled ones of uint8 and others of float64"),
    (lambda: data.EpisodeSampler(None, 2, 1, 1), "images must be an array .* not None"),
    (lambda: data.EpisodeSampler(Y, 2, 1, 1), r"images must be an array .* not of shape \(10,\)"),
    (lambda: data.EpisodeSampler([X, X[:, 0]], 2, 1, 1), r"images of one shape wanted, not \(\), \(1,\)"),
    (lambda: data.coloured_digits(X, Y), r"images \(N, H, W\) wanted"),
    (lambda: data.coloured_digits(np.zeros((2, 4, 4)), [1, 10]), "labels must be from 0 to 9, not from 1 to 10"),
    (lambda: data.captioned(X, -Y, "abc", ["{}"]), "labels must be from 0 to 2, not from -9 to 0"),
    (lambda: data.captioned(X, Y[:9], "abc", ["{}"]), "one for each of 10 images"),
    (lambda: data.with_rotations(data.Characters(X, ["a"])), "with_rotations: images"),
    (lambda: data.load_glyphs(drawings=0), "drawings must be a whole number, 1 or more")])
def test_draws_from_nothing_and_of_no_number_are_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


SEEDED = {"episodes": lambda seed: data.EpisodeSampler(np.zeros((5, 2, 1)), 2, 1, 1, seed),
          "balanced_subset": lambda seed: data.balanced_subset(Y % 2, 4, seed),
          "batches": lambda seed: data.SemiSupervisedLoader(X, Y, X, seed=seed),
          "batches of one set": lambda seed: data.labels.Shuffled(5, seed),
          "coloured_digits": lambda seed: data.coloured_digits(np.zeros((2, 4, 4)), [0, 1], seed),
          "glyphs": lambda seed: data.load_glyphs(seed=seed),
          "made_up_reviews": lambda seed: data.labelled_texts.made_up_reviews(3, seed)}


@pytest.mark.parametrize("name", SEEDED)
@pytest.mark.parametrize("wrong", ["a", -1, 1.5, None, [], object()])
def test_seeds_are_whole_numbers(name, wrong):
    with pytest.raises(ValueError, match=f"{name.split()[0]}: seed must be a whole number, 0 or more, not "):
        SEEDED[name](wrong)
    if name != "glyphs":
        SEEDED[name](np.int64(3)), SEEDED[name](3.0)


def test_batches_of_lists_and_without_unlabelled_images():
    batch = data.SemiSupervisedLoader(X.tolist(), Y.tolist(), [], 4, 0).sample()
    assert batch.x.shape == (4, 1) and (batch.x[:, 0] == batch.y).all() and len(batch.u) == len(batch.index) == 0
    episode = data.EpisodeSampler([[1.0, 2.0], [3.0, 4.0]], 2.0, 1, 1).sample()
    assert sorted([*episode.support, *episode.query]) == [1, 2, 3, 4]


MAPS = np.tile(np.eye(2, 3), (3, 1, 1))


@pytest.mark.parametrize("images, matrices, shape, said", [
    (np.zeros((4, 4)), MAPS, None, r"images \(N, H, W\) wanted, not of shape \(4, 4\)"),
    (np.zeros((3, 4, 4)), np.tile(np.eye(3), (3, 1, 1)), None, r"matrices \(N, 2, 3\), .* not of shape \(3, 3, 3\)"),
    (np.zeros((3, 4, 4)), MAPS[:1], None, r"matrices .* one for each of 3 images, wanted, not of shape \(1, 2, 3\)"),
    (np.zeros((3, 4, 4)), MAPS * np.nan, None, "matrices must be finite"), (np.zeros((3, 4, 4)), MAPS, (4, 0), "shape must be"),
    (np.zeros((3, 4, 4)), MAPS, "4", "shape must be")])
def test_what_is_no_affine_map_is_refused(images, matrices, shape, said):
    with pytest.raises(ValueError, match=f"affine: {said}"):
        data.affine(images, matrices, shape)


def test_affine_maps():
    images = np.random.default_rng(1).random((3, 6, 6)).astype(np.float32)
    identity, quarter = np.float32([[1, 0, 0], [0, 1, 0]]), np.float32([[0, 1, 0], [-1, 0, 0]])
    np.testing.assert_allclose(data.affine(images, np.tile(identity, (3, 1, 1))), images, atol=1e-6)
    turned = data.affine(images, np.tile(quarter, (3, 1, 1)))
    np.testing.assert_allclose(turned, np.rot90(images, 1, (1, 2)), atol=1e-5)
    shifted = data.affine(images, np.tile(identity + np.float32([[0, 0, 1], [0, 0, 0]]), (3, 1, 1)))
    np.testing.assert_allclose(shifted[:, :-1], images[:, 1:], atol=1e-6)
    assert (shifted[:, -1] == 0).all()


def test_embedded_characters():
    train, test = data.load_glyphs("train", drawings=2), data.load_glyphs("test", drawings=2)
    assert len(train.images) > 200 and len(test.images) > 200
    assert not {n.split("/")[0] for n in train.names} & {n.split("/")[0] for n in test.names}
    assert (train.images.max((2, 3)) > 0.3).all()
    assert (data.load_glyphs("train", drawings=2).images == train.images).all()


def png(pixels):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def test_lake_runs_from_a_zip_and_from_a_folder(tmp_path):
    pictures = [png(np.random.default_rng(i).integers(0, 2, (105, 105), np.uint8) * 255) for i in range(3)]
    order = [2, 0, 1]
    table = "".join(f"run01/test/item{i + 1:02}.png run01/training/class{c + 1:02}.png\n" for i, c in enumerate(order))
    with zipfile.ZipFile(tmp_path / "all_runs.zip", "w") as archive:
        for i in range(3):
            archive.writestr(f"all_runs/run01/training/class{i + 1:02}.png", pictures[i])
            archive.writestr(f"all_runs/run01/test/item{i + 1:02}.png", pictures[order[i]])
        archive.writestr("all_runs/run01/class_labels.txt", table)
        archive.extractall(tmp_path / "folder")
    for source in (tmp_path / "all_runs.zip", tmp_path / "folder" / "all_runs"):
        (run,) = data.load_lake_runs(source)
        assert run.labels.tolist() == order and (run.support[run.labels] == run.query).all()
    (tmp_path / "folder" / "all_runs" / "run01" / "test" / "item01.png").unlink()
    with pytest.raises(ValueError, match="not there"):
        data.load_lake_runs(tmp_path / "folder" / "all_runs")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no runNN"):
        data.load_lake_runs(tmp_path / "empty")


def test_image_folders(tmp_path):
    red, blue = np.zeros((2, 4, 6, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    for name, pixels in (("train/red/1.png", red), ("train/red/2.png", red), ("train/blue/1.png", blue)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(pixels))
    images, labels, names = data.load_image_folder(tmp_path, under="train")
    assert images.shape == (3, 3, 4, 6) and labels.tolist() == [0, 1, 1] and names == ["blue", "red"]
    assert images[1, 0].min() == 1 and images[1, 1:].max() == 0
    assert data.load_image_folder(tmp_path, size=2, channels=1)[0].shape == (3, 1, 2, 2)
    (tmp_path / "train/red/3.png").write_bytes(png(red[:2]))
    with pytest.raises(ValueError, match="pass size="):
        data.load_image_folder(tmp_path)
    (tmp_path / "train/red/3.png").write_bytes(b"nonsense")
    with pytest.warns(UserWarning, match="skipped 1 file: train/red/3.png .it is no picture"):
        again, labels, _ = data.load_image_folder(tmp_path, under="train")
    assert (again == images).all() and labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize("name", ["read_picture", "read_image_folder", "load_image_folder"])
def test_sizes_and_channels_of_pictures_are_checked(name, tmp_path):
    for kind in "ab":
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "1.png").write_bytes(png(np.zeros((4, 6, 3), np.uint8)))
    read, source = getattr(data, name), png(np.zeros((4, 6, 3), np.uint8)) if name == "read_picture" else tmp_path
    read(source, size=8, channels=1.0)
    for size in (0, -1, 1.5, "8", True):
        with pytest.raises(ValueError, match=f"^{name}: size must be a whole number, 1 or more, not "):
            read(source, size=size)
    for channels in (0, 2, 4, "3", None, True):
        with pytest.raises(ValueError, match=f"^{name}: channels must be 1 for grey or 3 for colour, not "):
            read(source, size=8, channels=channels)


def test_digits():
    pytest.importorskip("sklearn")
    images, labels = data.load_digits()
    assert images.shape == (1797, 8, 8) and images.max() == 1 and sorted(set(labels)) == list(range(10))


def test_augmented_images_stay_float32():
    """Images of float64 would make the whole network compute in float64."""
    images = np.random.default_rng(0).random((3, 1, 28, 28), np.float32)
    assert data.random_affine(images, np.random.default_rng(1)).dtype == np.float32


def _cifar_images(n=6):
    return np.random.default_rng(0).integers(0, 256, (n, 3, 32, 32), dtype=np.uint8), np.arange(n, dtype=np.uint8) % 10


def test_cifar10_from_a_zip_of_pictures(tmp_path):
    x, y = _cifar_images()
    with zipfile.ZipFile(tmp_path / "cifar10-train.zip", "w") as archive:
        for i, (pixels, label) in enumerate(zip(x, y)):
            buffer = io.BytesIO()
            Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, "png")
            archive.writestr(f"train/{cifar10.NAMES[label]}/{i:04}.png", buffer.getvalue())
    for _ in range(2):  # from the pictures, then from the cache
        images, labels = data.load_cifar10("train", tmp_path)
        np.testing.assert_array_equal(labels, y)
        np.testing.assert_array_equal(images, x)


def test_cifar10_from_the_publishers_binary_files(tmp_path):
    x, y = _cifar_images()
    packed = np.concatenate([y[:, None], x.reshape(len(x), -1)], 1).tobytes()
    with tarfile.open(tmp_path / "made.tar.gz", "w:gz") as archive:
        for name in [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]:
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(packed)
            archive.addfile(member, io.BytesIO(packed))
    train, test = (cifar10._from_tar(tmp_path / "made.tar.gz", split) for split in ("train", "test"))
    assert train.shape == (5 * len(x), 3073)
    np.testing.assert_array_equal(test[:, 0], y)
    np.testing.assert_array_equal(test[:, 1:].reshape(x.shape), x)
    (tmp_path / "cut.tar.gz").write_bytes((tmp_path / "made.tar.gz").read_bytes()[:2000])
    with pytest.raises(ValueError, match="is damaged"):
        cifar10._from_tar(tmp_path / "cut.tar.gz", "train")


def test_cifar10_refuses_other_splits_and_damaged_zips(tmp_path):
    with pytest.raises(ValueError, match="'train' or 'test'"):
        data.load_cifar10("validation", tmp_path)
    (tmp_path / "cifar10-train.zip").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="damaged"):
        data.load_cifar10("train", tmp_path)

"""Downloads: whole, corrupt, truncated and missing files from a local server; the cache; the published files if at hand."""
import gzip
import hashlib
import http.server
import io
import os
import pathlib
import signal
import struct
import subprocess
import sys
import threading
import time
import warnings
import zipfile

import numpy as np
import pytest

from minigrad import data
from minigrad.data import files, mnist, omniglot

pytest.importorskip("pooch")
Image = pytest.importorskip("PIL.Image")
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MINIGRAD_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def server():
    """An HTTP server on this machine; `files` maps names to what is sent, `promised` to a longer Content-Length."""

    class Handler(http.server.BaseHTTPRequestHandler):
        files, promised, requests = {}, {}, []

        def do_GET(self):
            name = self.path.lstrip("/")
            self.requests.append(name)
            if name not in self.files:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(self.promised.get(name, len(self.files[name]))))
            self.end_headers()
            self.wfile.write(self.files[name])

        def log_message(self, *args):
            pass

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.url = f"http://127.0.0.1:{served.server_port}/"
    threading.Thread(target=served.serve_forever, args=(0.02,), daemon=True).start()
    yield Handler
    served.shutdown()
    served.server_close()


def md5(content):
    return hashlib.md5(content).hexdigest()


def idx(array):
    return gzip.compress(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


def characters(count=2):
    """An archive in Omniglot's form."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for character in range(count):
            for drawing in range(2):
                picture = io.BytesIO()
                pixels = np.random.default_rng(10 * character + drawing).integers(0, 2, (105, 105), np.uint8) * 255
                Image.fromarray(pixels).convert("1").save(picture, "PNG")
                archive.writestr(f"images/Alpha/character{character:02}/{drawing}.png", picture.getvalue())
    return content.getvalue()


def left_in(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file()) if folder.exists() else []


def test_a_whole_file_is_fetched_once(cache, server):
    content = b"whole" * 1000
    server.files["a.bin"] = content
    for _ in range(3):
        path = files.find(["a.bin", "sub/a.bin"], server.url + "a.bin", md5(content))
        assert path.read_bytes() == content and path.parent == cache
    assert server.requests == ["a.bin"] and left_in(cache) == ["a.bin"]


@pytest.mark.parametrize("fault", ["corrupt", "truncated", "cut off", "missing", "no server", "empty"])
def test_what_does_not_arrive_whole_leaves_nothing_and_may_be_tried_again(cache, server, fault):
    content, url = b"precious" * 5000, server.url
    server.files["a.bin"] = {"corrupt": content[:-1] + b"X", "truncated": content[:100], "cut off": content[:100],
                             "missing": None,
                             "no server": content, "empty": b""}[fault]
    if fault == "missing":
        del server.files["a.bin"]
    if fault == "cut off":
        server.promised["a.bin"] = len(content)
    if fault == "no server":
        url = "http://127.0.0.1:9/"
    with pytest.raises(FileNotFoundError, match=r"a\.bin is not in .* fetching http://127.* failed .* MINIGRAD_DATA"):
        files.find(["a.bin"], url + "a.bin", md5(content))
    assert left_in(cache) == []
    server.files["a.bin"] = content
    server.promised.clear()
    assert files.find(["a.bin"], server.url + "a.bin", md5(content)).read_bytes() == content


def test_a_folder_of_ones_own_comes_first(cache, server, tmp_path, monkeypatch):
    (tmp_path / "own" / "mnist").mkdir(parents=True)
    (tmp_path / "own" / "mnist" / "a.bin").write_bytes(b"mine")
    for use in (lambda: files.find(["a.bin", "mnist/a.bin"], server.url + "a.bin", "0" * 32, tmp_path / "own"),
                lambda: files.find(["a.bin", "mnist/a.bin"], server.url + "a.bin", "0" * 32)):
        assert use().read_bytes() == b"mine"
        monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / "own"))
    assert server.requests == []


def test_mnist_from_a_server(cache, server, monkeypatch):
    images, labels = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28), np.array([3, 7], np.uint8)
    names = [name for name, _ in mnist._FILES["test"]]
    server.files.update(zip(names, map(idx, (images, labels))))
    monkeypatch.setattr(mnist, "_URL", server.url)
    with pytest.raises(FileNotFoundError, match="t10k-images"):  # not the published files
        data.load_mnist("test")
    assert left_in(cache) == []
    monkeypatch.setitem(mnist._FILES, "test", [(name, md5(server.files[name])) for name in names])
    found = data.load_mnist("test")
    assert (found[0] == images).all() and (found[1] == labels).all()
    with pytest.raises(ValueError, match="split"):
        data.load_mnist("all")


def test_omniglot_from_a_server(cache, server, monkeypatch):
    content = characters()
    server.files["images_background_small1.zip"] = content[:-100]
    monkeypatch.setattr(omniglot, "_URL", server.url)
    monkeypatch.setitem(omniglot._FILES, "small1", ("images_background_small1.zip", md5(content)))
    with pytest.raises(FileNotFoundError, match="images_background_small1.zip"):
        data.load_omniglot("small1")
    assert left_in(cache) == []
    server.files["images_background_small1.zip"] = content
    first, second = data.load_omniglot("small1"), data.load_omniglot("small1")
    assert first.names == ["Alpha/character00", "Alpha/character01"] and first.images.shape == (2, 2, 28, 28)
    assert (first.images == second.images).all() and len(server.requests) == 2


@pytest.mark.parametrize("place", [30, 200, 0.3, 0.5, 0.7, 0.95])
def test_damage_anywhere_in_an_archive_is_a_clear_error_or_harmless(cache, tmp_path, place):
    """In Omniglot's archive, a zip of images and a zip of one-shot runs."""
    content = characters(4)
    whole = content
    at = int(place * len(content)) if place < 1 else place
    content = content[:at] + bytes(255 - b for b in content[at:at + 40]) + content[at + 40:]
    for folder, damaged in (("whole", whole), ("damaged", content)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "images_background_small1.zip").write_bytes(damaged)
    expected = data.load_omniglot("small1", tmp_path / "whole")
    kept = left_in(cache)
    for load in (lambda: data.load_omniglot("small1", tmp_path / "damaged").images,
                 lambda: data.load_image_folder(tmp_path / "damaged/images_background_small1.zip", 28, 1)[0]):
        try:
            with warnings.catch_warnings(record=True) as skipped:
                warnings.simplefilter("always")
                found = load()
        except ValueError as error:
            assert any(word in str(error) for word in ("damaged", "readable", "holds no", "expected"))
            assert left_in(cache) == kept
        else:
            assert len(found) == len(expected.images) or len(found) == 8 - len(skipped)


def test_damaged_one_shot_runs_are_clear_errors(tmp_path):
    picture, content = io.BytesIO(), io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (105, 105), np.uint8)).save(picture, "PNG")
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("run01/training/class01.png", picture.getvalue())
        archive.writestr("run01/test/item01.png", picture.getvalue())
        archive.writestr("run01/class_labels.txt", "run01/test/item01.png run01/training/class01.png\n")
    for at in (50, 500, 5000, 20000):
        damaged = bytearray(content.getvalue())
        damaged[at:at + 30] = bytes(255 - b for b in damaged[at:at + 30])
        (tmp_path / "all_runs.zip").write_bytes(bytes(damaged))
        with pytest.raises(ValueError, match="damaged|not there|holds no"):
            data.load_lake_runs(tmp_path / "all_runs.zip")


# -- the cache -------------------------------------------------------------------------------------------------------


def test_the_cache_makes_an_array_once_and_mends_itself(cache):
    made = []

    def make():
        made.append(1)
        return np.arange(5)

    for _ in range(3):
        assert files.cached("key", make).tolist() == [0, 1, 2, 3, 4]
    assert len(made) == 1 and left_in(cache) == ["key.npy"]
    whole = (cache / "key.npy").read_bytes()
    for damage in (b"", b"nonsense", whole[:-3], whole[:20]):
        (cache / "key.npy").write_bytes(damage)
        assert files.cached("key", make).tolist() == [0, 1, 2, 3, 4] and (cache / "key.npy").read_bytes() == whole
    np.save(cache / "key.npy", np.array([{}], object), allow_pickle=True)
    assert files.cached("key", make).tolist() == [0, 1, 2, 3, 4]  # nothing is unpickled


def test_a_cache_that_cannot_be_written_costs_no_result(cache, monkeypatch):
    def full(file, array, **options):
        file.write(b"a part")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "save", full)
    assert files.cached("key", lambda: np.arange(3)).tolist() == [0, 1, 2] and left_in(cache) == []

    def interrupted(file, array, **options):
        file.write(b"a part")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.cached("key", lambda: np.arange(3))
    assert left_in(cache) == []
    monkeypatch.undo()
    monkeypatch.setenv("MINIGRAD_CACHE", str(cache.parent / "file"))
    (cache.parent / "file").write_text("in the way")
    assert files.cached("key", lambda: np.arange(3)).tolist() == [0, 1, 2]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_kill_in_the_middle_of_a_write_leaves_no_half_file(cache):
    """The process dies with half of the array written; under the final name there is nothing, and the next run succeeds."""
    code = """
        import numpy as np, os, sys, time
        from minigrad.data import files
        def slow(file, array, **options):
            file.write(b"half")
            file.flush()
            print("writing", flush=True)
            time.sleep(60)
        np.save = slow
        files.cached("key", lambda: np.arange(5))
    """
    child = subprocess.Popen([sys.executable, "-c", "\n".join(line[8:] for line in code.splitlines())],
                             stdout=subprocess.PIPE, text=True, cwd=ROOT,
                             env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        assert child.stdout.readline() == "writing\n"
        child.send_signal(signal.SIGKILL)
        assert child.wait(20) == -signal.SIGKILL
    finally:
        child.kill()
        child.stdout.close()
    assert not (cache / "key.npy").exists()
    assert files.cached("key", lambda: np.arange(5)).tolist() == [0, 1, 2, 3,
                                                                  4] and np.load(cache / "key.npy").tolist() == [0, 1, 2, 3,
                                                                                                                 4]


def test_several_processes_may_fill_the_cache_at_once(cache):
    results, threads = [], []
    for k in range(8):
        threads.append(threading.Thread(target=lambda: results.append(files.cached("key",
                                                                                   lambda: (time.sleep(0.01),
                                                                                            np.arange(10_000))[1]).sum())))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert results == [np.arange(10_000).sum()] * 8 and left_in(cache) == ["key.npy"]


# -- the publishers' own files ---------------------------------------------------------------------------------------

OWN = pathlib.Path(os.environ.get("MINIGRAD_DATA") or "nowhere")


@pytest.mark.skipif(not (OWN / "mnist" / "t10k-images-idx3-ubyte.gz").exists(), reason="MINIGRAD_DATA has no MNIST")
def test_the_published_mnist(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path))
    images, labels = data.load_mnist("test", OWN)
    assert images.shape == (10_000, 28, 28) and images.dtype == labels.dtype == np.uint8
    assert labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9] and np.bincount(labels).tolist() == [980, 1135, 1032, 1010,
                                                                                                       982, 892, 958, 1028,
                                                                                                       974, 1009]


@pytest.mark.skipif(not (OWN / "omniglot" / "images_background_small2.zip").exists(), reason="MINIGRAD_DATA has no Omniglot")
def test_the_published_omniglot(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path))
    for split, classes, alphabets in (("small1", 136, 5), ("small2", 156, 5)):
        found = data.load_omniglot(split, OWN)
        assert found.images.shape == (classes, 20, 28, 28) and len({name.split("/")[0] for name in found.names}) == alphabets
        assert 0.02 < found.images.mean() < 0.2 and (found.images.max((2, 3)) > 0.3).all()
        with monkeypatch.context() as patched:
            patched.delattr(omniglot, "_decode")  # the second time they come from the cache
            assert (data.load_omniglot(split, OWN).images == found.images).all()
        name, digest = omniglot._FILES[split]
        assert md5((OWN / "omniglot" / name).read_bytes()) == digest
    assert len(found.without(["Greek", "Latin"]).names) == 106

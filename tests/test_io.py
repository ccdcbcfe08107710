"""Where checkpoints and cached files land: permissions, links, folders, what errors leave behind."""
import functools
import json
import os
import pathlib
import stat
import sys

import numpy as np
import pytest

from minigrad import data, io, nn
from minigrad.backend import files
from minigrad.data.files import cached

pytest.importorskip("safetensors")
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions and links")
ARRAYS = {"a": np.arange(3.0)}


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.fixture(params=[0o022, 0o002, 0o077], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def loaded(path):
    arrays, facts = io.load(path)
    assert list(arrays) == ["a"] and (arrays["a"] == ARRAYS["a"]).all()
    return facts


@posix
def test_permissions_are_those_that_open_gives(tmp_path, umask, monkeypatch):
    io.save(tmp_path / "new", ARRAYS, {"x": 1})
    assert mode(tmp_path / "new") == 0o666 & ~umask and loaded(tmp_path / "new") == {"x": 1}
    os.chmod(tmp_path / "new", 0o640)
    io.save(tmp_path / "new", ARRAYS, {"x": 2})
    assert mode(tmp_path / "new") == 0o640 and loaded(tmp_path / "new") == {"x": 2}
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "cache"))
    assert (cached("key", lambda: np.arange(2)) == [0, 1]).all()
    assert mode(data.cache_dir() / "key.npy") == 0o666 & ~umask
    assert sorted(os.listdir(tmp_path)) == ["cache", "new"] and os.listdir(tmp_path / "cache") == ["key.npy"]


@posix
def test_links_are_written_through(tmp_path, monkeypatch):
    (tmp_path / "far").mkdir()
    (tmp_path / "near").mkdir()
    real, link = tmp_path / "far" / "real", tmp_path / "near" / "link"
    link.symlink_to("../far/real")  # which is not there yet
    (tmp_path / "second").symlink_to(link)
    for path in (link, tmp_path / "second", str(link)):
        real.unlink(missing_ok=True)
        for facts in ("one", "two"):
            io.save(path, ARRAYS, facts)
            assert loaded(real) == loaded(path) == facts and link.is_symlink() and (tmp_path / "second").is_symlink()
    assert os.listdir(tmp_path / "near") == ["link"] and os.listdir(tmp_path / "far") == ["real"]
    (tmp_path / "folder").symlink_to(tmp_path / "far", target_is_directory=True)
    io.save(tmp_path / "folder" / "deeper" / "c", ARRAYS)
    assert loaded(tmp_path / "far" / "deeper" / "c") is None
    monkeypatch.chdir(tmp_path / "far")
    io.save("bare", ARRAYS)
    assert loaded(tmp_path / "far" / "bare") is None


def test_a_folder_is_no_checkpoint(tmp_path):
    for call in (lambda: io.load(tmp_path), lambda: io.load(str(tmp_path)), lambda: io.save(tmp_path, ARRAYS)):
        with pytest.raises(IsADirectoryError, match="is a folder"):
            call()
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        io.load(tmp_path / "nowhere")
    assert os.listdir(tmp_path) == []


@posix
def test_a_device_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError, match="no regular file"):
        io.save(tmp_path / "pipe", ARRAYS)
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    io.save(tmp_path / "c", ARRAYS, "old")
    for arrays, facts, error in (({"a": np.array(["text"])}, None, Exception), (ARRAYS, {"x": object()}, TypeError)):
        with pytest.raises(error):
            io.save(tmp_path / "c", arrays, facts)
        assert loaded(tmp_path / "c") == "old" and os.listdir(tmp_path) == ["c"]
    with pytest.raises(KeyboardInterrupt):
        with files.replacing(tmp_path / "c") as temporary:
            os.unlink(temporary)
            raise KeyboardInterrupt
    assert loaded(tmp_path / "c") == "old" and os.listdir(tmp_path) == ["c"]


def test_arrays_of_any_layout_and_facts_come_back(tmp_path):
    arrays = {"transposed": np.arange(6.0).reshape(2, 3).T, "reversed": np.arange(4)[::-1], "scalar": np.array(2.0),
              "empty": np.zeros((0, 3), np.float32), "flag": np.array([True, False]), "big endian": np.arange(3, dtype=">f4")}
    facts = {"names": ["ä", "b"], "nested": {"n": None}}
    io.save(tmp_path / "c", arrays, facts)
    back, read = io.load(tmp_path / "c")
    assert read == json.loads(json.dumps(facts)) and back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert back[name].shape == array.shape and back[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(back[name], array)


@pytest.mark.parametrize("arrays, error", [
    ([np.ones(1)], "arrays: a dict of arrays wanted"), ({"net": {"w": np.ones(1)}}, "'net' is a dict.*'net.weight'"),
    ({"__metadata__": np.ones(1)}, "'__metadata__'"), ({"z": np.ones(1, complex)}, "'z'.*complex"),
    ({"t": np.array(["x"])}, "'t'"), ({"o": np.array([None])}, "'o'"), ({"d": np.array(["2020"], "M8[Y]")}, "'d'"),
    ({"v": np.zeros(2, "V4")}, "'v'"), ({1: np.ones(1)}, "names of arrays are text, not 1"), ({"s": np.zeros(2, [("x", "f4")])}, "'s'")], ids=str)
def test_what_the_format_does_not_hold_is_named_and_the_old_file_stays(tmp_path, arrays, error):
    io.save(tmp_path / "c", ARRAYS)
    before = (tmp_path / "c").read_bytes()
    with pytest.raises((TypeError, ValueError), match=error):
        io.save(tmp_path / "c", arrays)
    assert (tmp_path / "c").read_bytes() == before


def test_a_full_disk_is_an_error_of_the_system_and_the_old_file_stays(tmp_path):
    """Here by a limit on the size of files, which a file system that is full answers in the same way."""
    resource = pytest.importorskip("resource")
    io.save(tmp_path / "c", ARRAYS)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, before[1]))
        with pytest.raises(OSError, match="c is not written: .*(os error|too large)"):
            io.save(tmp_path / "c", {"a": np.ones(10000)})
        with pytest.raises(OSError) as caught, files.replacing(tmp_path / "d") as part:
            pathlib.Path(part).write_bytes(bytes(30000))
        assert caught.value.filename == str(tmp_path / "d")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == ["c"] and (io.load(tmp_path / "c")[0]["a"] == ARRAYS["a"]).all()


def test_facts_that_are_not_json_are_refused_and_the_old_file_stays(tmp_path):
    io.save(tmp_path / "c", ARRAYS)
    before, endless = (tmp_path / "c").read_bytes(), []
    endless.append(endless)
    deep = functools.reduce(lambda inner, _: [inner], range(100_000), [])
    for facts in ({"accuracy": np.float32(0.5)}, {(1, 2): 3}, endless, deep):
        with pytest.raises(TypeError, match="save: facts must be what JSON can hold"):
            io.save(tmp_path / "c", ARRAYS, facts)
    assert (tmp_path / "c").read_bytes() == before and len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize("dtype, size, metadata, said", [
    ("F8_E4M3", 1, {}, "'a' is of dtype F8_E4M3, which NumPy does not have"), ("F8_E8M0", 1, {}, "'a' is of dtype F8_E8M0"),
    ("F32", 4, {"__metadata__": {"facts": "of another program"}}, "the facts in it are not JSON"),
    ("F32", 4, {"__metadata__": {"facts": "1" * 5000}}, "the facts in it are not JSON .* digits"),
    ("F32", 4, {"__metadata__": {"facts": "[" * 100000}}, "the facts in it are not JSON .* recursion")],
    ids=lambda value: str(value)[:40])
def test_what_numpy_and_json_do_not_hold_is_named(tmp_path, dtype, size, metadata, said):
    header = json.dumps({"a": {"dtype": dtype, "shape": [8], "data_offsets": [0, 8 * size]}, **metadata}).encode()
    (tmp_path / "c").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8 * size))
    with pytest.raises(ValueError, match=f"is not read: {said}"):
        io.load(tmp_path / "c")


def test_every_dtype_of_the_format_that_numpy_has_is_read(tmp_path):
    arrays = {str(dtype): np.arange(2).astype(dtype) for dtype in (
        "bool", "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", pytest.importorskip("ml_dtypes").bfloat16)}
    io.save(tmp_path / "c", arrays)
    back, _ = io.load(tmp_path / "c")
    assert all(back[name].dtype == a.dtype and back[name].tolist() == a.tolist() for name, a in arrays.items())


def test_without_safetensors_the_library_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for call in (lambda: io.load(tmp_path / "c"), lambda: io.save(tmp_path / "c", ARRAYS)):
        with pytest.raises(ImportError, match="library safetensors"):
            call()


def test_what_is_no_array_is_named(tmp_path):
    for value in (nn.Linear(2, 3).weight, [[1, 2], [3]]):
        with pytest.raises(TypeError, match="save: 'net.weight': "):
            io.save(tmp_path / "net.safetensors", {"net.weight": value})
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_in_several_files_is_read_by_its_index(tmp_path):
    torch = pytest.importorskip("torch")
    index = tmp_path / "model.safetensors.index.json"
    io.save(tmp_path / "1.safetensors", {"a": np.ones(2), "b": np.zeros(3), "twice": np.ones(1)}, "facts")
    torch.save({"c": torch.ones(4), "twice": torch.zeros(1)}, tmp_path / "2.bin")
    places = {"b": "1.safetensors", "c": "2.bin", "a": "1.safetensors", "twice": "2.bin"}
    index.write_text(json.dumps({"metadata": {"total_size": 80}, "weight_map": places}))
    arrays, facts = io.load(index)
    assert {name: a.tolist() for name, a in arrays.items()} == {"a": [1] * 2, "b": [0] * 3, "c": [1] * 4, "twice": [0]}
    assert facts is None
    for change, error, said in (
            ({"weight_map": places | {"d": "1.safetensors"}}, ValueError, "1.safetensors does not hold d, as model"),
            ({"weight_map": places | {"d": "3.bin"}}, FileNotFoundError, "3.bin is not there, and model.* holds d"),
            ({"weight_map": {"a": index.name}}, ValueError, "is damaged or no safetensors file"),
            ({"weight_map": {"a": "../1.safetensors"}}, ValueError, "is no name of a file beside it"),
            ({"weight_map": {"a": 1}}, ValueError, "'weight_map' leads"), ({"weight_map": [1]}, ValueError, "'weight_map' leads"),
            ({}, ValueError, "'weight_map' leads"), ([], ValueError, "'weight_map' leads")):
        index.write_text(json.dumps(change))
        with pytest.raises(error, match=said):
            io.load(index)
    index.write_text("no JSON")
    with pytest.raises(ValueError, match="'weight_map' leads"):
        io.load(index)
    (tmp_path / "2.bin").write_bytes((tmp_path / "2.bin").read_bytes()[:50])
    index.write_text(json.dumps({"weight_map": places}))
    with pytest.raises(ValueError, match="2.bin is not read"):
        io.load(index)

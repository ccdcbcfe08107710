"""How the kernels in C get compiled, stored and loaded; and what serves where they cannot be."""
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from minigrad.backend.cpu import native

pytestmark = pytest.mark.skipif(not native.kernel("softmax"), reason="no C compiler")


def run(code, **environment):
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True,
                          cwd=pathlib.Path(__file__).parents[2])


ASK = "from minigrad.backend.cpu import native; print(native.kernel('softmax') is not None)"


def test_compiled_once_and_again_if_damaged(tmp_path):
    assert run(ASK, MINIGRAD_CACHE=str(tmp_path)).stdout == "True\n"
    (library,) = tmp_path.glob("*.so")
    changed = library.stat().st_mtime_ns
    run(ASK, MINIGRAD_CACHE=str(tmp_path))
    assert library.stat().st_mtime_ns == changed
    library.write_bytes(b"half a file")
    assert run(ASK, MINIGRAD_CACHE=str(tmp_path)).stdout == "True\n" and len(list(tmp_path.iterdir())) == 1


def _foreign(path):
    source = path.with_suffix(".c")
    source.write_text("int nothing;")
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(path)], check=True)
    source.unlink()


DAMAGES = {"half": lambda path: os.truncate(path, path.stat().st_size // 2), "empty": lambda path: os.truncate(path, 0),
           "one byte": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"), "foreign": _foreign,
           "a folder": lambda path: (path.unlink(), path.mkdir()), "missing": lambda path: path.unlink()}


@pytest.fixture(scope="module")
def brief_sources(tmp_path_factory):
    """Code that puts a few lines in the place of the kernels, which would take long to compile; their folder."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "kernels.h").write_text("")
    (folder / "a.c").write_text("void use_threads(int number) {}\nvoid softmax(float *x) {}\n")
    return f"import pathlib; from minigrad.backend.cpu import native; native.FOLDER = pathlib.Path({str(folder)!r}); "


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_library_is_never_loaded(tmp_path, brief_sources, damage):
    code, cache = brief_sources + ASK, tmp_path / "cache"
    first = run(code, MINIGRAD_CACHE=str(cache))
    assert first.stdout == "True\n" and "compiling" in first.stderr
    (library,) = cache.glob("*.so")
    DAMAGES[damage](library)
    assert run(code, MINIGRAD_CACHE=str(cache), TMPDIR=str(tmp_path)).stdout == "True\n"
    again = run(code, MINIGRAD_CACHE=str(cache), TMPDIR=str(tmp_path))
    assert again.stdout == "True\n" and not ("compiling" in again.stderr and damage != "a folder")


def test_a_library_without_the_kernels_is_compiled_again(tmp_path, brief_sources):
    code = brief_sources + ASK
    run(code, MINIGRAD_CACHE=str(tmp_path))
    (library,) = tmp_path.glob("*.so")
    _foreign(tmp_path / "foreign.so")
    digest = native._file_name("", tmp_path / "foreign.so").split("-")[-1]
    library.unlink()
    os.replace(tmp_path / "foreign.so", tmp_path / f"{library.name.rpartition('-')[0]}-{digest}")
    assert run(code, MINIGRAD_CACHE=str(tmp_path)).stdout == "True\n"
    assert [path.name for path in tmp_path.glob("*.so")] == [library.name]


@pytest.mark.parametrize("failure", ["exit 1", "kill -9 $$", "echo no space left on device >&2; exit 4"])
def test_where_a_compile_fails_the_next_folder_gets_no_slower_library(tmp_path, brief_sources, failure):
    code, cache, compiler = brief_sources + ASK, tmp_path / "cache", tmp_path / "cc"
    (tmp_path / "tmp").mkdir()
    environment = dict(MINIGRAD_CACHE=str(cache), CC=str(compiler), TMPDIR=str(tmp_path / "tmp"))
    compiler.write_text(f"#!/bin/sh\nif [ ! -e {tmp_path}/failed ]; then : > {tmp_path}/failed; {failure}; fi\n"
                        f"case \"$*\" in *a.c*) echo \"$*\" >> {tmp_path}/calls ;; esac\nexec {shutil.which('cc')} \"$@\"\n")
    compiler.chmod(0o755)
    done = run(code, **environment)
    assert done.stdout == "True\n" and "RuntimeWarning" not in done.stderr and not list(cache.glob("*.so"))
    assert all(word in (tmp_path / "calls").read_text() for word in native.CHOICES[0])


def test_a_cache_that_is_the_present_folder_is_read(tmp_path, brief_sources):
    code = f"import os; os.chdir({str(tmp_path)!r}); {brief_sources}{ASK}"
    assert run(code, MINIGRAD_CACHE=".").stderr.count("compiling") == 1
    again = run(code, MINIGRAD_CACHE=".")
    assert again.stdout == "True\n" and "compiling" not in again.stderr


def test_a_compiler_may_be_several_words_or_a_path_with_spaces(tmp_path, brief_sources):
    launcher = tmp_path / "a launcher"
    launcher.write_text(f"#!/bin/sh\n: > '{tmp_path}/called'\nexec {shutil.which('cc')} \"$@\"\n")
    launcher.chmod(0o755)
    for i, given in enumerate([str(launcher), f"'{launcher}' -g"]):
        assert run(brief_sources + ASK, MINIGRAD_CACHE=str(tmp_path / f"cache{i}"), CC=given).stdout == "True\n"
        (tmp_path / "called").unlink()


@pytest.mark.parametrize("after, serves", [("", True), ("\nexit 1", False)])
def test_what_a_compiler_says_may_be_bytes_of_any_kind(tmp_path, brief_sources, after, serves):
    compiler = tmp_path / "cc"
    compiler.write_text(f'#!/bin/sh\nprintf "\\377 warning\\n" >&2\n{shutil.which("cc") or shutil.which("gcc")} "$@"{after}\n')
    compiler.chmod(0o755)
    done = run(brief_sources + ASK, MINIGRAD_CACHE=str(tmp_path / "cache"), CC=str(compiler))
    assert done.stdout == f"{serves}\n" and "Traceback" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is full")
def test_kernels_are_compiled_though_nobody_listens(tmp_path, brief_sources):
    script = tmp_path / "ask.py"
    script.write_text(brief_sources + ASK)
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=full, text=True,
                              env={**os.environ, "MINIGRAD_CACHE": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.stdout == "True\n"


def test_an_option_that_the_compiler_does_not_know_is_left_out(tmp_path, brief_sources):
    code = brief_sources + "native.CHOICES = [('-mno-such-option',), ()]; " + ASK
    assert run(code, MINIGRAD_CACHE=str(tmp_path)).stdout == "True\n"


def test_many_processes_compile_at_once(tmp_path, brief_sources):
    command = [sys.executable, "-c", brief_sources + ASK]
    many = [subprocess.Popen(command, env={**os.environ, "MINIGRAD_CACHE": str(tmp_path)}, stdout=subprocess.PIPE, text=True,
                             cwd=pathlib.Path(__file__).parents[2]) for _ in range(4)]
    assert [process.communicate()[0] for process in many] == ["True\n"] * 4
    assert len(list(tmp_path.iterdir())) == 1


def test_of_many_threads_one_compiles(tmp_path, brief_sources):
    code = ("import threading; found = []; ask = lambda: found.append(native.kernel('softmax') is not None); "
            "many = [threading.Thread(target=ask) for _ in range(4)]; [t.start() for t in many]; [t.join() for t in many]; ")
    done = run(brief_sources + code + "print(found)", MINIGRAD_CACHE=str(tmp_path))
    assert done.stdout == "[True, True, True, True]\n" and done.stderr.count("compiling") == 1


def test_without_a_compiler_a_sentence_says_what_it_costs(tmp_path):
    done = run(ASK, MINIGRAD_CACHE=str(tmp_path), PATH=str(tmp_path), CC="nothing")
    assert done.stderr.count("several times as long") == 1 and "CC" in done.stderr


def test_without_a_compiler_numpy_serves(tmp_path):
    assert run(ASK, MINIGRAD_CACHE=str(tmp_path), PATH=str(tmp_path), CC="nothing").stdout == "False\n"
    assert run(ASK, MINIGRAD_NATIVE="0").stdout == "False\n"
    broken = tmp_path / "cc"
    broken.write_text(f"#!{shutil.which('sh')}\necho no such processor >&2\nexit 1\n")
    broken.chmod(0o755)
    done = run(ASK, MINIGRAD_CACHE=str(tmp_path / "cache"), CC=str(broken))
    assert done.stdout == "False\n" and "no such processor" in done.stderr


def test_where_no_folder_can_be_written_numpy_serves(tmp_path):
    (tmp_path / "file").touch()
    code = "import tempfile; tempfile._candidate_tempdir_list = lambda: []; "
    done = run(code + ASK, MINIGRAD_CACHE=str(tmp_path / "file"))
    assert done.stdout == "False\n" and done.stderr.count("RuntimeWarning") == 1 and "no kernels" not in done.stderr


@pytest.mark.parametrize("variable", ["MINIGRAD_CFLAGS", "CC"])
def test_words_for_the_compiler_that_cannot_be_read_are_named(tmp_path, variable):
    done = run(ASK, MINIGRAD_CACHE=str(tmp_path), **{variable: "-D 'A"})
    assert done.returncode == 1 and f"ValueError: {variable}=-D 'A: " in done.stderr


def test_without_openmp_blas_keeps_its_threads(tmp_path):
    code = ("from minigrad.backend.cpu import native; native.CHOICES = [('-fopenmp-simd',)]\n"
            "print(native.kernel('softmax') is not None, *map(native.kernel, native.MULTIPLYING))")
    assert run(code, MINIGRAD_CACHE=str(tmp_path)).stdout == "True None None None\n"


def test_where_blas_cannot_be_called_numpy_multiplies():
    code = ("from minigrad.backend.cpu import blas; blas.product_address = lambda: None\n"
            "import numpy as np; from minigrad.backend.cpu import native, products\n"
            "assert native.kernel('softmax') and not any(map(native.kernel, native.MULTIPLYING))\n"
            "x = np.ones((300, 300), 'f'); print(products.product(x, x, x[0])[0, 0])")
    assert run(code).stdout == "301.0\n"

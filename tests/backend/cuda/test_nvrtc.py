"""NVRTC compiles every kernel for the supported architectures. No driver is needed, only the nvidia-cuda-nvrtc wheel."""
import ctypes
import functools
import importlib.util
import pathlib
import re

import pytest
from minigrad.backend.cuda import launch

TARGETS = [("sm_75", "float16"), ("sm_75", "bfloat16"), ("sm_75", "float32"), ("sm_80", "float32"), ("sm_80", "float64"),
           ("sm_90", "float32"), ("sm_100", "float16"), ("sm_100", "bfloat16"), ("sm_100", "float32")]


def _installed():
    """The path of libnvrtc in the wheel's folder, or None."""
    spec = importlib.util.find_spec("nvidia")
    folders = spec.submodule_search_locations if spec else []
    found = [path for folder in folders for path in pathlib.Path(folder).glob("*/lib/libnvrtc.so.*")
             if re.fullmatch(r"libnvrtc\.so\.\d+", path.name)]
    return str(found[0]) if found else None


LIBRARY = _installed()
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="the nvidia-cuda-nvrtc wheel is not installed")


@functools.cache
def nvrtc():
    return ctypes.CDLL(LIBRARY)


def compiled(file, item, architecture):
    """The binary of a kernel file. Its messages, warnings too, fail the test."""
    program = ctypes.c_void_p()
    text = launch.source(file).encode()
    assert nvrtc().nvrtcCreateProgram(ctypes.byref(program), text, f"{file}.cu".encode(), 0, None, None) == 0
    try:
        arguments = [option.encode() for option in (
            *launch.options(item), "-ftz=true", f"--gpu-architecture={architecture}")]  # as CuPy does
        failed = nvrtc().nvrtcCompileProgram(program, len(arguments), (ctypes.c_char_p * len(arguments))(*arguments))
        messages = _fetch(program, "ProgramLog").rstrip(b"\0").decode().strip()
        if failed or messages:
            pytest.fail(f"{file}.cu, {item}, {architecture}:\n{messages}", pytrace=False)
        return _fetch(program, "CUBIN")
    finally:
        nvrtc().nvrtcDestroyProgram(ctypes.byref(program))


def _fetch(program, name):
    size = ctypes.c_size_t()
    assert getattr(nvrtc(), f"nvrtcGet{name}Size")(program, ctypes.byref(size)) == 0
    buffer = ctypes.create_string_buffer(size.value)
    assert getattr(nvrtc(), f"nvrtcGet{name}")(program, buffer) == 0
    return buffer.raw


@pytest.mark.parametrize("architecture, item", TARGETS)
@pytest.mark.parametrize("file", launch.files())
def test_compiles(file, architecture, item):
    binary = compiled(file, item, architecture)
    for kernel in launch.kernels(file):
        assert kernel.encode() in binary


@pytest.mark.parametrize("file", launch.files())
def test_every_kernel_is_declared_in_the_form_that_the_loader_reads(file):
    text = launch.source(file)
    assert len(launch.kernels(file)) == text.count("__global__") > 0
    assert "#include" not in text  # NVRTC has no headers

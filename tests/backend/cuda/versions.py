"""What the kernels depend on: versions, headers, and whether every kernel file compiles for this GPU.

    python -m tests.backend.cuda.versions
"""
import importlib
import multiprocessing
import platform
import time

from minigrad import backend
from minigrad.backend.cuda import launch


def loaded(item):
    """Compiles and loads all kernel files for items of one type, and says how long it took."""
    begin = time.perf_counter()
    for file in launch.files():
        taken = [kind for parameters in launch.kernels(file).values() for kind, _, _ in parameters]
        if "item" in taken or not item.endswith("16"):
            for kernel in launch.kernels(file):
                launch.compiled(file, kernel, item)
    return f"{item}: all kernel files compiled and loaded in {time.perf_counter() - begin:.1f} s"


def main():
    print(f"Python {platform.python_version()}, {platform.platform()}")
    for name in ("numpy", "cupy", "torch", "ml_dtypes", "scipy", "hypothesis", "pytest", "xdist", "tyro", "matplotlib"):
        try:
            print(f"{name} {getattr(importlib.import_module(name), '__version__', 'of unknown version')}")
        except Exception as error:  # a broken installation is news too
            print(f"{name}: {type(error).__name__}: {error}")
    cupy = backend.cupy()
    cupy.show_config()
    halves = cupy.arange(3, dtype="float16") + 1  # CuPy's own kernels need CUDA's headers
    assert halves.get().tolist() == [1, 2, 3]
    with multiprocessing.get_context("spawn").Pool(len(launch.ITEMS)) as pool:
        print("\n".join(pool.map(loaded, launch.ITEMS)))


if __name__ == "__main__":
    main()

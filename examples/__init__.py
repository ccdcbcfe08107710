from importlib.util import find_spec

_PACKAGES = {"matplotlib": "matplotlib", "PIL": "pillow", "pooch": "pooch", "safetensors": "safetensors",
             "sklearn": "scikit-learn", "tqdm": "tqdm", "tyro": "tyro"}  # of the extra `examples`, by their modules
if _missing := [package for module, package in _PACKAGES.items() if find_spec(module) is None]:
    raise SystemExit(f"the examples need {', '.join(_missing)}: pip install -e \".[examples]\" in the clone")

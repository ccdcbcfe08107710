"""Moving Tensors between devices."""
from __future__ import annotations

from .. import backend
from ..primitive import Primitive
from ..tensor import DTypeLike, Tensor, TensorLike, as_tensor
from .declare import operation
from .elementwise import astype

_copy = Primitive(
    "to_device", lambda x, device, source: backend.to_device(x, device),
    lambda g, _out, _x, device, source: _copy(g, device=source, source=device))


@operation(method=True)
def to(x: TensorLike, target: DTypeLike) -> Tensor:
    """`x` on another device (`x.to("cuda")`, `x.to("cpu")`) or in another dtype (`x.to("float16")`). Differentiable."""
    if isinstance(target, str) and target.partition(":")[0] in ("cpu", "cuda"):
        x = as_tensor(x)
        return x if x.device == target else _copy(x, device=target, source=x.device)
    try:
        dtype = backend.as_dtype(target)
    except TypeError:
        raise ValueError(f"to: {target!r} is neither a device ('cpu', 'cuda', 'cuda:N') nor a dtype") from None
    return astype(x, dtype)

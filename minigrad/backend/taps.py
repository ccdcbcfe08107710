"""Convolution on any array module, one product per position ("tap") of the window: short, and the reference of the tests.

Arguments and results are those of `minigrad.backend.cpu.conv`.
"""
from . import xp


def _output_size(x_shape, w_shape, stride, padding, dilation):
    size = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1
                 for n, k, s, p, d in zip(x_shape[2:], w_shape[2:], stride, padding, dilation))
    if min(size) < 1:
        raise ValueError(f"conv2d: window {w_shape[2:]} is larger than the padded image {x_shape[2:]}")
    return size


def _taps(w_shape, size, stride, dilation):
    """For each position of the window: its row and column, and the slice of the padded images that it sees."""
    for a in range(w_shape[2]):
        for b in range(w_shape[3]):
            yield a, b, (slice(None), slice(None), slice(None),
                         slice(a * dilation[0], a * dilation[0] + (size[0] - 1) * stride[0] + 1, stride[0]),
                         slice(b * dilation[1], b * dilation[1] + (size[1] - 1) * stride[1] + 1, stride[1]))


def _padded(x, padding, groups):
    """(N, C, H, W) with zeros around it, as (N, groups, C / groups, H', W')."""
    n, c = x.shape[:2]
    if c % groups:
        raise ValueError(f"conv2d: {c} channels do not divide into {groups} groups")
    x = xp(x).pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    return x.reshape(n, groups, c // groups, *x.shape[2:])


def conv2d(x, w, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    size = _output_size(x.shape, w.shape, stride, padding, dilation)
    wide, filters = _padded(x, padding, groups), w.reshape(groups, -1, *w.shape[1:])
    if wide.shape[2] != w.shape[1]:
        raise ValueError(f"conv2d: images of {x.shape[1]} channels in {groups} groups, filters for {w.shape[1]}")
    y = 0
    for a, b, see in _taps(w.shape, size, stride, dilation):
        y = y + xp(x).einsum("ngchw,goc->ngohw", wide[see], filters[..., a, b])
    return y.reshape(x.shape[0], w.shape[0], *size)


def conv2d_input_grad(gy, w, x_shape, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    module, size = xp(gy), gy.shape[2:]
    wide = _padded(module.zeros(x_shape, gy.dtype), padding, groups)
    gy, filters = gy.reshape(len(gy), groups, -1, *size), w.reshape(groups, -1, *w.shape[1:])
    for a, b, see in _taps(w.shape, size, stride, dilation):
        wide[see] += module.einsum("ngohw,goc->ngchw", gy, filters[..., a, b])
    top, left = padding
    return wide.reshape(*x_shape[:2], *wide.shape[3:])[:, :, top:top + x_shape[2], left:left + x_shape[3]]


def conv2d_weight_grad(gy, x, w_shape, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    module, size = xp(gy), gy.shape[2:]
    wide, gy = _padded(x, padding, groups), gy.reshape(len(gy), groups, -1, *size)
    gw = module.zeros((groups, w_shape[0] // groups, *w_shape[1:]), gy.dtype)
    for a, b, see in _taps(w_shape, size, stride, dilation):
        gw[..., a, b] = module.einsum("ngohw,ngchw->goc", gy, wide[see])
    return gw.reshape(w_shape)

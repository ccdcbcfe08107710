"""Kernels on images (N, C, H, W): normalisation, pooling, convolution, sampling.

Mostly a block of threads works on one plane, that is on one channel of one image. Arrays are on the GPU, in C order, of one
of `launch.ITEMS`. Of 16 bits, statistics and the gradients of norms' weights are float32.
"""
import math

from .. import is_half, xp
from .elementwise import THREADS, blocks, column_sum, whole_warps
from .launch import computed, constant, empty, empty_like, in_any_order, launch, ordered
from .matmul import matmul

TAPS = constant("depthwise", "TAPS")  # weights for one block
MANY_BLOCKS, MANY_THREADS = 1 << 12, 1 << 18  # enough for any GPU
LARGE = 64  # pixels
MATRIX_BYTES = 1 << 28  # of the matrix that a convolution makes of its images at a time


# -- normalisation -----------------------------------------------------------------------------------------------------


@in_any_order
def moments(x):
    """Mean and biased variance of each channel of (N, C, ...): (C,), (C,)."""
    (n, c), pixels, dtype = x.shape[:2], math.prod(x.shape[2:]), computed(x.dtype)
    plane_mean, squares, mean, var = (empty(shape, dtype) for shape in ((n, c), (n, c), (c,), (c,)))
    launch("batch_norm", "plane_moments", n * c, whole_warps(pixels), x, plane_mean, squares, pixels)
    launch("batch_norm", "merge_moments", c, whole_warps(n), plane_mean, squares, mean, var, n, c, pixels)
    return mean, var


@in_any_order
def batch_norm(x, gamma, beta, eps=1e-5, relu=False):
    """Each channel normalised by the statistics of the batch, followed by a ReLU on request.

    Args:
        x: (N, C, ...), at least one value a channel.
        gamma, beta: (C,).

    Returns:
        y like x; mean and biased var (C,).
    """
    mean, var = moments(x)
    return batch_norm_eval(x, gamma, beta, mean, var, eps, relu), mean, var


@in_any_order
def batch_norm_eval(x, gamma, beta, mean, var, eps=1e-5, relu=False):
    """Each channel normalised by a given mean and variance."""
    y, (n, c), pixels = empty_like(x), x.shape[:2], math.prod(x.shape[2:])
    launch("batch_norm", "batch_norm_apply", n * c, whole_warps(pixels), x, gamma, beta, mean, var, y, c, pixels, eps, relu)
    return y


@in_any_order
def inverse_std(var, eps):
    """1 / sqrt(var + eps) of (C,) float32 or float64."""
    y = empty_like(var)
    launch("batch_norm", "inverse_std", blocks(var.size), THREADS, var, y, var.size, eps)
    return y


def move_running(running_mean, running_var, mean, var, momentum, unbiased):
    """running += momentum (statistic - running), in place, the variance times `unbiased`; (C,) of one dtype, as `inverse_std`."""
    launch("batch_norm", "move_running", blocks(mean.size), THREADS, ordered(mean), ordered(var), running_mean, running_var,
           mean.size, momentum, unbiased)


@in_any_order
def fold_norm(weight, gamma, beta, mean, var, eps):
    """The weight and bias of a convolution without bias that is followed by batch norm with a given mean and variance."""
    scaled, shift = empty_like(weight), empty_like(mean)
    launch("batch_norm", "fold_norm", blocks(weight.size), THREADS, weight, gamma, beta, mean, var, scaled, shift, weight.size,
           weight.size // len(mean), eps)
    return scaled, shift


@in_any_order
def batch_norm_backward(gy, x, gamma, mean, inv_std, y=None):
    """The gradients of `batch_norm` in x, gamma and beta; `y`, its output, is needed if a ReLU followed."""
    dx, (n, c), pixels = empty_like(x), x.shape[:2], math.prod(x.shape[2:])
    db, dw = _norm_sums(gy, x, y, mean, inv_std)
    launch("batch_norm", "batch_norm_backward", n * c, whole_warps(pixels), gy, x, y, gamma, mean, inv_std, db, dw, dx, c,
           pixels, n * pixels)
    return dx, dw, db


@in_any_order
def batch_norm_double_backward(h, dx, gy, x, gamma, mean, inv_std, dgamma, dbeta):
    """The gradients of the dx of `batch_norm_backward` in gy, x and gamma, for its cotangent h."""
    in_x, (n, c), pixels = empty_like(x), x.shape[:2], math.prod(x.shape[2:])
    in_gy, h_gamma, _ = batch_norm_backward(h, x, gamma, mean, inv_std)
    number = mean.dtype.type(n * pixels)
    s = _norm_sums(h, gy, None, dbeta / number, xp(x).ones_like(mean))[1] - h_gamma * (dgamma / number)
    launch("batch_norm", "batch_norm_double_backward", n * c, whole_warps(pixels), in_gy, dx, x, gamma, mean, inv_std, dgamma,
           h_gamma, s, in_x, c, pixels, n * pixels)
    return in_gy, in_x, inv_std * s


def _norm_sums(gy, x, y, mean, inv_std):
    """Of each channel the sums of gy and of gy (x - mean) inv_std."""
    (n, c), pixels = x.shape[:2], math.prod(x.shape[2:])
    db, dw = empty((n, c), mean.dtype), empty((n, c), mean.dtype)
    launch("batch_norm", "batch_norm_sums", n * c, whole_warps(pixels), gy, x, y, mean, inv_std, db, dw, c, pixels)
    return column_sum(db), column_sum(dw)


@in_any_order
def group_norm(x, groups, gamma, beta, eps=1e-5):
    """The channels of each image normalised in groups of their own mean and variance.

    Args:
        x: (N, C, ...), C a multiple of `groups`.
        gamma, beta: (C,).

    Returns:
        y like x; mean and inv_std (N, groups).
    """
    (n, c), pixels = x.shape[:2], math.prod(x.shape[2:])
    dtype = computed(x.dtype)
    y, mean, inv_std = empty_like(x), empty((n, groups), dtype), empty((n, groups), dtype)
    launch("group_norm", "group_norm_forward", n * groups, whole_warps(c // groups * pixels), x, gamma, beta, y, mean, inv_std,
           groups, c // groups, pixels, eps)
    return y, mean, inv_std


@in_any_order
def group_norm_backward(gy, x, gamma, mean, inv_std):
    """The gradients of `group_norm` in x, gamma and beta."""
    (n, c), pixels, groups = x.shape[:2], math.prod(x.shape[2:]), mean.shape[1]
    dx, db, dw = empty_like(x), empty((n, c), mean.dtype), empty((n, c), mean.dtype)
    launch("group_norm", "group_norm_backward", n * groups, whole_warps(c // groups * pixels), gy, x, gamma, mean, inv_std, dx,
           groups, c // groups, pixels)
    launch("group_norm", "group_norm_sums", n * c, whole_warps(pixels), gy, x, mean, inv_std, db, dw, c // groups, pixels)
    return dx, column_sum(dw), column_sum(db)


@in_any_order
def norm_relu_pool(x, gamma, beta, eps=1e-5, pool=2):
    """max_pool2d(relu(batch_norm(x)), pool) with the statistics of the batch.

    Returns:
        y, winner: (N, C, H // pool, W // pool), winner int32: the position in the window, row by row.
        mean, var: (C,).
    """
    n, c, height, width = x.shape
    shape = (n, c, height // pool, width // pool)
    mean, var = moments(x)
    y, winner = empty(shape, x.dtype), empty(shape, "int32")
    launch("norm_relu_pool", "norm_relu_pool_forward", n * c, whole_warps(math.prod(shape[2:])), x, gamma, beta, mean, var, y,
           winner, c, height, width, pool, eps)
    return y, winner, mean, var


@in_any_order
def norm_relu_pool_backward(gy, x, y, winner, gamma, mean, inv_std, pool=2):
    """The gradients of `norm_relu_pool` in x, gamma and beta."""
    n, c, height, width = x.shape
    dx, db, dw = empty_like(x), empty((n, c), mean.dtype), empty((n, c), mean.dtype)
    launch("norm_relu_pool", "norm_relu_pool_sums", n * c, whole_warps(math.prod(y.shape[2:])), gy, x, y, winner, mean,
           inv_std, db, dw, c, height, width, pool)
    db, dw = column_sum(db), column_sum(dw)
    launch("norm_relu_pool", "norm_relu_pool_backward", n * c, whole_warps(height * width), gy, x, y, winner, gamma, mean,
           inv_std, db, dw, dx, c, height, width, pool, n * height * width)
    return dx, dw, db


# -- windows -----------------------------------------------------------------------------------------------------------


def _output_size(name, size, kernel, stride, padding, dilation=(1, 1)):
    shape = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(size, kernel, stride, padding, dilation))
    if min(shape) < 1:
        raise ValueError(f"{name}: a window of {kernel}, dilation {dilation}, is larger than the padded image {size}")
    return shape


@in_any_order
def max_pool2d(x, kernel, stride, padding=(0, 0)):
    """The largest value of each window: y, and winner (int32) as of `minigrad.backend.cpu.pool.max_pool2d`."""
    size = _output_size("max_pool2d", x.shape[2:], kernel, stride, padding)
    y, winner = empty(x.shape[:2] + size, x.dtype), empty(x.shape[:2] + size, "int32")
    launch("pool", "max_pool_forward", math.prod(x.shape[:2]), whole_warps(math.prod(size)), x, y, winner, *x.shape[2:], *size,
           *kernel, *stride, *padding)
    return y, winner


def serves_max_pool2d(x, kernel, stride, padding, dilation=(1, 1)):
    """Whether `max_pool2d` can."""
    return dilation == (1, 1)


@in_any_order
def max_pool2d_backward(gy, winner, x_shape, kernel, stride, padding=(0, 0)):
    """The gradient of `max_pool2d` in its input."""
    dx = empty(x_shape, gy.dtype)
    launch("pool", "max_pool_backward", math.prod(x_shape[:2]), whole_warps(math.prod(x_shape[2:])), gy, winner, dx,
           *x_shape[2:], *gy.shape[2:], *kernel, *stride, *padding)
    return dx


@in_any_order
def avg_pool2d(x, kernel, stride, padding=(0, 0)):
    """The mean of each window, padding counted as zeros."""
    size = _output_size("avg_pool2d", x.shape[2:], kernel, stride, padding)
    y = empty(x.shape[:2] + size, x.dtype)
    launch("pool", "avg_pool_forward", math.prod(x.shape[:2]), whole_warps(math.prod(size)), x, y, *x.shape[2:], *size, *kernel,
           *stride, *padding)
    return y


@in_any_order
def avg_pool2d_backward(gy, x_shape, kernel, stride, padding=(0, 0)):
    """The gradient of `avg_pool2d` in its input."""
    dx = empty(x_shape, gy.dtype)
    launch("pool", "avg_pool_backward", math.prod(x_shape[:2]), whole_warps(math.prod(x_shape[2:])), gy, dx, *x_shape[2:],
           *gy.shape[2:], *kernel, *stride, *padding)
    return dx


# -- convolution -------------------------------------------------------------------------------------------------------


@in_any_order
def im2col(x, kernel, stride, padding, dilation):
    """The windows of (N, C, H, W) as the columns of a matrix (C * kh * kw, N * H' * W')."""
    n, c, *size = x.shape
    out = _output_size("conv2d", size, kernel, stride, padding, dilation)
    matrix = empty((c * math.prod(kernel), n * math.prod(out)), x.dtype)
    windows = n * math.prod(out)
    parts = 1 if c * windows >= MANY_THREADS else min(kernel[0], 64)  # of a window that a thread copies
    launch("im2col", "im2col", (c * blocks(windows), parts), THREADS, x, matrix, n, c, *size, *out, *kernel, *stride, *padding,
           *dilation)
    return matrix


@in_any_order
def col2im(matrix, x_shape, kernel, stride, padding, dilation):
    """The transpose of `im2col`: the sum of the elements that each pixel was copied to, (N, C, H, W)."""
    n, c, *size = x_shape
    out = _output_size("conv2d", size, kernel, stride, padding, dilation)
    x = empty(x_shape, matrix.dtype)
    launch("im2col", "col2im", c * blocks(n * math.prod(size)), THREADS, matrix, x, n, c, *size, *out, *kernel, *stride, *padding,
           *dilation)
    return x


@in_any_order
def swap_planes(x, *, out=None):
    """(A, B, ...) with its first two axes swapped, in C order; in `out` if that is given."""
    first, second, *rest = x.shape
    out = empty((second, first, *rest), x.dtype) if out is None else out
    launch("im2col", "swap_planes", blocks(x.size), THREADS, x, out, first, second, math.prod(rest))
    return out


@in_any_order
def conv2d(x, w, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """Cross-correlation of (N, C, H, W) with (O, C / groups, kh, kw): (N, O, H', W'). Settings are pairs.

    Depthwise ones have a kernel of their own, and for pointwise ones an image is the matrix; all others are `im2col` and a
    matrix product, some images at a time.
    """
    geometry = {"stride": stride, "padding": padding, "dilation": dilation}
    o, kernel = w.shape[0], w.shape[2:]
    shape = (x.shape[0], o, *_output_size("conv2d", x.shape[2:], kernel, **geometry))
    if _pointwise(x, kernel, stride, padding, groups):
        return matmul(w.reshape(o, -1), x.reshape(*x.shape[:2], math.prod(shape[2:]))).reshape(shape)
    y = empty(shape, x.dtype)
    if _depthwise(x.shape, groups):
        launch("depthwise", "depthwise_forward", x.shape[0] * o, whole_warps(math.prod(y.shape[2:])), x, w, y, o, o // groups,
               *x.shape[2:], *y.shape[2:], *kernel, *stride, *padding, *dilation)
        return y
    for part in _parts(x.shape, y.shape, kernel, x.dtype):
        matrix = im2col(x[part], kernel, **geometry)
        product = matmul(w.reshape(groups, o // groups, -1), matrix.reshape(groups, -1, matrix.shape[1]))
        swap_planes(product.reshape(o, -1, *y.shape[2:]), out=y[part])
    return y


@in_any_order
def conv2d_input_grad(gy, w, x_shape, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """The gradient of `conv2d` in x."""
    geometry = {"stride": stride, "padding": padding, "dilation": dilation}
    o, kernel = w.shape[0], w.shape[2:]
    if _pointwise(gy, kernel, stride, padding, groups):
        return matmul(w.reshape(o, -1).T, gy.reshape(*gy.shape[:2], math.prod(x_shape[2:]))).reshape(x_shape)
    dx = empty(x_shape, gy.dtype)
    if _depthwise(x_shape, groups):
        launch("depthwise", "depthwise_input_backward", math.prod(x_shape[:2]), whole_warps(math.prod(x_shape[2:])), gy, w, dx,
               groups, o // groups, *x_shape[2:], *gy.shape[2:], *kernel, *stride, *padding, *dilation)
        return dx
    for part in _parts(x_shape, gy.shape, kernel, gy.dtype):
        g = swap_planes(gy[part]).reshape(groups, o // groups, -1)
        matrix = matmul(w.reshape(groups, o // groups, -1).swapaxes(1, 2), g)
        dx[part] = col2im(matrix.reshape(-1, g.shape[2]), dx[part].shape, kernel, **geometry)
    return dx


@in_any_order
def conv2d_weight_grad(gy, x, w_shape, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """The gradient of `conv2d` in w."""
    geometry = {"stride": stride, "padding": padding, "dilation": dilation}
    o, kernel = w_shape[0], w_shape[2:]
    if _depthwise(x.shape, groups):
        pieces = o * blocks(math.prod(kernel), TAPS)
        parts = min(x.shape[0], max(1, MANY_BLOCKS // pieces))
        dw = empty((parts, math.prod(w_shape)), computed(x.dtype))
        launch("depthwise", "depthwise_weight_backward", (pieces, parts), whole_warps(math.prod(gy.shape[2:])), gy, x, dw,
               x.shape[0], o, o // groups, *x.shape[2:], *gy.shape[2:], *kernel, *stride, *padding, *dilation)
        return column_sum(dw).reshape(w_shape).astype(x.dtype, copy=False)
    dw = xp(x).zeros((groups, o // groups, math.prod(w_shape[1:])), computed(x.dtype))
    for part in _parts(x.shape, gy.shape, kernel, x.dtype):
        g = swap_planes(gy[part]).reshape(groups, o // groups, -1)
        matrix = im2col(x[part], kernel, **geometry).reshape(groups, -1, g.shape[2])
        # each product of 16 bits is rounded before the sum: a part holds many images
        dw += matmul(g, matrix.swapaxes(1, 2))
    return dw.reshape(w_shape).astype(x.dtype, copy=False)


def _depthwise(x_shape, groups):
    return groups == x_shape[1] > 1


def _pointwise(x, kernel, stride, padding, groups):
    """Whether the filters see one pixel, and images are large enough for products of their own; of 16 bits CuPy has none."""
    one = (*kernel, *stride, groups) == (1,) * 5 and not any(padding)
    return one and math.prod(x.shape[2:]) >= LARGE and not is_half(x.dtype)


def _parts(x_shape, y_shape, kernel, dtype):
    """Slices of the batch whose matrix stays below MATRIX_BYTES (or holds one image)."""
    one = x_shape[1] * math.prod(kernel) * math.prod(y_shape[2:]) * dtype.itemsize
    step = max(1, MATRIX_BYTES // max(one, 1))
    return [slice(i, i + step) for i in range(0, x_shape[0], step)]


# -- sampling ----------------------------------------------------------------------------------------------------------


@in_any_order
def grid_sample(x, grid, align_corners=False, border=False):
    """Bilinear interpolation of x (N, C, H, W) at grid (N, H', W', 2), pairs (horizontal, vertical) in [-1, 1].

    Outside the image there are zeros, or with `border` its nearest pixel; as PyTorch's `grid_sample`. (N, C, H', W').
    """
    n, c, *size = x.shape
    points = math.prod(grid.shape[1:3])
    y = empty((n, c, *grid.shape[1:3]), x.dtype)
    launch("grid_sample", "grid_sample_forward", blocks(n * points), THREADS, x, grid, y, n * points, c, *size, points,
           align_corners, border)
    return y


@in_any_order
def grid_sample_backward(gy, x, grid, align_corners=False, border=False):
    """The gradients of `grid_sample` in x and grid."""
    n, c, *size = x.shape
    points = math.prod(grid.shape[1:3])
    dx, dgrid = xp(x).zeros(x.shape, computed(x.dtype)), empty_like(grid)
    launch("grid_sample", "grid_sample_backward", blocks(n * points), THREADS, gy, x, grid, dx, dgrid, n * points, c, *size,
           points, align_corners, border)
    return dx.astype(x.dtype, copy=False), dgrid

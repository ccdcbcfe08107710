"""Paths that both tables have, made of kernels that have the same names and arguments on the CPU and on the GPU."""
from . import Path, xp


def inverse_std(var, eps):
    """1 / sqrt(var + eps), in the dtype of var."""
    return 1 / xp(var).sqrt(var + var.dtype.type(eps))


def without_residuals(forward):
    """The forward pass of a fused operation that leaves nothing for its backward pass."""
    return lambda *arrays, **settings: (forward(*arrays, **settings), None)


def paths(rows, norm, pool, inverse_std=inverse_std):
    """A part of a table `PATHS`, by the modules of a backend that hold the kernels along rows, of batch norm and of pooling."""
    def softmax(logarithm):
        return Path(without_residuals(lambda x: rows.softmax(x, logarithm)),
                    lambda g, out, residuals, wanted, x: [rows.softmax_backward(g, out, logarithm)], reads_out=True)

    def cross_entropy_backward(g, out, lse, wanted, logits, labels, smoothing, ignored):
        return [rows.cross_entropy_backward(g, logits, labels, lse, smoothing, ignored), None]

    def batch_norm(x, weight, bias, eps):
        y, mean, var = norm.batch_norm(x, weight, bias, eps)
        return (y, mean, var), (mean, inverse_std(var, eps))

    def batch_norm_backward(g, outs, residuals, wanted, x, weight, bias, eps):
        return norm.batch_norm_backward(g, x, weight, *residuals)

    def gradient(g, x, weight, eps):
        mean, var = norm.moments(x)
        inv_std = inverse_std(var, eps)
        dx, dweight, dbias = norm.batch_norm_backward(g, x, weight, mean, inv_std)
        return dx, (mean, inv_std, dweight, dbias)

    def gradient_backward(h, out, residuals, wanted, g, x, weight, eps):
        return norm.batch_norm_double_backward(h, out, g, x, weight, *residuals)

    def max_pool_backward(g, out, winner, wanted, x, **geometry):
        return [pool.max_pool2d_backward(g, winner, x.shape, **geometry)]

    def avg_pool_backward(g, out, residuals, wanted, x, **geometry):
        return [pool.avg_pool2d_backward(g, x.shape, **geometry)]

    return {
        "softmax": softmax(False),
        "log_softmax": softmax(True),
        "cross_entropy": Path(rows.cross_entropy, cross_entropy_backward),
        "batch_norm": Path(batch_norm, batch_norm_backward),
        "batch_norm_gradient": Path(gradient, gradient_backward, reads_out=True),
        "max_pool2d": Path(pool.max_pool2d, max_pool_backward, serves=pool.serves_max_pool2d),
        "avg_pool2d": Path(without_residuals(pool.avg_pool2d), avg_pool_backward),
    }


def recurrent_paths(units, serves=lambda name: None):
    """The part of a table with the recurrent units, by the module of a backend that has them; `serves(name)` is a path's."""
    def rnn_backward(g, out, residuals, wanted, gx, h, weight, rectified, reverse):
        return units.rnn_backward(g, h, weight, out, rectified, reverse)

    def gru(gx, h, weight, *bias, reverse):
        y, *residuals = units.gru(gx, h, weight, *bias or [None], reverse=reverse)
        return y, residuals

    def gru_backward(g, out, residuals, wanted, gx, h, weight, *bias, reverse):
        return units.gru_backward(g, h, weight, out, *residuals, reverse)[:3 + len(bias)]

    def lstm(*arrays, reverse):
        y, last, *residuals = units.lstm(*arrays, reverse=reverse)
        return (y, last), residuals

    def lstm_backward(gs, outs, residuals, wanted, gx, *arrays, reverse):
        return units.lstm_backward(*gs, *arrays, outs[0], *residuals, reverse)

    return {
        "rnn": Path(without_residuals(units.rnn), rnn_backward, reads_out=True, serves=serves("rnn")),
        "gru": Path(gru, gru_backward, reads_out=True, serves=serves("gru")),
        "lstm": Path(lstm, lstm_backward, reads_out=True, serves=serves("lstm"), all_outputs=True),
    }


def weight_gradient(product, dsums, h, y, reverse):
    """Of a recurrent unit: the sum over times of dsums^T (the state before), h at first, then those of y."""
    rows, size = dsums.shape[-1], h.shape[1]
    first, later, earlier = (-1, slice(-1), slice(1, None)) if reverse else (0, slice(1, None), slice(-1))
    dweight = product(dsums[first].T, h)
    if len(y) > 1:
        dweight += product(dsums[later].reshape(-1, rows).T, y[earlier].reshape(-1, size))
    return dweight


def heads_first(qkv):
    """(N, L, 3, heads, width), q, k and v side by side, as three views (N, heads, L, width)."""
    return [qkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3)]

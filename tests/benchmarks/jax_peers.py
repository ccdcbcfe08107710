"""The training steps of `workloads` as a user of JAX writes them: pure functions, images channels-last, one jitted step.

A network is a function of (parameters, inputs, key): the first call, with `Parameters`, draws the parameters in the order in
which the network asks for them, later ones hand out those they are given. Running statistics are not kept.
"""
import functools

import jax
import numpy as np
from jax import lax, numpy as jnp
from jax.nn import gelu, leaky_relu, log_softmax, relu, softmax


class Parameters:
    """Hands out `given` in turn; without it draws new ones and keeps them in `drawn`."""

    def __init__(self, given=None):
        self.given, self.drawn, self.rng = iter(given or ()), [] if given is None else None, np.random.default_rng(0)

    def __call__(self, *shape, mean=0.0, scale=0.05):
        if self.drawn is None:
            return next(self.given)
        self.drawn.append(jnp.asarray(mean + scale * self.rng.standard_normal(shape), jnp.float32))
        return self.drawn[-1]


# -- layers ------------------------------------------------------------------------------------------------------------

def conv(x, w, stride=1):
    """Filters (height, width, inputs, outputs); as many zeros on each side as keep the size where the stride is 1."""
    pad = [((k - 1) // 2,) * 2 for k in w.shape[:2]]
    return lax.conv_general_dilated(x, w, (stride, stride), pad, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def conv_layer(p, x, channels, size=3, stride=1):
    return conv(x, p(size, size, x.shape[-1], channels), stride)


def normalised(x, weight, bias, axes, eps=1e-5):
    centred = x - x.mean(axes, keepdims=True)
    return centred * lax.rsqrt((centred**2).mean(axes, keepdims=True) + eps) * weight + bias


def norm(p, x, axes=(0, 1, 2)):
    """Batch norm, or with axes -1 layer norm."""
    return normalised(x, p(x.shape[-1], mean=1.0), p(x.shape[-1]), axes)


def linear(p, x, outputs):
    return x @ p(x.shape[-1], outputs) + p(outputs)


def max_pool(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def dropout(x, rate, key, place):
    return x * jax.random.bernoulli(jax.random.fold_in(key, place), 1 - rate, x.shape) / (1 - rate) if rate else x


def transformer_layer(p, x, heads, hidden, rate, key, place, norm_first):
    n, length, width = x.shape

    def attention(x):
        q, k, v = linear(p, x, 3 * width).reshape(n, length, 3, heads, -1).transpose(2, 0, 3, 1, 4)
        scores = softmax(q @ k.swapaxes(-1, -2) / np.sqrt(width // heads))
        y = dropout(scores, rate, key, 4 * place) @ v
        return linear(p, y.swapaxes(1, 2).reshape(x.shape), width)

    def mlp(x):
        y = dropout(gelu(linear(p, x, hidden), approximate=False), rate, key, 4 * place + 1)
        return linear(p, y, width)

    for i, f in enumerate((attention, mlp)):
        if norm_first:
            x = x + dropout(f(norm(p, x, -1)), rate, key, 4 * place + 2 + i)
        else:
            x = norm(p, x + dropout(f(x), rate, key, 4 * place + 2 + i), -1)
    return x


# -- networks ----------------------------------------------------------------------------------------------------------

def resnet18(p, x, key):
    def block(x, channels, stride):
        y = relu(norm(p, conv_layer(p, x, channels, 3, stride)))
        y = norm(p, conv_layer(p, y, channels))
        return relu(y + (x if x.shape == y.shape else norm(p, conv_layer(p, x, channels, 1, stride))))

    x = relu(norm(p, conv_layer(p, x, 64)))
    for channels in (64, 128, 256, 512):
        x = block(block(x, channels, 2 if channels > 64 else 1), channels, 1)
    return linear(p, x.mean((1, 2)), 10)


def wide_resnet(p, x, key):
    """WRN-28-2."""
    x = conv_layer(p, x, 16)
    for channels in (32, 64, 128):
        for i in range(4):
            stride = 2 if channels > 32 and i == 0 else 1
            active = leaky_relu(norm(p, x), 0.1)
            y = leaky_relu(norm(p, conv_layer(p, active, channels, 3, stride)), 0.1)
            y = conv_layer(p, y, channels)
            x = y + (x if x.shape == y.shape else conv_layer(p, active, channels, 1, stride))
    return linear(p, leaky_relu(norm(p, x), 0.1).mean((1, 2)), 10)


def vit(p, x, key):
    """ViT-Tiny with patches of 4 x 4."""
    n, height, width, _ = x.shape
    x = x.reshape(n, height // 4, 4, width // 4, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(n, -1, 48)
    x = linear(p, x, 192)
    x = jnp.concatenate([jnp.broadcast_to(p(1, 1, 192), (n, 1, 192)), x], 1)
    x = x + p(1, x.shape[1], 192)
    for i in range(12):
        x = transformer_layer(p, x, 3, 768, 0.0, key, i, True)
    return linear(p, norm(p, x, -1)[:, 0], 10)


def bert(p, ids, key):
    """MiniLM with a linear layer on the pooled state."""
    x = p(30522, 384)[ids] + p(512, 384)[:ids.shape[1]] + p(2, 384)[0]
    x = dropout(norm(p, x, -1), 0.1, key, 1000)
    for i in range(6):
        x = transformer_layer(p, x, 12, 1536, 0.1, key, i, False)
    return linear(p, jnp.tanh(linear(p, x[:, 0], 384)), 10)


def conv4(p, x, key):
    for _ in range(4):
        x = max_pool(relu(norm(p, conv_layer(p, x, 64))))
    return x.reshape(len(x), -1)


# -- training steps ----------------------------------------------------------------------------------------------------

def cross_entropy(logits, labels):
    return -jnp.take_along_axis(log_softmax(logits), labels[..., None], -1).mean()


def sgd(params, grads, velocities):
    velocities = [0.9 * v + g for v, g in zip(velocities, grads)]
    return [p - 0.01 * v for p, v in zip(params, velocities)], velocities


def adam(params, grads, state):
    t, ms, vs = state
    ms = [0.9 * m + 0.1 * g for m, g in zip(ms, grads)]
    vs = [0.999 * v + 0.001 * g * g for v, g in zip(vs, grads)]
    a, b = 1 - 0.9**(t + 1), 1 - 0.999**(t + 1)
    return [p - 1e-3 * m / a / (jnp.sqrt(v / b) + 1e-8) for p, m, v in zip(params, ms, vs)], (t + 1, ms, vs)


def _step(loss, params, with_adam):
    """A function that trains once with loss(params, key), its arrays reused, and returns the loss."""
    zeros = [jnp.zeros_like(p) for p in params]
    state = [params, (jnp.float32(0), zeros, list(map(jnp.copy, zeros))) if with_adam else zeros, jax.random.key(0)]

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params, kept, key):
        key, now = jax.random.split(key)
        value, grads = jax.value_and_grad(loss)(params, now)
        return value, *(adam if with_adam else sgd)(params, grads, kept), key

    def step():
        value, *state[:] = update(*state)
        return float(value)
    return step


def training_step(network, x):
    """SGD with momentum on the cross-entropy of ten classes; images x come channels-first."""
    x = jnp.asarray(x.transpose(0, 2, 3, 1) if x.ndim == 4 else x)
    labels, drawn = jnp.arange(len(x)) % 10, Parameters()
    network(drawn, x, jax.random.key(0))
    return _step(lambda params, key: cross_entropy(network(Parameters(params), x, key), labels), drawn.drawn, False)


def prototypical_step(x, way, query):
    x = jnp.asarray(x.transpose(0, 2, 3, 1))
    labels, drawn = jnp.repeat(jnp.arange(way), query), Parameters()
    conv4(drawn, x[:1], None)

    def loss(params, key):
        z = conv4(Parameters(params), x, key)
        return cross_entropy(-((z[way:, None] - z[None, :way])**2).sum(2), labels)
    return _step(loss, drawn.drawn, True)


def maml_step(images, labels, inner):
    """Second order: `jax.grad` through the inner steps, tasks by `jax.vmap`."""
    (xs, xq), (ys, yq) = [jnp.asarray(x.swapaxes(2, 4)) for x in images], [jnp.asarray(y) for y in labels]

    def network(p, x):
        for _ in range(4):
            x = relu(norm(p, conv_layer(p, x, 32, 3, 2)))
        return linear(p, x.mean((1, 2)), 5)

    drawn = Parameters()
    network(drawn, xs[0])
    adapted = [p.ndim > 1 or p.size == 5 for p in drawn.drawn]  # not the normalisations' weights

    def task(params, xs, ys, xq, yq):
        fast = params
        for _ in range(inner):
            grads = jax.grad(lambda fast: 5 * cross_entropy(network(Parameters(fast), xs), ys))(fast)
            fast = [p - 0.1 * g if moves else p for p, g, moves in zip(fast, grads, adapted)]
        return 5 * cross_entropy(network(Parameters(fast), xq), yq)

    def loss(params, key):
        return jax.vmap(task, (None, 0, 0, 0, 0))(params, xs, ys, xq, yq).mean()
    return _step(loss, drawn.drawn, True)

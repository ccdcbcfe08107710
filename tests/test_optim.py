"""Optimisers against PyTorch or their formula, groups, states, clipping, moving averages."""
import contextlib
import copy
import math
import pickle

import numpy as np
import pytest
from checks import bfloat16, definitions, named, wants_bfloat16

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F


def run(make, steps=7, seed=0):
    """Parameters after some steps along drawn gradients."""
    rng = np.random.default_rng(seed)
    params = [nn.Parameter(rng.normal(size=s)) for s in ((3, 4), (4,))]
    optimizer = make(params)
    for _ in range(steps):
        for p in params:
            p.grad = mg.Tensor(rng.normal(size=p.shape))
        optimizer.step()
    return [p.numpy() for p in params]


def in_torch(make, steps=7, seed=0):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    params = [torch.nn.Parameter(torch.tensor(rng.normal(size=s))) for s in ((3, 4), (4,))]
    optimizer = make(torch.optim, params)
    for _ in range(steps):
        for p in params:
            p.grad = torch.tensor(rng.normal(size=tuple(p.shape)))
        optimizer.step()
    return [p.detach().numpy() for p in params]


@pytest.mark.parametrize("name, settings", [
    ("SGD", dict(lr=0.1)), ("SGD", dict(lr=0.1, momentum=0.9, weight_decay=0.01)),
    ("SGD", dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)),
    ("Adam", dict(lr=0.1)), ("Adam", dict(lr=0.1, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1)),
    ("Adam", dict(lr=0.1, eps=1e-2)), ("AdamW", dict(lr=0.1, weight_decay=0.1)), ("RMSprop", {}),
    ("Adam", dict(lr=0.1, betas=(0.5, 0.6), weight_decay=0.1, amsgrad=True)), ("AdamW", dict(lr=0.1, amsgrad=True)),
    ("RMSprop", dict(lr=0.1, alpha=0.5, eps=1e-3, weight_decay=0.1, momentum=0.9)),
    ("Adagrad", {}), ("Adagrad", dict(lr=0.1, lr_decay=0.3, weight_decay=0.1, initial_accumulator_value=0.5, eps=1e-3)),
    ("Adadelta", {}), ("Adadelta", dict(lr=0.5, rho=0.7, eps=1e-2, weight_decay=0.1)),
    ("NAdam", {}), ("NAdam", dict(lr=0.1, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1, momentum_decay=0.1)),
    ("NAdam", dict(lr=0.1, weight_decay=0.1, decoupled_weight_decay=True)),
    ("RAdam", {}), ("RAdam", dict(lr=0.1, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1)),
    ("RAdam", dict(lr=0.1, betas=(0.0, 0.5))), ("RAdam", dict(lr=0.1, weight_decay=0.1, decoupled_weight_decay=True))])
def test_as_pytorch(name, settings):
    expected = in_torch(lambda module, ps: getattr(module, name)(ps, **settings), 12)
    rtol = 1e-6 if name == "NAdam" else 1e-7  # PyTorch multiplies the mu in float32
    for context in (contextlib.nullcontext(), definitions()):
        with context:
            found = run(lambda ps: getattr(optim, name)(ps, **settings), 12)
        for ours, theirs in zip(found, expected):
            np.testing.assert_allclose(ours, theirs, rtol=rtol)


def in_groups(module, name, settings, parameter, tensor, late, steps=7):
    """Parameters after steps in which one group is frozen at first, one has a rate of its own, and one lacks gradients."""
    rng = np.random.default_rng(0)
    params = [parameter(rng.normal(size=s)) for s in ((3, 4), (4,), (2,), (5,))]
    other = {"SGD": {"momentum": 0.0, "nesterov": False}, "RMSprop": {"alpha": 0.5}, "Adagrad": {"lr_decay": 0.5},
             "Adadelta": {"rho": 0.5}}.get(name, {"betas": (0.5, 0.6)})
    own = {"weight_decay": 0.3, **other}
    groups = [{"params": params[:2]}, {"params": params[2:3], "lr": 0.02}, {"params": params[3:], **own}]
    optimizer = getattr(module, name)(groups, lr=0.1, **settings)
    for step in range(steps):
        params[0].requires_grad = step >= late
        for i, p in enumerate(params):
            p.grad = tensor(rng.normal(size=tuple(p.shape))) if p.requires_grad and (i != 3 or step % 2) else None
        for group in optimizer.param_groups:
            group["lr"] *= 0.9
        optimizer.step()
    return params


@pytest.mark.parametrize("late", [1, 3])
@pytest.mark.parametrize("name, settings", [
    ("SGD", {}), ("SGD", dict(momentum=0.9, weight_decay=0.01)), ("SGD", dict(momentum=0.9, nesterov=True)),
    ("Adam", dict(weight_decay=0.1)), ("AdamW", {}), ("RMSprop", dict(momentum=0.9)),
    ("Adagrad", dict(lr_decay=0.1, initial_accumulator_value=0.1)), ("Adadelta", dict(weight_decay=0.1)),
    ("NAdam", dict(decoupled_weight_decay=True, weight_decay=0.1)), ("RAdam", dict(weight_decay=0.1))])
def test_groups_as_pytorch(name, settings, late):
    torch = pytest.importorskip("torch")
    ours = in_groups(optim, name, settings, nn.Parameter, mg.Tensor, late)
    theirs = in_groups(torch.optim, name, settings, lambda x: torch.nn.Parameter(torch.tensor(x)), torch.tensor, late)
    for p, q in zip(ours, theirs):
        np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=1e-7)


@pytest.mark.parametrize("settings", [{}, dict(lr=0.1, weight_decay=0.3, momentum=0.5, nesterov=False),
                                      dict(lr=0.1, adjust_lr_fn="match_rms_adamw", ns_steps=3)])
def test_muon_as_pytorch(settings, monkeypatch):
    """With PyTorch's kept from rounding to bfloat16."""
    torch = pytest.importorskip("torch")
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this PyTorch has no Muon")
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    rng, shapes = np.random.default_rng(0), [(3, 5), (5, 3), (4, 4), (1, 6)]
    ours = [nn.Parameter(rng.normal(size=s)) for s in shapes]
    theirs = [torch.nn.Parameter(torch.tensor(p.numpy().copy())) for p in ours]
    pair = optim.Muon(ours, **settings), torch.optim.Muon(theirs, **settings)
    for _ in range(8):
        for p, q in zip(ours, theirs):
            p.grad = mg.Tensor(rng.normal(size=p.shape))
            q.grad = torch.tensor(p.grad.numpy().copy())
        for optimizer in pair:
            optimizer.step()
    for p, q in zip(ours, theirs):
        np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=1e-9)


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 0.35), (np.float32, 0.35),
                                              pytest.param(bfloat16, 0.4, marks=wants_bfloat16)])
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (3, 2, 2, 2), (0, 3)])
def test_muon_moves_by_orthogonal_matrices(shape, dtype, tolerance):
    p, g = nn.Parameter(np.zeros(shape, dtype)), np.random.default_rng(0).normal(size=shape)
    p.grad = mg.Tensor(g.astype(dtype))
    optim.Muon([p], 1.0).step()
    assert p.dtype == dtype
    step = p.numpy().astype(float).reshape(shape[0], -1) if g.size else np.ones((0, 0))
    sizes = np.linalg.svd(step, compute_uv=False) / math.sqrt(max(1, shape[0] / math.prod(shape[1:])))
    np.testing.assert_allclose(sizes, 1, atol=tolerance)
    assert not g.size or (step * g.reshape(step.shape)).sum() < 0


def test_what_muon_refuses_and_resumes():
    with pytest.raises(ValueError, match=r"Muon: params must be matrices or filters, but one has shape \(3,\)"):
        optim.Muon(parameters((2, 3), 3))
    for wrong in (dict(ns_steps=0.5), dict(adjust_lr_fn="none"), dict(adjust_lr_fn=2), dict(nesterov=1), dict(momentum=1)):
        with pytest.raises((ValueError, TypeError), match=f"Muon: {next(iter(wrong))}"):
            optim.Muon(parameters((2, 3)), **wrong)
    optimizer = optim.Muon(parameters((2, 3)))
    with pytest.raises(ValueError, match="matrices"):
        optimizer.add_param_group({"params": parameters(3)})
    optimizer = stepped(optimizer, 2)
    again = optim.Muon([nn.Parameter(p.numpy().copy()) for p in optimizer.params])
    again.load_state_dict(optimizer.state_dict())
    stepped(optimizer, 2, seed=1), stepped(again, 2, seed=1)
    np.testing.assert_array_equal(optimizer.params[0].numpy(), again.params[0].numpy())


def test_lamb_by_its_algorithm():
    rng = np.random.default_rng(0)
    params = [rng.normal(size=s) for s in ((3, 4), (4,))]
    m, v = ([np.zeros_like(p) for p in params] for _ in range(2))
    for t in range(1, 8):
        for i, p in enumerate(params):
            g = rng.normal(size=p.shape)
            m[i], v[i] = 0.9 * m[i] + 0.1 * g, 0.99 * v[i] + 0.01 * g * g
            r = m[i] / (1 - 0.9**t) / (np.sqrt(v[i] / (1 - 0.99**t)) + 1e-6)
            if p.ndim > 1:
                r = r + 0.05 * p
                r = r * np.linalg.norm(p) / np.linalg.norm(r)
            params[i] = p - 0.1 * r
    for ours, expected in zip(run(lambda ps: optim.LAMB(ps, 0.1, (0.9, 0.99), weight_decay=0.05)), params):
        np.testing.assert_allclose(ours, expected, rtol=1e-9)


@pytest.mark.parametrize("nesterov", [False, True])
def test_lars_by_its_formula_at_a_rate_that_changes(nesterov):
    rng, ours = np.random.default_rng(0), parameters((3, 4), (4,))
    params = [p.numpy().copy() for p in ours]
    v, optimizer = [np.zeros_like(p) for p in params], optim.LARS(ours, 0.1, 0.9, 0.05, nesterov, trust=0.02)
    for rate in (0.1, 0.2, 0.4, 0.1, 0.03):
        optimizer.lr = rate
        for i, p in enumerate(params):
            g = rng.normal(size=p.shape)
            ours[i].grad = mg.Tensor(g)
            if p.ndim > 1:
                g = g + 0.05 * p
                g = 0.02 * np.linalg.norm(p) / np.linalg.norm(g) * g
            v[i] = 0.9 * v[i] + rate * g  # the velocity keeps the rate that it was made with
            params[i] = p - (rate * g + 0.9 * v[i] if nesterov else v[i])
        optimizer.step()
    for found, expected in zip(ours, params):
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_a_parameter_of_zeros_moves_as_without_lars():
    p = nn.Parameter(np.zeros((2, 2)))
    p.grad = mg.Tensor(np.ones((2, 2)))
    optim.LARS([p], 0.1, momentum=0).step()
    np.testing.assert_allclose(p.numpy(), -0.1)


def test_a_gradient_of_zeros_stays_zeros_in_muon():
    p = nn.Parameter(np.ones((2, 3), np.float32))
    p.grad = mg.zeros((2, 3))
    optim.Muon([p], 0.1, weight_decay=0).step()
    np.testing.assert_array_equal(p.numpy(), 1)


def test_clipping_by_the_norm_of_all_gradients():
    params = [nn.Parameter(np.zeros(2)), nn.Parameter(np.zeros(1)), nn.Parameter(np.zeros(3))]
    params[0].grad, params[1].grad = mg.Tensor(np.array([3.0, 0.0])), mg.Tensor(np.array([4.0]))
    assert optim.clip_grad_norm(params, 10.0) == 5.0 and params[1].grad.item() == 4.0
    assert optim.clip_grad_norm(params, 1.0) == 5.0
    np.testing.assert_allclose([*params[0].grad.numpy(), *params[1].grad.numpy()], [0.6, 0, 0.8])
    params[1].grad = mg.Tensor(np.array([np.inf]))
    assert optim.clip_grad_norm(params, 1.0) == np.inf and np.isnan(params[0].grad.numpy()).all()


def test_clipping_by_pytorchs_name():
    p = nn.Parameter(np.zeros(2))
    assert optim.clip_grad_norm_ is optim.clip_grad_norm and optim.clip_grad_norm_(p, 1.0) == 0
    p.grad = mg.Tensor(np.array([3.0, 4.0]))
    assert optim.clip_grad_norm_(p, math.inf) == 5 and p.grad.tolist() == [3, 4]
    assert optim.clip_grad_norm_((q for q in [p]), 1) == 5
    np.testing.assert_allclose(p.grad.numpy(), [0.6, 0.8])
    assert optim.clip_grad_norm_([p], 0) == pytest.approx(1) and p.grad.tolist() == [0, 0]
    for wrong in (-1.0, math.nan, -math.inf):
        with pytest.raises(ValueError, match="max_norm must be not negative"):
            optim.clip_grad_norm_([p], wrong)
    for wrong in (True, "1", None, mg.Tensor(1.0)):
        with pytest.raises(TypeError, match="max_norm must be a number"):
            optim.clip_grad_norm_([p], wrong)


@pytest.mark.parametrize("wrong", ["x", 3, None, object(), [1], ["x"], {"weight": 1}, np.zeros(2), slice(1)], ids=named)
def test_what_is_none_of_the_class_wanted_is_named(wrong):
    net = nn.Linear(2, 2)
    ema, scaler, adam = optim.EMA(net), optim.LossScaler(), optim.Adam(net.parameters())
    calls = {"clip_grad_norm_: params": lambda x: optim.clip_grad_norm_(x, 1.0),
             "EMA: module must be a Module": optim.EMA, "EMA.copy_to: module must be a Module": ema.copy_to,
             "LossScaler.step: optimizer must be an Optimizer": scaler.step,
             "LossScaler.scaled: loss must be a Tensor": scaler.scaled,
             "step_decay: step must be a number": optim.step_decay(0.1, 2),
             "cosine_decay: step must be a number": optim.cosine_decay(0.1, 2),
             "linear_decay: step must be a number": optim.linear_decay(0.1, 2),
             **{f"{kind}.load_state_dict: state must be a Mapping": owner.load_state_dict
                for kind, owner in (("EMA", ema), ("LossScaler", scaler), ("Adam", adam))}}
    for said, call in calls.items():
        if said.endswith("number") and type(wrong) is int or said.endswith("Mapping") and type(wrong) is dict:
            continue
        with pytest.raises(TypeError, match=said):
            call(wrong)
    with pytest.raises(TypeError, match=r"clip_grad_norm_: params\[1\] must be a Tensor"):
        optim.clip_grad_norm_([net.weight, wrong], 1.0)
    with pytest.raises(TypeError, match="clip_grad_norm_: max_norm must be a number"):
        optim.clip_grad_norm_(net.parameters(), None if type(wrong) is int else wrong)


def test_moving_average_of_parameters_and_buffers():
    net = nn.BatchNorm2d(2)
    ema = optim.EMA(net, decay=0.9, warmup=False)
    net.weight.data = np.array([3.0, 5.0], np.float32)
    net.running_mean[...] = 10
    ema.update()
    np.testing.assert_allclose(ema.average["weight"], [1.2, 1.4], rtol=1e-6)
    np.testing.assert_allclose(ema.average["running_mean"], 1.0, rtol=1e-6)
    twin = nn.BatchNorm2d(2)
    ema.copy_to(twin)
    np.testing.assert_allclose(twin.weight.numpy(), [1.2, 1.4], rtol=1e-6)
    other = optim.EMA(nn.BatchNorm2d(2))
    other.load_state_dict(ema.state_dict())
    assert other.updates == 1 and (other.average["weight"] == ema.average["weight"]).all()


def test_whole_numbers_are_copied_into_the_average_and_its_state_is_a_copy():
    net = nn.BatchNorm2d(2)
    net.count = np.array([3, 4])
    ema = optim.EMA(net, decay=0.9, warmup=False)
    net.count[...] = 8, 9
    before = ema.state_dict()
    ema.update()
    assert ema.average["count"].tolist() == [8, 9] and before["count"].tolist() == [3, 4]


def test_an_array_with_the_name_of_the_count_is_refused():
    net = nn.Module()
    net.updates = np.zeros(2)
    with pytest.raises(ValueError, match="EMA: the module has an array called 'updates'"):
        optim.EMA(net)


def test_the_initial_values_fade_with_warmup():
    """The first update gives 1/2 to each, the second 1/3 to the newest: a plain mean of all until the decay is reached."""
    net = nn.Linear(1, 1, bias=False)
    net.weight.data = np.zeros((1, 1), np.float32)
    ema = optim.EMA(net, decay=0.99)
    for value in (1.0, 2.0, 3.0):
        net.weight.data = np.full((1, 1), value, np.float32)
        ema.update()
    np.testing.assert_allclose(ema.average["weight"], np.mean([0, 1, 2, 3]), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind, settings", [("SGD", {}), ("SGD", {"momentum": 0.9}), ("SGD", {"momentum": 0.9, "nesterov": True}),
                                            ("Adam", {}), ("AdamW", {"weight_decay": 0.0})])
def test_infinite_numbers_do_not_become_nan(kind, settings, dtype):
    """Such as the -inf of a mask, which moves by nothing, and an infinite gradient of SGD."""
    p = nn.Parameter(np.array([-np.inf, np.inf, 1.0], dtype))
    optimizer = getattr(optim, kind)([p], lr=0.1, **settings)
    p.grad = mg.Tensor(np.array([0.0, 0.0, np.inf if kind == "SGD" else 0.0], dtype))
    optimizer.step()
    np.testing.assert_array_equal(p.numpy(), [-np.inf, np.inf, -np.inf if kind == "SGD" else 1.0])


MEANS = {"Adam": {"betas": (0.0, 0.0)}, "NAdam": {"betas": (0.0, 0.0)}, "RAdam": {"betas": (0.0, 0.1)}, "LAMB": {"betas": (0.0, 0.0)},
         "Adadelta": {"rho": 0.0}, "RMSprop": {"alpha": 0.0}, "Muon": {"momentum": 0.0, "nesterov": False}}


@pytest.mark.parametrize("kind", MEANS)
def test_a_mean_that_keeps_nothing_forgets_a_large_gradient_to_the_last_digit(kind):
    ends = []
    for dtype in (np.float32, np.float64):
        p = nn.Parameter(np.ones((1, 2), dtype))
        optimizer = getattr(optim, kind)([p], lr=0.01, **MEANS[kind])
        for g in ([1e3, 1.0], [1e-3, 1e-3], [3e-4, 2e-4]):
            p.grad = mg.Tensor(np.array([g], dtype))
            optimizer.step()
        ends.append(p.numpy())
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in MEANS if kind != "Muon"])
def test_a_gradient_whose_square_is_infinite_does_not_make_nan(kind):
    p = nn.Parameter(np.ones((1, 2), np.float32))
    optimizer = getattr(optim, kind)([p], lr=0.01)
    for g in ([1e30, 1.0], [1.0, 1.0], [1.0, 1.0]):
        p.grad = mg.Tensor(np.array([g], np.float32))
        with np.errstate(over="ignore"):
            optimizer.step()
    assert np.isfinite(p.numpy()).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_infinite_numbers_are_averaged(dtype):
    net = nn.Module()
    net.mask = np.array([-np.inf, -np.inf, -np.inf, 2.0, np.nan], dtype)
    ema = optim.EMA(net, 0.5, warmup=False)
    net.mask[:] = [-np.inf, 3.0, np.inf, np.inf, 1.0]
    with np.errstate(invalid="ignore"):  # the third is the mean of both infinities
        ema.update()
    np.testing.assert_array_equal(ema.average["mask"], [-np.inf, -np.inf, np.nan, np.inf, np.nan])


def test_a_tied_parameter_is_averaged_under_each_of_its_names():
    class Tied(nn.Module):
        def __init__(self):
            self.first = self.second = nn.Parameter(np.zeros(2))

    net = Tied()
    ema = optim.EMA(net, 0.75, warmup=False)
    net.first.data = np.ones(2)
    ema.update()
    assert ema.average["first"].tolist() == ema.average["second"].tolist() == [0.25, 0.25]
    ema.copy_to(net)
    assert net.first is net.second and net.first.tolist() == [0.25, 0.25]


# -- groups, settings and states ---------------------------------------------------------------------------------------

KINDS = {"SGD": {}, "momentum": dict(momentum=0.9), "LARS": {}, "Adam": {}, "AdamW": {}, "LAMB": {}, "RMSprop": {}, "Adagrad": {},
         "Adadelta": {}, "NAdam": {}, "RAdam": {}}


def made(kind, params, lr=0.1, **settings):
    return getattr(optim, "SGD" if kind == "momentum" else kind)(params, lr, **KINDS.get(kind, {}), **settings)


def parameters(*shapes, dtype=np.float64):
    return [nn.Parameter(np.full(shape, i + 1, dtype)) for i, shape in enumerate(shapes)]


def stepped(optimizer, steps=1, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        for p in optimizer.params:
            p.grad = mg.Tensor(rng.normal(size=p.shape).astype(p.dtype))
        optimizer.step()
    return optimizer


def contents(optimizer):
    return {k: v.tolist() for k, v in optimizer.state_dict().items()}


def test_an_optimiser_shows_its_groups():
    first, second = nn.Linear(2, 3).parameters(), [nn.Parameter(np.ones(2))]
    assert repr(optim.Adagrad(second, 0.1)).startswith("Adagrad(1 parameters, lr=0.1, ")
    shown = repr(optim.SGD([{"params": first, "lr": 0.5}, {"params": second}], 0.1, 0.9))
    assert shown == ("SGD(2 parameters, lr=0.5, momentum=0.9, weight_decay=0.0, nesterov=False; "
                     "1 parameters, lr=0.1, momentum=0.9, weight_decay=0.0, nesterov=False)")


def test_the_learning_rate_of_groups():
    a, b, c = parameters(2, 3, 4)
    optimizer = optim.SGD([{"params": [a], "lr": 0.5}, {"params": (p for p in [b])}, {"params": []}], 0.1)
    assert optimizer.lr == 0.1 and [g["lr"] for g in optimizer.param_groups] == [0.5, 0.1, 0.1]
    optimizer.lr = 0.2
    assert optimizer.lr == 0.2 and [g["lr"] for g in optimizer.param_groups] == [1.0, 0.2, 0.2]
    optimizer.lr = 0
    optimizer.lr = 0.02
    np.testing.assert_allclose([g["lr"] for g in optimizer.param_groups], [0.1, 0.02, 0.02])
    optimizer.add_param_group({"params": [c], "lr": 0.5})  # five times the constructor's, as the first
    np.testing.assert_allclose(optimizer.param_groups[3]["lr"], 0.1)
    assert list(map(id, optimizer.params)) == list(map(id, (a, b, c)))
    optimizer.param_groups[0]["lr"] = 7.0
    stepped(optimizer)
    np.testing.assert_allclose(a.numpy(), 1 - 7 * a.grad.numpy())
    np.testing.assert_allclose(b.numpy(), 2 - 0.02 * b.grad.numpy())
    optimizer.zero_grad()
    assert all(p.grad is None for p in (a, b, c))
    single = optim.SGD([a], 0.1)
    single.param_groups[0]["lr"] = 0.3
    assert single.lr == 0.3


def test_groups_of_the_others_by_optimisers_of_their_own():
    for kind in ("LARS", "LAMB"):
        settings = [dict(weight_decay=0.2), dict(lr=0.03)]
        together, alone = parameters((2, 3), (3, 2)), parameters((2, 3), (3, 2))
        stepped(made(kind, [{"params": [p], **s} for p, s in zip(together, settings)]), 3)
        for i, s in enumerate(settings):
            optimizer, rng = made(kind, [alone[i]], **s), np.random.default_rng(0)
            for _ in range(3):
                grads = [rng.normal(size=p.shape) for p in alone]
                alone[i].grad = mg.Tensor(grads[i])
                optimizer.step()
            np.testing.assert_array_equal(alone[i].numpy(), together[i].numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_the_frozen_and_those_without_gradients_stay_as_they_are(kind):
    moving, frozen, without = parameters((2, 3), (2, 3), (2, 3))
    optimizer = stepped(made(kind, [moving, frozen, without]), 2)
    frozen.requires_grad, without.grad = False, None
    before, values = contents(optimizer), [p.numpy().copy() for p in optimizer.params]
    optimizer.step()
    assert [(p.numpy() != old).all() for p, old in zip(optimizer.params, values)] == [True, False, False]
    after = contents(optimizer)
    assert all(after[name] == before[name] for name in before if name.endswith((".1", ".2"))) and after["steps"] == 3
    scaler = optim.LossScaler(2.0)
    frozen.grad = mg.Tensor(np.full((2, 3), np.inf))
    assert scaler.step(optimizer) and np.isinf(frozen.grad.numpy()).all()


@pytest.mark.parametrize("kind", [*KINDS, "Muon"])
def test_a_graph_from_before_a_step_is_refused(kind):
    (p,) = parameters((2, 3))
    optimizer, y = made(kind, [p]), (p * p).sum()
    stepped(optimizer)
    with pytest.raises(RuntimeError, match="was changed in place"):
        y.backward()


@pytest.mark.parametrize("change", [lambda p: optim.clip_grad_norm_([p], 0.5),
                                    lambda p: optim.LossScaler(2.0).step(optim.SGD([p], 0.1))], ids=["clipped", "divided"])
def test_a_graph_of_a_gradient_from_before_it_was_changed_is_refused(change):
    (p,) = parameters((2, 3))
    p.grad = mg.Tensor(np.ones((2, 3)), requires_grad=True)
    y = (p.grad * p.grad).sum()
    change(p)
    with pytest.raises(RuntimeError, match="was changed in place"):
        y.backward()


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_of_one_group_has_the_names_of_old_checkpoints(kind):
    slots = {"SGD": [], "momentum": ["velocity"], "LARS": ["velocity"], "RMSprop": ["square", "velocity"],
             "Adagrad": ["sum"], "Adadelta": ["square", "change"], "NAdam": ["mean", "square", "product"]}.get(
        kind, ["mean", "square"])
    optimizer = stepped(made(kind, parameters((2, 3), 4)), 2)
    state = optimizer.state_dict()
    assert list(state) == [f"{slot}.{i}" for slot in slots for i in range(2)] + ["steps", "lr"]
    assert state["steps"] == 2 and state["lr"] == 0.1
    old, new = optimizer, made(kind, [nn.Parameter(p.numpy().copy()) for p in optimizer.params], 0.7)
    new.load_state_dict(state)
    assert contents(new) == contents(old)
    for optimizer in (old, new):
        stepped(optimizer, 2, seed=1)
    assert all((p.numpy() == q.numpy()).all() for p, q in zip(old.params, new.params))


def test_the_state_of_groups():
    def make(params):
        return optim.Adam([{"params": params[:1]}, {"params": params[1:], "lr": 0.4}], 0.1)

    old = make(parameters(2, 3, 4))
    old.params[2].requires_grad = False
    stepped(old, 3)
    old.lr = 0.05
    numbers = {k: float(v) for k, v in old.state_dict().items() if not v.shape}
    assert numbers == {"steps": 3, "lr": 0.05, "lr.1": 0.2, "steps.2": 0, "size.0": 1, "size.1": 2}
    new = make([nn.Parameter(p.numpy().copy()) for p in old.params])
    new.load_state_dict(old.state_dict())
    assert contents(new) == contents(old) and [g["lr"] for g in new.param_groups] == [0.05, 0.2]
    twin = copy.deepcopy(old)
    for optimizer in (old, new, twin):
        optimizer.params[2].requires_grad = True
        stepped(optimizer, 2, seed=1)
    for p, *others in zip(old.params, new.params, twin.params):
        assert all((p.numpy() == q.numpy()).all() for q in others)


@pytest.mark.parametrize("kind", KINDS)
def test_another_state_is_refused_and_changes_nothing(kind):
    optimizer = stepped(made(kind, parameters((5, 3), 4)), 2)
    before = contents(optimizer)
    state = optimizer.state_dict()
    wrong = [(KeyError, {}, "missing"),
             (KeyError, state | {"mean.9": np.zeros(4)}, r"unknown \[mean.9\]"),
             (KeyError, state | {"lr.1": np.array(0.1)}, "lr.1"), (ValueError, state | {"steps": np.array(-1)}, "steps"),
             (ValueError, state | {"steps": np.array(2.5)}, "'steps' must be a whole number"),
             (ValueError, state | {"lr": np.array(np.nan)}, "lr"),
             (ValueError, state | {"lr": np.zeros(2)}, "must be a number"), (TypeError, state | {"lr": "high"}, "lr")]
    for other in KINDS:
        theirs = made(other, parameters((5, 3), 4)).state_dict()
        if theirs.keys() != state.keys():
            wrong.append((KeyError, theirs, "missing|unknown"))
    if kind != "SGD":
        last = list(state)[-3]
        wrong += [(KeyError, {k: v for k, v in state.items() if k != last}, rf"missing \[{last}\]"),
                  (KeyError, made(kind, parameters((5, 3), 4, 2)).state_dict(), r"unknown \[\w+.2"),
                  (KeyError, made(kind, parameters((5, 3))).state_dict(), r"missing \[\w+.1"),
                  (ValueError, made(kind, parameters((1, 3), 4)).state_dict(), r"\(1, 3\), not \(5, 3\)"),
                  (ValueError, made(kind, parameters((5, 3), ())).state_dict(), r"\(\), not \(4,\)"),
                  (ValueError, made(kind, parameters((5, 3), (4, 1))).state_dict(), r"\(4, 1\), not \(4,\)")]
        name = f"{optimizer.slots[0]}.1"
        wrong += [(TypeError, state | {name: values}, rf"'{name}' is no array of real numbers")
                  for values in (np.ones(4, complex), np.full(4, None), np.array(list("abcd")), list("abcd"), np.zeros(4, "M8[s]"))]
    for error, given, said in wrong:
        with pytest.raises(error, match=said):
            optimizer.load_state_dict(given)
        assert contents(optimizer) == before


def test_other_states_of_averages_and_scalers_are_refused():
    ema, scaler = optim.EMA(nn.Linear(3, 5)), optim.LossScaler()
    before = {k: v.tolist() for k, v in ema.state_dict().items()}
    state = ema.state_dict()
    for error, given in ((KeyError, {}), (KeyError, state | {"more": np.zeros(1)}),
                         (ValueError, state | {"weight": np.zeros((1, 3))}), (TypeError, state | {"bias": np.full(5, None)}),
                         (ValueError, state | {"updates": np.array(-1)}), (ValueError, state | {"updates": np.array(2.7)}),
                         (ValueError, state | {"bias": np.full(5, -1e39)})):
        with pytest.raises(error, match="EMA.load_state_dict"):
            ema.load_state_dict(given)
        assert {k: v.tolist() for k, v in ema.state_dict().items()} == before
    for error, given in ((KeyError, {"scale": 2.0}), (ValueError, {"scale": np.array(np.nan), "good": 1}),
                         (ValueError, {"scale": 2.0, "good": 0.5})):
        with pytest.raises(error, match="LossScaler.load_state_dict"):
            scaler.load_state_dict(given)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_list_of_parameters_is_refused(kind):
    p, q = parameters(2, 2)
    net = nn.Sequential(nn.Linear(2, 2))
    for params, error, said in [
            (p, TypeError, "Tensor of shape"), ({"params": [p]}, TypeError, "dict"), ({p}, TypeError, "set"),
            (None, TypeError, "None"), (nn.Linear(1, 1), TypeError, r"net.parameters\(\), not Linear$"),
            (net, TypeError, "must be a Tensor, not Linear"), (dict(net.named_parameters()), TypeError, "dict"),
            ([p, np.ones(2)], TypeError, r"\[1\] must be a Tensor, not ndarray"), ([[p]], TypeError, "list"),
            ([p, q, p], ValueError, "stands twice"), ([p * 2], ValueError, "leaf"),
            ([{"params": [p]}, {"params": [q, p]}], ValueError, r"param_groups\[1\].*stands twice"),
            ([{"params": [p]}, q], TypeError, "dict with 'params'"), ([{"lr": 0.1, "parms": [p]}], TypeError, r"dict with 'params', not dict with \[lr, parms\]$"),
            ([{"params": p}], TypeError, r"\['params'\].*Tensor of shape"), ([{"params": []}], ValueError, "no parameters"),
            ([{"params": [p], "rate": 0.1}], ValueError, r"unknown settings \['rate'\]"),
            (iter(()), ValueError, "no parameters")]:
        with pytest.raises(error, match=said):
            made(kind, params)
    optimizer = made(kind, [p])
    with pytest.raises(ValueError, match="stands twice"):
        optimizer.add_param_group({"params": [q, p]})
    assert len(optimizer.params) == len(optimizer.param_groups) == 1
    optimizer.step()


NUMBERS = [(-1.0, ValueError), (math.nan, ValueError), (math.inf, ValueError), (True, TypeError), ("1", TypeError),
           (None, TypeError), (mg.Tensor(0.1), TypeError), (np.ones(1), TypeError)]


SETTINGS = {"SGD": ("momentum",), "LARS": ("momentum", "trust"), "RMSprop": ("alpha", "eps", "momentum"),
            "Adagrad": ("lr_decay", "initial_accumulator_value", "eps"), "Adadelta": ("rho", "eps"),
            "NAdam": ("eps", "betas", "momentum_decay"), **dict.fromkeys(("Adam", "AdamW", "LAMB", "RAdam"), ("eps", "betas"))}


@pytest.mark.parametrize("kind, name", [
    (kind, name) for kind, own in SETTINGS.items() for name in ("lr", "weight_decay", *own)])
def test_settings_out_of_range_are_refused(kind, name):
    values = [*NUMBERS, (1.0, ValueError)] if name in ("betas", "alpha") else NUMBERS
    for value, error in values:
        for setting in ((value, 0.9), (0.9, value)) if name == "betas" else (value,):
            for params in (parameters(2), [{"params": parameters(2)}, {"params": parameters(2), name: setting}]):
                with pytest.raises(error, match=f"{kind}: {name}.* must be"):
                    getattr(optim, kind)(params, **{"lr": 0.1} | ({} if isinstance(params[0], dict) else {name: setting}))
    for setting in ((0.9,), 0.9, (0.9, 0.9, 0.9), "99") if name == "betas" else ():
        with pytest.raises(TypeError, match="pair"):
            getattr(optim, kind)(parameters(2), betas=setting)
    fine = (0, np.float32(0.5)) if name == "betas" else 0
    optimizer = getattr(optim, kind)(parameters(2), **{"lr": 1} | {name: fine})
    assert stepped(optimizer).param_groups[0][name] == fine
    for value, error in NUMBERS if name == "lr" else ():
        with pytest.raises(error, match="lr must be"):
            optimizer.lr = value
        assert optimizer.lr == 0


@pytest.mark.parametrize("kind, name", [(kind, name) for kind, own in SETTINGS.items() for name in ("lr", "weight_decay", *own)])
def test_settings_that_are_assigned_out_of_range_are_refused_by_the_next_step(kind, name):
    params = parameters(2, 3)
    optimizer = stepped(getattr(optim, kind)([{"params": [p]} for p in params], lr=0.1))
    before, good, state = [p.numpy().copy() for p in params], optimizer.param_groups[1][name], contents(optimizer)
    for value, error in [*NUMBERS, (1.0, ValueError)] if name in ("betas", "alpha") else NUMBERS:
        optimizer.param_groups[1][name] = (0.9, value) if name == "betas" else value
        with pytest.raises(error, match=rf"{kind}: param_groups\[1\]: {kind}: {name}.* must be"):
            optimizer.step()
        optimizer.param_groups[1][name] = good
        assert contents(optimizer) == state and all((p.numpy() == a).all() for p, a in zip(params, before))
    optimizer.param_groups[1][name] = (0, np.float32(0.5)) if name == "betas" else np.float32(0.5)
    assert stepped(optimizer).param_groups[1][name] == ((0, 0.5) if name == "betas" else 0.5)


def test_settings_that_are_assigned_by_an_unknown_name_or_together_do_not_fit_are_refused():
    optimizer = optim.SGD(parameters(2), 0.1)
    for name, value, message in (("momentun", 0.9, "unknown settings .'momentun'."), ("nesterov", True, "nesterov needs a momentum")):
        optimizer.param_groups[0][name] = value
        with pytest.raises(ValueError, match=rf"SGD: param_groups\[0\].*{message}"):
            stepped(optimizer)
        optimizer.param_groups[0].pop(name)
    with pytest.raises(ValueError, match="'nesterov'"):
        optimizer.step()


@pytest.mark.parametrize("change, message", [
    (lambda o, q: o.param_groups.append({**o.param_groups[0], "params": [q]}), "has 2 groups, and 1 were given: add_param_group"),
    (lambda o, q: o.param_groups.clear(), "has 0 groups"), (lambda o, q: o.param_groups[0]["params"].append(q), "'params'. is not"),
    (lambda o, q: o.param_groups[0].update(params=[q]), "'params'. is not"), (lambda o, q: o.param_groups[0].pop("params"), "'params'. is not"),
    (lambda o, q: o.param_groups[0]["params"].__setitem__(0, q), "'params'. is not")])
def test_groups_and_parameters_that_were_changed_by_hand_are_refused(change, message):
    p, q = parameters(2, 2)
    optimizer = stepped(optim.SGD([p], 0.1))
    before = p.tolist()
    change(optimizer, q)
    p.grad = q.grad = mg.ones(2)
    with pytest.raises(ValueError, match=f"SGD: param_groups.*{message}"):
        optimizer.step()
    assert p.tolist() == before


def test_settings_that_do_not_go_together_are_refused():
    p, q = parameters(2, 2)
    for kind in (optim.SGD, optim.LARS):
        for make in (lambda: kind([p], 0.1, 0.0, nesterov=True),
                     lambda: kind([{"params": [p], "momentum": 0}], 0.1, 0.9, 0.0, True)):
            with pytest.raises(ValueError, match="nesterov needs a momentum"):
                make()
        with pytest.raises(TypeError, match="nesterov must be True or False"):
            kind([p], 0.1, 0.9, nesterov=1)
    for kind in (optim.NAdam, optim.RAdam):
        with pytest.raises(TypeError, match="decoupled_weight_decay must be True or False"):
            kind([p], decoupled_weight_decay=1)
    with pytest.raises(ValueError, match="no ratio"):
        optim.SGD([{"params": [p], "lr": 0.1}, {"params": [q]}], 0.0)
    for kind in (optim.Adam, optim.RMSprop, optim.Adagrad, optim.NAdam, optim.RAdam):
        with pytest.raises(ValueError, match="eps"):
            kind([{"params": [p]}, {"params": [nn.Parameter(np.ones(2, np.float16))]}])
        kind([{"params": [p]}, {"params": [nn.Parameter(np.ones(2, np.float16))], "eps": 1e-3}])


def test_an_optimiser_of_ones_own():
    class SignDescent(optim.Optimizer):
        slots = ("last",)

        def __init__(self, params, lr, power=1.0):
            super().__init__(params, lr, power=power)

        def settings(self, group, lr, t):
            return lr, group["power"], t

        def update(self, p, g, last, lr, power, t):
            last[...] = np.sign(g) * t
            p -= lr * abs(g) ** power * np.sign(g)

    p, q = parameters(2, 3)
    optimizer = SignDescent([{"params": [p]}, {"params": [q], "power": 0.0}], 0.5)
    p.grad, q.grad = mg.Tensor(np.array([4.0, -2])), mg.Tensor(np.array([4.0, -2, 1]))
    optimizer.step()
    assert p.tolist() == [-1, 2] and q.tolist() == [1.5, 2.5, 1.5]
    assert contents(optimizer) == {"last.0": [1, -1], "last.1": [1, -1, 1], "steps": 1, "lr": 0.5, "size.0": 1,
                                   "size.1": 1}


def test_momentum_that_comes_later():
    (p,) = parameters((2, 3))
    optimizer = stepped(optim.SGD([p], 0.1))
    before = p.numpy().copy()
    optimizer.param_groups[0]["momentum"] = 0.5
    stepped(optimizer, 2, seed=1)
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    np.testing.assert_allclose(p.numpy(), before - 0.1 * first - 0.1 * (0.5 * first + second))


@pytest.mark.parametrize("moving", [(0, 1), (1,)])
def test_a_momentum_that_came_later_is_resumed(moving):
    def begun():
        params = parameters(2, 3)
        optimizer = optim.SGD(params, 0.1)
        optimizer.param_groups[0]["momentum"] = 0.5
        return params, optimizer

    params, optimizer = begun()
    for p in (params[i] for i in moving):
        p.grad = mg.ones(p.shape)
    optimizer.step()
    again, resumed = begun()
    resumed.load_state_dict(optimizer.state_dict())
    for p, q in zip(params, again):
        q.data = p.numpy().copy()
    for one in (optimizer, resumed):
        stepped(one)
    assert [p.tolist() for p in params] == [q.tolist() for q in again]
    optimizer.param_groups[0]["momentum"] = 0.0  # and goes again
    optim.SGD(parameters(2, 3), 0.1).load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.9, 0.999999), (0.9999999, 0.99999999)])
def test_adam_in_single_precision_follows_double_for_betas_near_1(betas):
    ends = []
    for dtype in (np.float32, np.float64):
        p = nn.Parameter(np.ones(3, dtype))
        optimizer = optim.Adam([p], 0.1, betas=betas)
        for _ in range(5):
            p.grad = mg.Tensor(np.array([1, 2, -3], dtype))
            optimizer.step()
        ends.append(p.numpy())
    np.testing.assert_allclose(ends[0], ends[1], rtol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_that_is_no_tensor_is_named(kind):
    (p,) = parameters((2,))
    optimizer = made(kind, [p])
    p.grad = np.ones(2)
    for call in (optimizer.step, lambda: optim.clip_grad_norm_([p], 1.0), lambda: optim.LossScaler().step(optimizer)):
        with pytest.raises(TypeError, match="gradient of parameter 0 is a Tensor, not ndarray"):
            call()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fault", [(1, 3), (3,), (15,), (), "read-only"], ids=str)
def test_a_step_that_one_parameter_refuses_changes_none(kind, dtype, fault):
    ps = parameters((5, 3), (5, 3), dtype=dtype)
    optimizer = made(kind, [{"params": [ps[0]]}, {"params": [ps[1]]}])
    for p in ps:
        p.grad = mg.Tensor(np.ones((5, 3), dtype))
    optimizer.step()
    before = [p.numpy().copy() for p in ps], optimizer.state_dict()
    if fault == "read-only":
        ps[1]._array.flags.writeable = False
    else:
        ps[1].grad = mg.Tensor(np.ones(fault, dtype))
    with pytest.raises(ValueError, match="parameter 1 is in read-only memory|parameter 1 has shape .*, its gradient"):
        optimizer.step()
    for old, new in zip(before[0], ps):
        np.testing.assert_array_equal(old, new.numpy())
    for old, new in zip(before[1].values(), optimizer.state_dict().values()):
        np.testing.assert_array_equal(old, new)


def test_schedules():
    halved, cosine = optim.step_decay(1.0, 10), optim.cosine_decay(1.0, 20, warmup=4, final=0.1)
    line = optim.linear_decay(1.0, 20, warmup=4, final=0.1)
    assert [halved(t) for t in (0, 9, 10, 25)] == [1, 1, 0.5, 0.25]
    np.testing.assert_allclose([cosine(t) for t in (0, 3, 4, 12, 20, 99)], [0.25, 1, 1, 0.55, 0.1, 0.1])
    np.testing.assert_allclose([line(t) for t in (0, 3, 4, 8, 20, 99)], [0.25, 1, 1, 0.775, 0.1, 0.1])
    for decay in (optim.cosine_decay, optim.linear_decay):
        for total, warmup in ((0, 0), (1, 0), (4, 4), (3, 4), (7, 4)):  # the formula ends where the docstring says
            rates = [decay(1.0, total, warmup, 0.1)(t) for t in range(max(total, warmup), 10)]
            assert rates == [0.1] * len(rates)
        assert decay(1.0, 1)(0) == decay(1.0, 5, 4)(4) == 1
        for share in (0.05, 0.15, 0.27):  # of the steps: a warmup that is no whole number
            assert max(decay(1.0, 10, share * 10)(t) for t in range(10)) <= 1
    for schedule in (halved, cosine, line):  # an optimiser's state, and a process that is given one
        assert [pickle.loads(pickle.dumps(schedule))(t) for t in range(30)] == [schedule(t) for t in range(30)]
    for make in (lambda: optim.step_decay(-1.0, 1), lambda: optim.step_decay(1.0, 0),
                 lambda: optim.step_decay(1.0, 1, math.nan), lambda: optim.cosine_decay(math.nan, 1),
                 lambda: optim.cosine_decay(1.0, -1), lambda: optim.cosine_decay(1.0, 1, -1),
                 lambda: optim.linear_decay(1.0, 1, 0, -1)):
        with pytest.raises(ValueError, match="_decay: .* must be"):
            make()


@pytest.mark.parametrize("total, settings", [
    (10, {}), (1000, {}), (1, {}), (20, {"pct_start": 1.0}), (7, {"pct_start": 0.5, "div_factor": 4.0}),
    (3, {"final_div_factor": 10.0}), (2, {"pct_start": 0.0})])
def test_one_cycle_is_pytorchs(total, settings):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.7, total_steps=total, cycle_momentum=False, **settings)
    expected = []
    for step in range(total):
        expected += theirs.get_last_lr()
        optimizer.step()
        if step < total - 1:
            theirs.step()
    schedule = pickle.loads(pickle.dumps(optim.one_cycle(0.7, total, **settings)))
    np.testing.assert_allclose([schedule(step) for step in range(total)], expected, rtol=1e-9)
    least = 0.7 / settings.get("div_factor", 25) / settings.get("final_div_factor", 1e4)
    assert schedule(total) == schedule(10 * total) == least


PLATEAUS = [dict(patience=0), dict(patience=2, factor=0.5, cooldown=3), dict(mode="max", patience=1, threshold=0.1),
            dict(threshold_mode="abs", threshold=0.5, min_lr=0.01, patience=0),
            dict(mode="max", threshold_mode="abs", patience=0, eps=0.1)]


@pytest.mark.parametrize("settings", PLATEAUS)
def test_the_rate_falls_on_a_plateau_as_in_pytorch(settings):
    torch = pytest.importorskip("torch")
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    ours = optim.SGD([{"params": parameters(1)}, {"params": parameters(1), "lr": 0.1}], 1.0)
    watched = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **settings)
    watching = optim.ReduceLROnPlateau(ours, **settings)
    for step, value in enumerate([*np.random.default_rng(0).normal(2, 1, 60), np.nan, -np.inf, np.inf, 1.0, -3.0]):
        watched.step(value)
        watching.step(mg.Tensor(value) if step % 2 else value)
        assert ours.lr == pytest.approx(theirs.param_groups[0]["lr"]) and watching.best == watched.best
        assert ours.param_groups[1]["lr"] == pytest.approx(0.1 * ours.lr)
        if step == 30:
            state, watching = watching.state_dict(), optim.ReduceLROnPlateau(ours, **settings)
            watching.load_state_dict(state)
    assert ours.lr < 1


@pytest.mark.parametrize("make, message", [
    (lambda o: optim.ReduceLROnPlateau(None), "optimizer must be an Optimizer"),
    (lambda o: optim.ReduceLROnPlateau(o, "least"), "mode is"),
    (lambda o: optim.ReduceLROnPlateau(o, factor=1.0), "factor must be"),
    (lambda o: optim.ReduceLROnPlateau(o, patience=0.5), "patience"),
    (lambda o: optim.ReduceLROnPlateau(o, threshold=-1.0), "threshold must be"),
    (lambda o: optim.ReduceLROnPlateau(o, min_lr=-1), "min_lr"),
    (lambda o: optim.ReduceLROnPlateau(o, threshold_mode="relative"), "threshold_mode is"),
    (lambda o: optim.ReduceLROnPlateau(o).step(np.ones(2)), "one number wanted"),
    (lambda o: optim.one_cycle(0.1, 0), "total must be"), (lambda o: optim.one_cycle(0.1, 10, 1.5), "pct_start"),
    (lambda o: optim.one_cycle(0.1, 10, div_factor=0), "div_factor must be"),
    (lambda o: optim.Adam(parameters(1), amsgrad="no"), "amsgrad is True")])
def test_schedules_refuse_what_is_out_of_range(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make(optim.SGD(parameters(1), 0.1))


def test_errors():
    with pytest.raises(ValueError, match="no parameters"):
        optim.SGD([], 0.1)
    for wrong in (dict(interval=2.5), dict(interval=0), dict(scale=0.5), dict(growth=math.nan), dict(backoff=0)):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            optim.LossScaler(**wrong)
    with pytest.raises(ValueError, match="negative"):
        optim.Adam([nn.Parameter(np.zeros(1))], -1.0)
    with pytest.raises(ValueError, match="decay"):
        optim.EMA(nn.Linear(1, 1), 1.0)


@pytest.mark.parametrize("dtype, tolerance", [(np.float16, 1e-3), pytest.param(bfloat16, 8e-3, marks=wants_bfloat16)])
def test_products_of_half_precision_are_rounded_once(dtype, tolerance):
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=shape).astype(dtype) for shape in ((5, 3000), (4, 3000)))
    exact = x.astype(np.float64) @ w.astype(np.float64).T
    for y in (mg.matmul(x, w.T), mg.linear(x, w), mg.conv2d(x.reshape(5, 3, 10, 100), w.reshape(4, 3, 10, 100))):
        assert y.dtype == dtype
        np.testing.assert_allclose(y.numpy().reshape(5, 4).astype(float), exact, rtol=tolerance)
    weight = mg.Tensor(w, requires_grad=True)
    mg.linear(x, weight).sum().backward()
    assert weight.grad.dtype == dtype
    np.testing.assert_allclose(weight.grad.numpy()[0].astype(float), x.astype(float).sum(0), rtol=tolerance, atol=tolerance)


def half_loss(net, x, y, dtype):
    half = {name: p.astype(dtype) for name, p in net.named_parameters()}
    return mg.cross_entropy(nn.functional_call(net, half, mg.astype(x, dtype)).astype("float32"), y)


class Small(nn.Module):
    """A convolution and a linear map; its logits are small, and so are its gradients."""

    def __init__(self):
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 3)

    def forward(self, x):
        return self.head(mg.relu(self.conv(x)).reshape(len(x), -1))


@pytest.mark.parametrize("dtype", ["float16", pytest.param("bfloat16", marks=wants_bfloat16)])
def test_training_in_half_precision_follows_single_precision(dtype):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 1, 8, 8)), rng.integers(0, 3, 30)
    losses = []
    for scaler in (optim.LossScaler(2.0**10), None):
        mg.random.seed(0)
        net = Small()
        optimizer = optim.Adam(net.parameters(), 0.01)
        for _ in range(30):
            net.zero_grad()
            if scaler is None:
                loss = mg.cross_entropy(net(x.astype(np.float32)), y)
                loss.backward()
                optimizer.step()
            else:
                loss = half_loss(net, x, y, dtype)
                scaler.scaled(loss).backward()
                assert scaler.step(optimizer)
        assert all(p.dtype == np.float32 == p.grad.dtype for p in net.parameters())
        losses.append(float(loss))
    assert losses[1] < 0.3 and abs(losses[0] - losses[1]) < 0.05


@pytest.mark.parametrize("loss_of", [
    lambda x, y: mg.cross_entropy(x, y), lambda x, y: F.cross_entropy(x, y, np.ones(4, np.float16)),
    lambda x, y: F.cross_entropy(x, mg.one_hot(y, 4, dtype="float16"), np.ones(4, np.float16)),
    lambda x, y: F.nll_loss(F.log_softmax(x, 1), y), lambda x, y: F.nll_loss(F.log_softmax(x, 1), y, np.ones(4, np.float16)),
    lambda x, y: F.kl_div(F.log_softmax(x, 1), mg.one_hot(y, 4, dtype="float16"), reduction="batchmean")])
def test_the_mean_of_many_losses_fits_float16(loss_of):
    x = mg.Tensor(np.zeros((70000, 4), np.float16), requires_grad=True)
    loss = loss_of(x, np.zeros(70000, int))
    loss.backward()
    assert loss.dtype == np.float16 and abs(float(loss) - np.log(4)) < 2e-3
    assert x.grad.dtype == np.float16 and np.allclose(x.grad.astype("float32").numpy() * 70000,
                                                        [-0.75, 0.25, 0.25, 0.25], rtol=0.02)


def test_adam_refuses_float16_where_its_eps_would_be_0():
    with pytest.raises(ValueError, match="eps 1e-08 is 0 in float16"):
        optim.AdamW([nn.Parameter(np.ones(2, np.float16))])
    optim.Adam([nn.Parameter(np.ones(2, np.float16))], eps=1e-4)


def test_the_scale_saves_small_gradients():
    p, small = nn.Parameter(np.ones((1, 1), np.float32)), np.full((1, 1), 1e-4, np.float16)
    for scale, survives in ((1.0, False), (2.0**14, True)):
        scaler, p.grad = optim.LossScaler(scale), None
        y = mg.matmul(p.astype("float16"), small) * small  # its slope 1e-8 is below float16's least number
        scaler.scaled(y.astype("float32").sum()).backward()
        assert scaler.step(optim.SGD([p], 0.0)) and (p.grad.item() > 0) == survives
    np.testing.assert_allclose(p.grad.item(), 1e-8, rtol=2e-3)


@pytest.mark.parametrize("dtype", [np.float16, pytest.param(bfloat16, marks=wants_bfloat16), np.float32, np.float64])
def test_gradients_of_any_dtype_are_divided_by_a_scale_that_it_may_not_hold(dtype):
    p = nn.Parameter(np.ones(2, dtype))
    optimizer, scaler = optim.SGD([p], 0.5), optim.LossScaler(2.0**16)
    scaler.scaled((p.astype("float32") * np.array([0.25, 2.0**-10], np.float32)).sum()).backward()
    assert scaler.step(optimizer)
    np.testing.assert_array_equal(p.grad.numpy().astype(float), [0.25, 2.0**-10])
    assert p.grad.dtype == dtype and p.numpy()[0] == 0.875


def test_the_schedule_of_the_scale():
    p = nn.Parameter(np.ones(2, np.float32))
    optimizer, scaler = optim.SGD([p], 1.0), optim.LossScaler(4.0, interval=2)
    seen = []
    for g in (1, 1, np.inf, 1, np.nan, -np.inf, np.inf, 1):
        p.grad = mg.Tensor(np.array([0, g * scaler.scale], np.float32))
        before = p.numpy().copy()
        stepped = scaler.step(optimizer)
        assert stepped == np.isfinite(g) and (before - p.numpy())[1] == (g if stepped else 0)
        seen.append(scaler.scale)
    assert seen == [4, 8, 4, 4, 2, 1, 1, 1]
    twin = optim.LossScaler()
    twin.load_state_dict(scaler.state_dict())
    assert (twin.scale, twin.good) == (scaler.scale, scaler.good) == (1, 1)
    with pytest.raises(ValueError, match="backoff"):
        optim.LossScaler(backoff=1.0)


def test_a_loss_scaler_with_a_shorter_interval_than_the_loaded_state_grows():
    scaler = optim.LossScaler(8.0, interval=2)
    scaler.load_state_dict({"scale": 8.0, "good": 5})
    parameter = nn.Parameter(np.ones(2, np.float32))
    parameter.grad = mg.Tensor(np.ones(2, np.float32))
    scaler.step(optim.SGD([parameter], 0.1))
    assert scaler.scale == 16 and scaler.good == 0


def test_a_state_of_other_groups_is_refused_and_changes_nothing():
    first, second = nn.Parameter(np.ones(2, np.float32)), nn.Parameter(np.ones(3, np.float32))

    def made(*groups):
        return optim.SGD([{"params": group, "lr": 0.1 / (k + 1)} for k, group in enumerate(groups)], 0.01, momentum=0.9)

    together, apart, alone = optim.SGD([first, second], 0.01, momentum=0.9), made([first], [second]), made([first, second])
    for optimizer, other in ((together, apart), (made([first, second], []), apart)):
        before = [group["lr"] for group in optimizer.param_groups]
        with pytest.raises((ValueError, KeyError), match="SGD.load_state_dict: the state is"):
            optimizer.load_state_dict(other.state_dict())
        assert [group["lr"] for group in optimizer.param_groups] == before
    apart.param_groups[1]["lr"] = 0.7
    again = made([first], [second])
    again.load_state_dict(apart.state_dict())
    assert [group["lr"] for group in again.param_groups] == [0.1, 0.7]
    alone.load_state_dict(together.state_dict())
    old = {name: value for name, value in made([first], [second]).state_dict().items() if not name.startswith(("size", "lr."))}
    apart.load_state_dict(old)  # written before sizes were
    assert [group["lr"] for group in apart.param_groups] == [0.01, 0.01]


def test_an_average_of_other_arrays_is_refused():
    for change in (lambda net: setattr(net, "bias", nn.Parameter(np.ones(1, np.float32))), lambda net: delattr(net, "bias"),
                   lambda net: setattr(net, "more", nn.Parameter(np.float32(1))), lambda net: delattr(net, "scale_bias")):
        net = nn.Linear(3, 2)
        net.scale_bias = nn.Parameter(np.float32(1))
        ema = optim.EMA(net, 0.5)
        change(net)
        before = ema.state_dict()
        with pytest.raises(ValueError, match="EMA.update: .*(bias|more)"):
            ema.update()
        for name, value in ema.state_dict().items():
            np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("gradient, error", [(mg.Tensor([3, 4]), TypeError), (mg.Tensor([True, False]), TypeError),
                                             (mg.ones(5), ValueError), (mg.ones((2, 1)), ValueError)])
def test_a_gradient_that_cannot_be_clipped_is_refused(gradient, error):
    (p,) = parameters(2)
    p.grad = gradient
    with pytest.raises(error, match="clip_grad_norm_: .*(gradient 0 is of|its gradient)"):
        optim.clip_grad_norm_([p], 0.5)

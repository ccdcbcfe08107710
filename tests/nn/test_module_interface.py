"""What PyTorch's users type first on a Module, tables of stored names, and the warning about double precision."""
import copy
import operator
import pickle
import re
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from checks import optional

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import module as module_file
from minigrad.ops.missing import TABLE

torch = optional("torch")
X = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)


def build(n):
    return n.Sequential(n.Linear(2, 3), n.Sequential(n.BatchNorm1d(3), n.ReLU()), n.Linear(3, 1))


def shared(n):
    """A network of which one layer stands in three places."""
    layer, act = n.Linear(2, 2), n.ReLU()
    return n.Sequential(layer, act, layer, n.Sequential(act, layer))


@pytest.mark.parametrize("build", [build, shared])
def test_parts_by_name_as_pytorch(build):
    ours, theirs = build(nn), build(torch.nn)
    for method in ("named_modules", "named_children", "named_parameters"):
        a, b = ([(name, type(part).__name__) for name, part in getattr(net, method)()] for net in (ours, theirs))
        assert a == b, method
    assert [type(m).__name__ for m in ours.modules()] == [type(m).__name__ for m in theirs.modules()]
    assert ours.children() == [m for _, m in ours.named_children()]
    assert set(ours.state_dict()) == {name for name in theirs.state_dict() if "num_batches" not in name}


def test_modules_of_a_module_that_holds_its_parent():
    net = build(nn)
    net[1].parent = net
    assert len(list(net.modules())) == 6 and not any(module.training for module in net.eval().modules())


@pytest.mark.parametrize("build", [build, shared])
def test_apply_goes_from_the_bottom_to_the_top(build):
    orders = []
    for n in (nn, torch.nn):
        calls = []
        net = build(n)
        assert net.apply(lambda m: calls.append(type(m).__name__)) is net
        orders.append(calls)
    assert orders[0] == orders[1]
    net = build(nn).apply(lambda m: nn.init.ones_(m.weight) if isinstance(m, nn.Linear) else None)
    assert (net[0].weight.numpy() == 1).all() and (net[2].weight.numpy() == 1).all()
    assert [a.shape for a in net.buffers()] == ([(3,), (3,)] if len(net) == 3 else [])


def test_frozen_parameters_get_no_gradient():
    net = build(nn)
    assert net[0].requires_grad_(False) is net[0]
    net(X).sum().backward()
    assert net[0].weight.grad is None and net[2].weight.grad is not None
    net.zero_grad()
    assert net.requires_grad_()[2].weight.grad is None and all(p.requires_grad for p in net.parameters())


def test_casts_and_slices():
    net = build(nn)
    assert net.double() is net and net[0].weight.dtype == np.float64 and net.half()[0].weight.dtype == np.float16
    assert net.float().cpu()[0].weight.dtype == np.float32
    np.testing.assert_array_equal(net.eval()[:1](X).numpy(), net[0](X).numpy())
    assert len(net[1:]) == 2 and net[1:][1] is net[-1]
    if not mg.cuda_available():
        with pytest.raises(Exception, match="(?i)cu"):
            net.cuda()


def test_partial_state():
    net = build(nn)
    missing, unexpected = net.load_state_dict({"0.bias": np.full(3, 7), "elsewhere": np.ones(1)}, strict=False)
    assert missing == sorted(net.state_dict().keys() - {"0.bias"}) and unexpected == ["elsewhere"]
    assert net.load_state_dict(net.state_dict() | {"1.num_batches_tracked": np.array(3)}) == ([], [])
    assert (net[0].bias.numpy() == 7).all()
    with pytest.raises(KeyError, match="missing .*0.weight.*unknown .*elsewhere"):
        net.load_state_dict({"0.bias": np.full(3, 7), "elsewhere": np.ones(1)})
    with pytest.raises(ValueError, match="'0.bias' has shape"):
        net.load_state_dict({"0.bias": np.ones(2)}, strict=False)


def test_lists_dicts_and_buffers_under_pytorchs_names():
    def make(n, array):
        class Net(n.Module):
            def __init__(self):
                super().__init__()
                self.steps = n.ModuleList([n.Linear(2, 3), n.ReLU()])
                self.steps.append(n.Linear(3, 1))
                self.heads = n.ModuleDict({"a": n.Linear(1, 2)})
                self.register_buffer("table", array)
        return Net()

    ours, theirs = make(nn, mg.Tensor(X)), make(torch.nn, torch.tensor(X))
    assert set(ours.state_dict()) == set(theirs.state_dict()) and len(ours.steps) == 3
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert [n for n, _ in ours.named_buffers()] == ["table"] and type(ours.table) is np.ndarray


@pytest.mark.parametrize("look", [
    lambda net: [name for name, _ in net.named_modules()], lambda net: [name for name, _ in net.named_children()],
    lambda net: [name for name, _ in net.steps.named_modules()], lambda net: len({*net.modules()}),
    lambda net: list(net.steps.state_dict()), lambda net: [name for name, _ in net.steps[1:].named_parameters()],
    lambda net: [len(net.steps[:2]), len(net.steps[::-1]), len(net.heads)], lambda net: list(net.heads.state_dict()),
    lambda net: [m.training for m in (net, net.heads.eval(), net.steps[1:].eval(), *net.steps)],
    lambda net: [p.requires_grad for p in (net.steps[:2].requires_grad_(False).parameters(), net.parameters())[1]],
    lambda net: sorted(name for name, _ in copy.deepcopy(net.steps).named_parameters()),
    lambda net: str(net.steps.double()[0].weight.dtype).removeprefix("torch.")])
def test_lists_and_dicts_of_modules_are_modules(look):
    def make(n):
        class Net(n.Module):
            def __init__(self):
                super().__init__()
                self.steps = n.ModuleList([n.Linear(2, 3), n.ReLU(), n.ModuleList([n.Linear(3, 3)])])
                self.heads = n.ModuleDict({"a": n.Linear(1, 2), "b": n.Tanh()})
        return Net()

    assert look(make(nn)) == look(make(torch.nn))


def test_a_list_of_modules_shows_each_part_once():
    shown = repr(nn.ModuleList([nn.ModuleList([nn.Linear(2, 3)]), nn.ModuleDict({"a": nn.ReLU()})]))
    assert shown.count("Linear") == shown.count("ReLU") == shown.count("weight") == 1, shown
    with pytest.raises(TypeError, match="ModuleList defines no forward"):
        nn.ModuleList([nn.ReLU()])(X)


@pytest.mark.parametrize("modules, hint", [
    ([nn.ReLU()], r"\*modules\)"), ((nn.ReLU(),), r"\*modules\)"), (nn.ModuleList([nn.ReLU()]), r"\*modules\)"),
    ({"a": nn.ReLU()}, r"\*modules.values\(\)\)"), (nn.ModuleDict(), r"\*modules.values\(\)\)")])
def test_sequential_says_how_it_is_given_a_list_or_dict(modules, hint):
    for before in ([nn.ReLU()],) if type(modules) is dict else ([], [nn.ReLU()]):
        with pytest.raises(TypeError, match=rf"of modules is given as Sequential\({hint}"):
            nn.Sequential(*before, modules)


class Inner(nn.Module):
    stored_names = {"kernel": "w", "deep.0": "first"}

    def __init__(self):
        self.kernel, self.deep = nn.Parameter(np.ones(2, np.float32)), [nn.Linear(2, 2)]

    def forward(self, x):
        return self.deep[0](x * self.kernel)


class Outer(nn.Module):
    stored_names = {"inner": "i", "many": "m", "inner.first.bias": "never"}

    def __init__(self):
        self.inner, self.many = Inner(), [Inner()]

    def forward(self, x):
        return self.many[0](self.inner(x))


@pytest.mark.parametrize("numbers", [[1.0, 2.0], (1.0, 2.0), np.array([1.0, 2.0]), mg.Tensor([1.0, 2.0])])
def test_a_registered_buffer_is_part_of_the_state(numbers):
    net = nn.Module()
    net.register_buffer("table", numbers)
    net.register_buffer("count", 3)
    net.register_buffer("none", None)
    assert {name: a.tolist() for name, a in net.state_dict().items()} == {"table": [1.0, 2.0], "count": 3}
    with pytest.raises(TypeError):
        net.register_buffer("text", "a")


def test_a_buffer_that_is_not_persistent_is_in_no_state_dict_and_everywhere_else():
    class Net(nn.Module):
        def __init__(self):
            self.register_buffer("mask", np.ones(2), persistent=False)
            self.register_buffer("mean", np.ones(2))
            self.scale = nn.Parameter(np.ones(2))

        def forward(self, x):
            return x * self.scale * self.mask

    net = nn.Sequential(Net(), Net())
    assert set(net.state_dict()) == {f"{i}.{name}" for i in (0, 1) for name in ("scale", "mean")}
    assert [name for name, _ in net.named_buffers()] == ["0.mask", "0.mean", "1.mask", "1.mean"]
    net[0].mask = np.zeros(2)
    copied = copy.deepcopy(net).to("float32")
    assert copied.load_state_dict(net.state_dict()) == ([], []) and copied[0].mask.dtype == np.float32
    assert nn.functional_call(net, {"0.mask": np.ones(2)}, np.ones(2)).tolist() == [1, 1]
    average = optim.EMA(net)
    average.update()
    average.copy_to(net)
    net[0].register_buffer("mask", np.ones(2))
    assert "0.mask" in net.state_dict() and "1.mask" not in net.state_dict()
    del net[1].mask
    net[1].mask = np.ones(2)
    assert "1.mask" in net.state_dict()
    with pytest.raises(TypeError, match="register_buffer: persistent is True or False"):
        net.register_buffer("other", np.ones(2), persistent="no")


def test_stored_names_are_used_wherever_a_name_is():
    net = nn.Sequential(Outer())
    names = ["0.i.w", "0.i.first.weight", "0.i.first.bias", "0.m.0.w", "0.m.0.first.weight", "0.m.0.first.bias"]
    assert [name for name, _ in net.named_parameters()] == list(net.state_dict()) == names
    assert [name for name, _ in net.named_modules()] == ["", "0", "0.i", "0.i.first", "0.m.0", "0.m.0.first"]
    zero = nn.functional_call(net, {"0.m.0.w": np.zeros(2, np.float32)}, X).numpy()
    assert (zero == zero[0]).all()
    twin = nn.Sequential(Outer())
    twin.load_state_dict(net.state_dict())
    np.testing.assert_array_equal(twin(X).numpy(), net(X).numpy())


def test_both_names_are_attributes():
    net = Outer()
    assert net.i is net.inner and net.inner.w is net.inner.kernel
    net.inner.w = nn.Parameter(np.zeros(2, np.float32))
    assert (net.inner.kernel.numpy() == 0).all() and "w" not in vars(net.inner)
    net.i = replacement = Inner()
    assert net.inner is replacement


class Scaled(nn.ModuleList):
    def __init__(self, items):
        super().__init__(items)
        self.scale, self.own, self.kept = nn.Parameter(np.ones(1, np.float32)), nn.Linear(2, 2), np.zeros(3)


class Named(nn.ModuleDict):
    def __init__(self):
        super().__init__(first=nn.Linear(2, 2))
        self.scale = nn.Parameter(np.ones(1, np.float32))


def test_lists_and_dicts_of_ones_own_keep_their_attributes():
    """A Parameter of a subclass would stay as it was made, and would be missing in the file."""
    holder = nn.Module()
    holder.l, holder.d = Scaled([nn.Linear(2, 1)]), Named()
    assert sorted(holder.state_dict()) == ["d.first.bias", "d.first.weight", "d.scale", "l.0.bias", "l.0.weight", "l.kept",
                                           "l.own.bias", "l.own.weight", "l.scale"]
    assert [name for name, _ in holder.l.named_parameters()] == ["scale", "own.weight", "own.bias", "0.weight", "0.bias"]
    assert [name for name, _ in holder.named_modules()] == ["", "l", "l.own", "l.0", "d", "d.first"]
    assert not holder.eval().l.own.training and "scale: float32[1]" in repr(holder.d)
    holder.load_state_dict({name: a + 1 for name, a in holder.state_dict().items()})
    assert holder.d.scale.item() == 2
    both = holder.l + [nn.ReLU()]
    assert isinstance(both, nn.ModuleList) and len(both) == 2 and both[0] is holder.l[0]


@pytest.mark.parametrize("kind, new", [(nn.ModuleDict, lambda: nn.Linear(2, 2)), (nn.ParameterDict, lambda: mg.ones(2))])
def test_items_of_a_dict_of_modules_are_attributes(kind, new):
    named = kind({"a": new(), "training": new()})
    shown, named.a = named.a, new()
    assert shown is not named.a is named["a"] and "a" not in vars(named) and "b" not in named
    assert named.eval().training is False and "training" in named and len(named.parameters()) == len(named.state_dict())
    named.b = 3
    assert named.b == 3 and "b" not in named and pickle.loads(pickle.dumps(named)).b == copy.deepcopy(named).b == 3
    del named.a, named.b
    assert list(named) == ["training"] and not hasattr(named, "a") and not hasattr(named, "b")
    with pytest.raises(AttributeError, match="no attribute 'c'"):
        named.c


@pytest.mark.parametrize("kind, new", [(nn.ModuleDict, lambda: nn.Linear(2, 2)), (nn.ParameterDict, lambda: mg.ones(2))])
def test_an_item_behind_an_attribute_of_its_name_is_reached_by_its_key_alone(kind, new):
    named = kind({"keys": new()})
    named.own = 1
    named["own"] = new()
    behind = dict(named)
    named.own = 2
    assert named.own == 2 and callable(named.keys) and all(named[key] is item for key, item in behind.items())
    with pytest.raises(AttributeError):
        del named.keys
    del named.own
    assert named.own is behind["own"] and list(named) == ["keys", "own"]


@pytest.mark.parametrize("kind", [nn.ModuleList, list])
def test_of_what_a_list_holds_parameters_and_modules_alone_are_parts(kind):
    holder = nn.Module()
    constant = mg.Tensor(np.ones(2), requires_grad=True)
    holder.l = kind([nn.Parameter(np.ones(2)), constant, np.ones(2), nn.Linear(1, 1, bias=False)])
    assert sorted(holder.state_dict()) == ["l.0", "l.3.weight"] and len(holder.parameters()) == 2 and not holder.buffers()


def test_a_list_of_modules_is_equal_to_itself_alone():
    for one, other in ((nn.ModuleList([nn.ReLU()]), nn.ModuleList), (nn.ModuleDict(a=nn.ReLU()), nn.ModuleDict)):
        other = other(one)
        assert one == one and not one != one and one != other and not one == other


def test_a_list_of_modules_with_a_forward_of_its_own_stands_in_a_sequential():
    class Summed(nn.ModuleList):
        def forward(self, x):
            return sum(layer(x) for layer in self)

    net = nn.Sequential(nn.ReLU(), Summed([nn.ReLU(), nn.Identity()]))
    np.testing.assert_array_equal(net(mg.Tensor([-1.0, 2.0])).numpy(), [0, 4])


# -- double precision ------------------------------------------------------------------------------------------------


def caught(net, x):
    module_file._warned = False
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for _ in range(3):
            net(x)
    return found


@pytest.fixture(autouse=True)
def afterwards(monkeypatch):
    monkeypatch.setattr(module_file, "_warned", module_file._warned)


def test_float64_inputs_are_reported_once_with_the_callers_line():
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.Linear(3, 1))
    warning, = caught(net, X.astype(np.float64))
    assert warning.category is UserWarning and warning.filename == __file__
    for part in ("Linear", "float64", "float32", "x.astype('float32')", "module.to('float64')"):
        assert part in str(warning.message)
    assert len(caught(net, mg.Tensor(X.astype(np.float64)))) == 1


@pytest.mark.parametrize("net, x", [
    (lambda: nn.Linear(2, 3).double(), X.astype(np.float64)), (lambda: nn.Linear(2, 3), X),
    (lambda: nn.ReLU(), X.astype(np.float64)), (lambda: nn.Linear(2, 3).double(), X),
    (lambda: nn.Embedding(5, 3), np.array([1, 2]))])
def test_no_warning_where_precisions_agree(net, x):
    assert not caught(net(), x)


def test_a_fresh_process_warns_once():
    code = ("import numpy as np; from minigrad import nn; net = nn.Linear(2, 2); x = np.ones((1, 2))\n"
            "for _ in range(3): net(x)\nnn.Linear(2, 3)(x)")
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.count("UserWarning") == 1


def containers(n, tensor):
    """A Module with Parameters in a list and a dict, some of which were added."""
    class Net(n.Module):
        def __init__(self):
            super().__init__()
            self.rows = n.ParameterList([n.Parameter(tensor([1.0, 2.0])), n.Parameter(tensor([3.0]))])
            self.rows.append(n.Parameter(tensor([4.0])))
            self.rows.extend([tensor([5.0])])
            self.rows += [tensor([6.0])]
            self.by_name = n.ParameterDict({"a": n.Parameter(tensor([7.0]))})
            self.by_name["b"] = tensor([8.0])
            self.by_name.update({"c": tensor([9.0])})
            self.by_name.setdefault("d", tensor([10.0]))

        def forward(self, x):
            return x * sum(p.sum() for p in [*self.rows, *self.by_name.values()])

    return Net()


def test_lists_and_dicts_of_parameters_are_pytorchs():
    ours, theirs = containers(nn, mg.Tensor), containers(torch.nn, torch.tensor)
    assert [(name, p.tolist()) for name, p in ours.named_parameters()] == [(n, p.tolist()) for n, p in theirs.named_parameters()]
    assert all(type(p) is nn.Parameter and p.requires_grad for p in ours.parameters()) and len(ours.parameters()) == 9
    ours.load_state_dict({name: value.numpy() + 1 for name, value in theirs.state_dict().items()})
    for net in (ours, copy.deepcopy(ours)):
        net(2.0).backward()
        assert [p.grad.tolist() for p in net.parameters()] == [[2.0] * p.size for p in net.parameters()]
    x = mg.Tensor([3.0], requires_grad=True)
    y = nn.functional_call(ours, {"rows.1": x, "by_name.b": 2 * x}, 1.0)
    assert mg.grad(y, x).item() == 3 and type(ours.rows[1]) is type(ours.by_name["b"]) is nn.Parameter
    ours.rows.insert(0, np.ones(2))
    ours.by_name |= {"e": mg.ones(1)}
    assert type(ours.rows[0]) is type(ours.by_name["e"]) is nn.Parameter and len(ours.rows[1:3].parameters()) == 2
    assert [name for name, _ in nn.ParameterDict(a=mg.ones(1)).named_parameters()] == ["a"]


@pytest.mark.parametrize("wrong", [1.0, [1.0], None, "a", nn.Linear(1, 1)], ids=lambda wrong: type(wrong).__name__)
def test_lists_and_dicts_of_parameters_refuse_what_is_none(wrong):
    rows, names = nn.ParameterList(), nn.ParameterDict()
    for call in (lambda: nn.ParameterList([wrong]), lambda: rows.append(wrong), lambda: rows.extend([wrong]),
                 lambda: rows.insert(0, wrong)):
        with pytest.raises(TypeError, match="ParameterList: Parameters, Tensors or arrays wanted, not"):
            call()
    for call in (lambda: nn.ParameterDict(a=wrong), lambda: names.update(a=wrong), lambda: names.setdefault("a", wrong)):
        with pytest.raises(TypeError, match="ParameterDict: Parameters, Tensors or arrays wanted, not"):
            call()
    assert not rows and not names


@pytest.mark.parametrize("rows", [np.ones((2, 3)), mg.ones(2, 3), nn.Parameter(np.ones(2))], ids=lambda rows: type(rows).__name__)
def test_the_rows_of_an_array_are_no_list_of_parameters(rows):
    parameters, modules = nn.ParameterList(), nn.ModuleList()
    for call in (lambda: nn.ParameterList(rows), lambda: parameters.extend(rows), lambda: parameters.__iadd__(rows),
                 lambda: parameters + rows, lambda: nn.ModuleList(rows), lambda: modules.__iadd__(rows)):
        with pytest.raises(TypeError, match=f"List: a list wanted, not {type(rows).__name__}$"):
            call()
    assert not parameters and not modules


def test_a_class_does_not_stand_for_a_module():
    """As where its parentheses were forgotten: its parameters would be missing without a word."""
    modules, named, net = nn.ModuleList([nn.Tanh()]), nn.ModuleDict(a=nn.Tanh()), nn.Sequential(nn.Tanh())
    for call in (lambda: nn.ModuleList([nn.ReLU]), lambda: modules.append(nn.ReLU), lambda: modules.insert(0, nn.ReLU),
                 lambda: modules.extend([nn.ReLU]), lambda: modules.__iadd__([nn.ReLU]), lambda: modules + [nn.ReLU],
                 lambda: modules.__setitem__(0, nn.ReLU), lambda: modules.__setitem__(slice(1), [nn.ReLU]),
                 lambda: nn.ModuleDict({"a": nn.ReLU}), lambda: nn.ModuleDict(a=nn.ReLU), lambda: named.update(a=nn.ReLU),
                 lambda: named.setdefault("b", nn.ReLU), lambda: named.__ior__({"b": nn.ReLU}),
                 lambda: named.__setitem__("a", nn.ReLU), lambda: nn.Sequential(nn.ReLU), lambda: net.__setitem__(0, nn.ReLU)):
        with pytest.raises(TypeError, match=r"^(ModuleList|ModuleDict|Sequential): .* the class ReLU.*ReLU\("):
            call()
    for part in (modules[0], named["a"], net[0]):
        assert isinstance(part, nn.Tanh) and len(modules) == len(named) == len(net) == 1


def test_slices_and_sums_of_parameters_are_lists_of_parameters():
    rows, names = nn.ParameterList([mg.zeros(2), mg.ones(3)]), nn.ParameterDict({"a": mg.zeros(2)})
    for part, length in ((rows[1:], 1), (rows + [np.ones(2)], 3), (rows + rows[:1], 3)):
        assert type(part) is nn.ParameterList and len(part) == length and all(isinstance(p, nn.Parameter) for p in part)
    joined = names | {"b": np.ones(2)}
    assert type(joined) is nn.ParameterDict and joined["a"] is names["a"] and isinstance(joined["b"], nn.Parameter)
    assert list(names) == ["a"] and len(rows) == 2 and rows[1:][0] is rows[1]

    class Product(nn.Module):
        def __init__(self):
            self.rows, self.names = nn.ParameterList([mg.ones(())] * 2), nn.ParameterDict({"a": mg.ones(())})

        def forward(self):
            first, second = self.rows[:1] + self.rows[1:]
            return first * second * (self.names | {"b": np.ones(())})["a"]

    net = Product()
    given = {name: mg.Tensor(3.0, requires_grad=True) for name in net.state_dict()}
    assert [g.item() for g in mg.grad(nn.functional_call(net, given), list(given.values()))] == [9, 9, 9]


@pytest.mark.parametrize("kind", [nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict])
@pytest.mark.parametrize("wrong", [None, 3, nn.ReLU()], ids=lambda wrong: type(wrong).__name__)
def test_lists_and_dicts_are_made_of_such(kind, wrong):
    with pytest.raises(TypeError, match=f"^{kind.__name__}: a (list|dict) wanted, not {type(wrong).__name__}"):
        kind(wrong)


# -- what a module keeps -----------------------------------------------------------------------------------------------

class Keeping(nn.Module):
    """Keeps a result, a constant, and what its parameters are called while it runs."""

    def __init__(self):
        self.linear, self.listed = nn.Linear(2, 2), [nn.Parameter(np.ones(2, np.float32))]
        self.constant, self.index = mg.Tensor([1.0, 2.0], dtype="float32"), mg.Tensor([0, 1])

    def forward(self, x):
        self.names = [name for name, _ in self.named_parameters()]
        self.last = self.linear(x) * self.listed[0] + self.constant[self.index]
        return self.last


def test_results_and_constants_that_a_module_keeps_are_no_parameters():
    net, x = Keeping(), np.ones((1, 2), np.float32)
    average = optim.EMA(net)
    net(x).sum().backward()
    names = ["linear.weight", "linear.bias", "listed.0"]
    assert [name for name, _ in net.named_parameters()] == list(net.state_dict()) == net.names == names
    optim.Adam(net.parameters()).step()
    average.update()
    net.requires_grad_(False).requires_grad_(True)
    assert not net.constant.requires_grad
    Keeping().load_state_dict(net.state_dict())
    assert "last" not in repr(net) and "linear" in mg.summary(net)


def test_what_stands_in_for_a_parameter_has_its_name_meanwhile():
    net, x = Keeping(), np.ones((1, 2), np.float32)
    params = {name: mg.Tensor(p.numpy() + 1, requires_grad=True) for name, p in net.named_parameters()}
    nn.functional_call(net, params, x).sum().backward()
    assert net.names == list(params) and all(p.grad is not None for p in params.values())
    assert [name for name, _ in net.named_parameters()] == list(params) and net.listed[0].tolist() == [1, 1]
    with pytest.raises(TypeError, match="the arguments follow one by one"):
        nn.functional_call(net, params, (x,))


@pytest.mark.parametrize("params, error, said", [
    (None, TypeError, "a dict from names .* not NoneType"), (({}, {}), TypeError, "not tuple"), ([{}], TypeError, "not list"),
    ({1: 0, "x": 0}, KeyError, r"\[1, 'x'\]"), ({"bias": None}, TypeError, "'bias': "), ({"bias": "3"}, TypeError, "'bias': "),
    ({"bias": {}}, TypeError, "'bias': ")], ids=str)
def test_what_stands_in_for_parameters_is_a_dict_of_tensors(params, error, said):
    with pytest.raises(error, match=f"functional_call: .*{said}"):
        nn.functional_call(nn.Linear(2, 2), params, np.ones((1, 2), np.float32))


@pytest.mark.parametrize("load", [
    lambda state: nn.Linear(2, 2).load_state_dict(state), lambda state: optim.EMA(nn.Linear(2, 2)).load_state_dict(state),
    lambda state: optim.LossScaler().load_state_dict(state),
    lambda state: optim.SGD([mg.zeros(1, requires_grad=True)], 1).load_state_dict(state),
    lambda state: nn.load_published(nn.resnet18(), state)], ids=["Module", "EMA", "LossScaler", "SGD", "load_published"])
def test_names_of_a_state_that_are_no_text_are_unknown_ones(load):
    for state in ({"weight": np.ones((2, 2)), 1: 0, "x": 0}, {1: np.ones(1)}, {(1, 2): 0, None: 0}):
        with pytest.raises(KeyError, match=r"load_\w+: .*(missing .* unknown .*(1|None)|names of arrays are text, not )"):
            load(state)
    with pytest.raises(TypeError, match="not NoneType"):
        load(None)


def test_tensors_of_pytorch_are_taken_whatever_numpy_says_of_them():
    torch = pytest.importorskip("torch")
    net, theirs = nn.Linear(2, 3), torch.nn.Linear(2, 3)
    optimizer, ema = optim.Adam(net.parameters()), optim.EMA(net)
    for state in (dict(theirs.named_parameters()), theirs.to(torch.bfloat16).state_dict()):
        means = {f"{optimizer.slots[0]}.{i}": value for i, value in enumerate(state.values())}
        net.load_state_dict(state)
        ema.load_state_dict(state | {"updates": 1})
        optimizer.load_state_dict(optimizer.state_dict() | means)
        for found in (net.state_dict()["weight"], ema.average["weight"], optimizer.state_dict()[f"{optimizer.slots[0]}.0"]):
            np.testing.assert_array_equal(found, state["weight"].detach().float().numpy())
    ema.load_state_dict(dict(net.named_parameters()) | {"updates": 1})
    for values, said in ((torch.zeros(3, dtype=torch.float8_e4m3fn), "cannot become an array: .*Float8"),
                         (torch.zeros(3, dtype=torch.complex64), "is no array of real numbers, but of complex64")):
        for load in (net.load_state_dict, lambda state: ema.load_state_dict(state | {"updates": 1})):
            with pytest.raises(TypeError, match=f"load_state_dict: 'bias' {said}"):
                load({"weight": theirs.weight, "bias": values})


@pytest.mark.parametrize("i, error", [(5, IndexError), (-3, IndexError), ("0", TypeError), (1.0, TypeError), (None, TypeError)])
def test_an_index_that_a_sequence_does_not_have_is_named(i, error):
    net = nn.Sequential(nn.ReLU(), nn.Tanh())
    for call in (lambda: net[i], lambda: operator.setitem(net, i, nn.ReLU())):
        with pytest.raises(error, match=f"Sequential: an index below 2 wanted, the number of its modules, not {i!r}$"):
            call()
    assert net[np.int64(-1)] is net[1] and len(net[1:]) == 1


@pytest.mark.parametrize("value", [mg.Tensor(np.ones((2, 2))), mg.Tensor(np.ones((2, 2)), requires_grad=True), np.ones((2, 2))])
def test_a_parameter_is_not_replaced_by_what_would_not_be_trained(value):
    net = nn.Linear(2, 2)
    for set_ in (lambda: setattr(net, "weight", value), lambda: setattr(net, "weight", net.weight * 2)):
        with pytest.raises(TypeError, match=r"^Linear: weight is a Parameter, .*nn\.Parameter\(x\)"):
            set_()
    net.weight, net.bias = nn.Parameter(value), None
    assert [name for name, _ in net.named_parameters()] == ["weight"]
    with mg.no_grad():
        net.weight[...] = value * 3
    assert net.weight.tolist() == [[3, 3], [3, 3]]


@pytest.mark.parametrize("name", ["register_forward_hook", "get_submodule", "weigth"])
def test_an_attribute_that_is_not_there_leads_to_the_table(name):
    with pytest.raises(AttributeError, match=f"'Linear' object has no attribute '{name}': {re.escape(TABLE)}$"):
        getattr(nn.Linear(2, 2), name)
    assert not hasattr(nn.Linear(2, 2), name) and copy.deepcopy(nn.Linear(2, 2)).weight.shape == (2, 2)


def test_other_threads_find_the_parameters_of_a_module_meanwhile():
    class Asking(nn.Module):
        def __init__(self):
            self.linear = nn.Linear(2, 2)

        def forward(self, batch):
            thread = threading.Thread(target=lambda: found.append([name for name, _ in self.named_parameters()]))
            thread.start()
            thread.join()
            return self.linear(batch[0])

    net, found, x = Asking(), [], np.ones((1, 2), np.float32)
    params = {name: mg.Tensor(p.numpy(), requires_grad=True) for name, p in net.named_parameters()}
    assert nn.functional_call(net, params, (x, x)).requires_grad
    assert found == [["linear.weight", "linear.bias"]] and not module_file._stand_ins

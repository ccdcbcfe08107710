"""Tools for looking inside."""
import sys
import threading
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn


def test_anomalies_are_named_with_their_forward_line():
    x = mg.Tensor([1.0, 0.0], requires_grad=True)
    with pytest.raises(FloatingPointError, match=r"result of 'log' called at .*test_inspect.py:\d+"), mg.detect_anomaly():
        mg.log(x)
    y = mg.Tensor([0.0, 1e-200], requires_grad=True)
    with pytest.raises(FloatingPointError, match=r"gradient of 'log' called at .*test_inspect.py"), mg.detect_anomaly():
        (mg.log(y + 1e-320) * 1e10).sum().backward()
    with mg.detect_anomaly():
        (x * x).sum().backward()


def test_anomalies_of_a_graph_recorded_outside_have_no_line():
    y = mg.Tensor([0.0], requires_grad=True)
    z = mg.log(y + 1e-320) * 1e10
    with pytest.raises(FloatingPointError, match=r"gradient of 'log' \(recorded outside detect_anomaly"), mg.detect_anomaly():
        z.sum().backward()


def test_anomalies_that_were_given_are_not_made():
    x = mg.Tensor([np.inf, np.nan, 1.0], requires_grad=True)
    with mg.detect_anomaly():
        assert np.isnan((x * 2).numpy()[1])
        mg.argmax(x), mg.where(mg.isfinite(x), x, 0.0)

    @mg.detect_anomaly()
    def f(x):
        return mg.log(x)

    with np.errstate(divide="ignore"):
        with pytest.raises(FloatingPointError, match="'log'"):
            f(mg.Tensor(0.0))
        mg.log(mg.Tensor(0.0))  # and outside nothing is watched


def test_profile_counts_forward_and_backward():
    x = mg.Tensor(np.ones((10, 10)), requires_grad=True)
    with mg.profile() as p:
        (mg.exp(x) @ x).sum().backward()
    assert p.rows["forward", "exp"][0] == 1 and p.rows["forward", "exp"][2] == 800
    assert p.rows["backward", "matmul"][0] == 1 and "matmul" in str(p)


def test_draw_graph_names_operations_and_shapes(tmp_path):
    x = mg.Tensor(np.ones((2, 3)), requires_grad=True)
    source = mg.draw_graph((x * x).sum(), tmp_path / "graph.dot")
    assert source.count("[2, 3]") >= 3 and '"multiply"' in source and '"sum"' in source
    assert (tmp_path / "graph.dot").read_text() == source


def test_profiles_nest_and_survive_an_error():
    x = mg.Tensor(np.ones((10, 10)), requires_grad=True)
    with mg.profile() as outer:
        mg.exp(x)
        with mg.profile() as inner, mg.detect_anomaly():
            mg.exp(x)
            with pytest.raises(ValueError, match="matmul"):
                x @ np.ones(3)
            mg.tanh(x).sum().backward()
        mg.exp(x)
    mg.exp(x)
    assert outer.rows["forward", "exp"][0] == 3 and inner.rows["forward", "exp"][0] == 1
    assert outer.rows["backward", "tanh"][0] == inner.rows["backward", "tanh"][0] == 1
    for rows in (outer.rows, inner.rows):
        assert ("forward", "matmul") not in rows and all(seconds >= 0 for _, seconds, _ in rows.values())
    assert len(str(inner).splitlines()) == 1 + len(inner.rows)


def test_an_empty_profile_prints_its_head():
    with mg.profile() as p:
        pass
    assert str(p).split() == ["phase", "operation", "calls", "ms", "MB", "made"]


def worked_example():
    a, b = mg.Tensor(2.0, requires_grad=True), mg.Tensor(-1.0, requires_grad=True)
    c = a * b
    return a, b, c, mg.exp(c) + a


def svg(path):
    """The texts of an SVG file, and its boxes as (left, top, right, bottom)."""
    root = ElementTree.parse(path).getroot()
    spaced = "{http://www.w3.org/2000/svg}"
    boxes = [box for box in root.iter(spaced + "rect") if box.get("stroke")]
    boxes = [[float(box.get(key)) for key in ("x", "y", "width", "height")] for box in boxes]
    width, height = float(root.get("width")), float(root.get("height"))
    boxes = [(x, y, x + w, y + h) for x, y, w, h in boxes]
    assert all(0 <= left and right <= width and 0 <= top and bottom <= height for left, top, right, bottom in boxes)
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1], "boxes overlap"
    return [text.text for text in root.iter(spaced + "text")], boxes


def test_draw_graph_writes_svg_by_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    a, b, c, y = worked_example()
    y.backward(retain_graph=True)
    source = mg.draw_graph(y, tmp_path / "y.svg", names={"a": a, "b": b, "c": c, "y": y})
    texts, boxes = svg(tmp_path / "y.svg")
    for text in ["a = 2", "b = -1", "multiply", "c = -2", "exp", "0.1353", "add", "y = 2.135", "grad 0.8647", "grad 0.2707"]:
        assert text in texts
    assert len(boxes) == 6 and texts.count("[]") == 5 and texts.count("float64[]") == 3
    assert source.startswith("digraph {") and 'label="multiply\\nc = -2"' in source and source.count("->") == 6
    assert [path.name for path in tmp_path.iterdir()] == ["y.svg"]


def test_draw_graph_names_the_parameters_of_a_module(tmp_path):
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
    x = np.ones((5, 4), np.float32)
    y = mg.cross_entropy(net[1](mg.relu(net[0](x)) + net[0](x)), np.array([0, 1, 2, 0, 1]))
    y.backward(retain_graph=True)
    mg.draw_graph(y, str(tmp_path / "net.SVG"), names=net)
    texts, _ = svg(tmp_path / "net.SVG")
    assert {"0.weight", "float32[8, 4]", "0.bias", "1.weight", "constant", "linear", "[5, 8]"} <= set(texts)
    assert any(text.startswith("1.bias = [") for text in texts)  # three values
    norm = np.linalg.norm(net[0].weight.grad.numpy())
    assert f"grad of norm {norm:.3g}" in texts


def test_draw_graph_of_many_shapes_of_graphs(tmp_path):
    x, w = mg.Tensor(1.0, requires_grad=True), mg.Tensor(np.eye(3), requires_grad=True)
    h, states = mg.Tensor(np.ones(3)), []
    for _ in range(8):
        h = mg.tanh(h @ w + x)
        states.append(h)
    graphs = {"recurrent": mg.stack(states).sum() + (x * x) * (h[0] - h[1]), "twice": x * x, "leaf": x,
              "constant": mg.Tensor([1, 2]), "gradient": mg.grad(mg.exp(w * w).sum(), w, create_graph=True),
              "empty": mg.Tensor(np.ones((0, 2)), requires_grad=True) * 2}
    for name, y in graphs.items():
        path = tmp_path / f"{name}.svg"
        source = mg.draw_graph(y, path)
        texts, boxes = svg(path)
        assert len(boxes) == source.count("shape=") and ("×2" in texts) == (name in ("recurrent", "twice", "gradient"))
    assert "constant = [1, 2]" in svg(tmp_path / "constant.svg")[0]


def test_draw_graph_draws_an_operation_with_several_outputs_once(tmp_path):
    x = mg.Tensor(np.eye(3), requires_grad=True)
    values, vectors = mg.eigh(x)
    source = mg.draw_graph((values * vectors[0]).sum(), tmp_path / "x.svg", names={"values": values, "vectors": vectors})
    assert source.count('label="eigh\\nvalues, vectors"') == 1 and "output" not in source
    assert {"[3]", "[3, 3]"} <= set(svg(tmp_path / "x.svg")[0])


def test_draw_graph_of_a_deep_graph():
    x = mg.Tensor(1.0, requires_grad=True)
    y = x
    for _ in range(5000):
        y = mg.sin(y)
    assert mg.draw_graph(y).count("->") == 5001


def test_draw_graph_escapes_names(tmp_path):
    x = mg.Tensor(np.ones(5), requires_grad=True)
    source = mg.draw_graph(x.sum(), tmp_path / "x.svg", names={'<a & "b\\>': x, "same\n": x})
    assert '<a & "b\\>, same?' in svg(tmp_path / "x.svg")[0] and r'label="<a & \"b\\>, same?\n' in source


def test_draw_graph_refuses_a_freed_graph(tmp_path):
    _, _, _, y = worked_example()
    y.backward()
    with pytest.raises(RuntimeError, match="below 'add' was freed by a backward pass; draw it before.*retain_graph=True"):
        mg.draw_graph(y, tmp_path / "y.svg")
    assert not list(tmp_path.iterdir())


def test_draw_graph_refuses_what_it_cannot_do(tmp_path, monkeypatch):
    _, _, _, y = worked_example()
    for path in ["y.jpg", "y", "svg", tmp_path / "y.txt"]:
        with pytest.raises(ValueError, match=r"must end in \.svg, \.png.* and is '"):
            mg.draw_graph(y, path)
    with pytest.raises(TypeError, match="must be a Tensor, not list"):
        mg.draw_graph([y])
    with pytest.raises(TypeError, match=r"names\['a'\] must be a Tensor, not float"):
        mg.draw_graph(y, names={"a": 2.0})
    with pytest.raises(FileNotFoundError):
        mg.draw_graph(y, tmp_path / "nowhere" / "y.svg")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match=r"a \.png file needs matplotlib or Graphviz.*an \.svg file needs nothing"):
        mg.draw_graph(y, tmp_path / "y.png")
    assert not list(tmp_path.iterdir())


def test_draw_graph_keeps_the_old_file_where_writing_fails(tmp_path, monkeypatch):
    _, _, _, y = worked_example()
    (tmp_path / "y.svg").write_text("old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        mg.draw_graph(y, tmp_path / "y.svg")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("y.svg", "old")]


def test_draw_graph_makes_png_and_pdf(tmp_path):
    pytest.importorskip("matplotlib")
    _, _, _, y = worked_example()
    for kind, start in [("png", b"\x89PNG"), ("pdf", b"%PDF")]:
        mg.draw_graph(y, tmp_path / f"y.{kind}", names={"y$_$": y})
        assert (tmp_path / f"y.{kind}").read_bytes().startswith(start)


def test_draw_graph_asks_dot_where_matplotlib_is_missing(tmp_path, monkeypatch):
    if sys.platform == "win32":
        pytest.skip("the stand-in for dot is a shell script")
    program = tmp_path / "dot"
    program.write_text('#!/bin/sh\necho "$1"\n/bin/cat\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    source = mg.draw_graph(worked_example()[-1], tmp_path / "y.png")
    assert (tmp_path / "y.png").read_text() == "-Tpng\n" + source


def test_summary_counts_parameters():
    text = mg.summary(nn.Conv4())
    assert f"{sum(p.size for p in nn.Conv4().parameters()):,} parameters" in text and "blocks.0.conv.weight" in text


class Tied(nn.Module):
    def __init__(self):
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.second.bias.requires_grad = False
        self.mean = self.alias = np.zeros(3)


def test_summary_counts_what_stands_in_several_places_once():
    text = mg.summary(Tied())
    assert text.count("first.weight") == 1 and "second.weight" not in text and "alias" not in text
    assert "12 parameters, 9 of them trained" in text
    assert [line.split()[-1] for line in text.splitlines()[1:4]] == ["9", "frozen", "buffer"]


class Scaled(nn.Module):
    def __init__(self):
        self.scale = nn.Parameter(1.0)


def test_summary_of_little_and_of_no_module():
    assert mg.summary(nn.Sequential()) == "Sequential\n  0 parameters, 0 of them trained"
    assert "scale  ()  float64  1" in mg.summary(Scaled())
    with pytest.raises(TypeError, match="expected a Module, not list"):
        mg.summary([1])


def test_activations_are_what_each_module_returned():
    net, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 2))), mg.randn(5, 3)
    with mg.activations(net) as found:
        scores = net(x)
    assert list(found) == ["0", "1", "2.0", "2", ""] and found[""] is scores is found["2"]
    np.testing.assert_array_equal(found["0"].numpy(), net[0](x).numpy())
    slope = mg.grad(scores[:, 1].sum(), found["1"])  # of the class's score, as Grad-CAM takes it
    np.testing.assert_allclose(slope.numpy(), np.tile(net[2][0].weight.numpy()[1], (5, 1)))
    net(2 * x)
    assert found[""] is scores  # nothing is noted outside


def test_activations_may_be_nested_and_keep_the_last_call():
    shared = nn.Linear(3, 3)
    net, other = nn.Sequential(shared, nn.Tanh(), shared), nn.Linear(3, 3)
    x = mg.randn(2, 3)
    with mg.activations(net) as outer:
        with mg.activations(shared) as inner, pytest.raises(ValueError, match="linear"):
            first = net(x)
            net(x[:, :2])
        other(x)
        assert inner == {"": first} and outer[""] is first and set(outer) == {"", "0", "1"} and outer["0"] is first
        last = net(2 * x)
    assert inner[""] is first and outer["0"] is last
    with pytest.raises(TypeError, match="activations: expected a Module, not function"), mg.activations(lambda x: x):
        pass


def test_activations_of_a_thread_are_its_own():
    net, seen = nn.Linear(3, 3), []
    with mg.activations(net) as found:
        thread = threading.Thread(target=lambda: seen.append(net(mg.ones(1, 3))))
        thread.start()
        thread.join()
    assert seen and not found

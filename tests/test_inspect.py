"""Tools for looking inside."""
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


def test_summary_counts_parameters():
    text = mg.summary(nn.Conv4())
    assert f"{sum(p.size for p in nn.Conv4().parameters()):,} parameters" in text and "blocks.0.conv.weight" in text

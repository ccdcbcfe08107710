"""The benchmark compares like with like."""
import json
import math
import subprocess
import sys

import pytest


def test_networks_have_as_many_parameters_as_their_peers():
    pytest.importorskip("torch")
    from benchmarks import peers, workloads
    from minigrad import nn
    for name, (ours, theirs, _, _) in workloads.NETWORKS.items():
        counts = [sum(math.prod(p.shape) for p in build.parameters()) for build in (ours(nn), theirs(peers))]
        assert counts[0] == counts[1], name


def test_lora_has_as_many_parameters_as_its_peer():
    pytest.importorskip("torch")
    from benchmarks import peers, workloads
    from methods import peft
    from minigrad import nn
    ours, theirs = nn.BERT(*workloads.LORA), peers.LoRABERT(*workloads.LORA, 10)
    peft.apply(ours, "lora", head=10)
    for trained in (True, False):
        counts = [sum(math.prod(p.shape) for p in net.parameters() if p.requires_grad == trained) for net in (ours, theirs)]
        assert counts[0] == counts[1]


def test_self_supervised_methods_train_as_many_parameters_as_their_peers():
    pytest.importorskip("torch")
    from benchmarks import workloads
    for name in workloads.SELF_SUPERVISED:
        _, ours, _ = workloads._self_supervised_method(name, workloads._views(name), "cpu")
        counts = [sum(math.prod(p.shape) for p in parameters if p.requires_grad)
                  for parameters in (ours, workloads._self_supervised_peer(name).parameters())]
        assert counts[0] == counts[1], name


@pytest.mark.parametrize("name", ["cpc_images", "cpc_audio"])
def test_cpc_has_its_peers_loss(name):
    torch = pytest.importorskip("torch")
    from benchmarks import workloads
    views, peer = workloads._views(name), workloads._self_supervised_peer(name)
    method, parameters, batch = workloads._self_supervised_method(name, views, "cpu")
    theirs = {p.shape: [] for p in peer.parameters()}
    for p in peer.parameters():
        theirs[p.shape].append(p)
    for p in parameters:  # both list parameters of one shape in the order in which they are used
        theirs[p.shape].pop(0).data = torch.tensor(p.numpy())
    assert float(method.loss(batch, 1)[0]) == pytest.approx(peer.loss([torch.tensor(v) for v in views]).item(), rel=1e-5)


def test_networks_have_as_many_parameters_in_jax():
    jax = pytest.importorskip("jax")
    from benchmarks import jax_peers, workloads
    from minigrad import nn
    for name, (ours, _, theirs, x) in workloads.NETWORKS.items():
        p, x = jax_peers.Parameters(), x[:1].transpose(0, 2, 3, 1) if x.ndim == 4 else x[:1]
        jax.eval_shape(lambda x: getattr(jax_peers, theirs)(p, x, jax.random.key(0)), x)
        assert sum(a.size for a in p.drawn) == sum(math.prod(p.shape) for p in ours(nn).parameters()), name


def test_the_command_prints_and_writes_a_table(tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "table"
    command = [sys.executable, "-m", "tests.benchmarks", "chain", "--rounds", "1", "--seconds", "0.1", "--out", str(out)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == out.with_suffix(".md").read_text() and "chain of 1,000" in printed
    (row,) = json.loads(out.with_suffix(".json").read_text())
    assert row["ratio"]["torch"] == row["minigrad"]["ms"] / row["torch"]["ms"] > 0


@pytest.mark.parametrize("module", ["benchmarks --rounds", "benchmarks --threads", "benchmarks.curves --threads"])
def test_nothing_is_measured_less_than_once(module):
    done = subprocess.run([sys.executable, "-m", *f"tests.{module} 0".split()], capture_output=True, text=True)
    assert done.returncode and "1 or more wanted, not 0" in done.stderr


def test_a_run_that_is_stopped_leaves_its_table(tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "table"
    command = [sys.executable, "-m", "tests.benchmarks", "chain", "optimiser", "--rounds", "1", "--seconds", "0.1", "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while "chain of 1,000" not in process.stdout.readline():
            pass
        process.terminate()
        assert "stopped" in process.communicate(timeout=60)[1] and process.returncode
    assert "chain of 1,000" in out.with_suffix(".md").read_text() and json.loads(out.with_suffix(".json").read_text())


def test_curves_are_measured_and_drawn(tmp_path):
    for library in ("torch", "matplotlib"):
        pytest.importorskip(library)
    command = [sys.executable, "-m", "tests.benchmarks.curves", "chain", "--threads", "1", "--seconds", "0.01", "--out", str(tmp_path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads((tmp_path / "curves.json").read_text())["chain"]
    assert found.keys() == {"minigrad", "torch"} and found["minigrad"].keys() == {"10", "100", "1000", "10000"}
    assert found["minigrad"]["10"] < found["minigrad"]["10000"] and (tmp_path / "curves.png").is_file()
    assert "over PyTorch's" in printed


def test_the_summary_takes_the_best_peer():
    from benchmarks.__main__ import summary
    rows = [{"workload": "a step", "ratio": {"torch": 0.5, "torch compiled": 0.8}}, {"workload": "b step", "ratio": {"torch": 0.2}},
            {"workload": "layer: c", "ratio": {"torch": 1.5}}, {"workload": "alone", "ratio": {}}]
    steps, others = summary(rows)
    assert "0.40 of the best" in steps and "of 2" in steps and "0.80 (a step)" in steps and "1.50 (layer: c)" in others

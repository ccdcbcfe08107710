"""The examples with `--device cuda`: a few steps, a checkpoint, and the run resumed."""
import contextlib
import dataclasses
import importlib
import json
import shutil

import nogpu
import numpy as np
import pytest
import standin

import minigrad as mg
from minigrad import backend, cuda_graph, io

for library in ("tyro", "tqdm", "matplotlib", "safetensors", "PIL", "sklearn"):
    pytest.importorskip(library)
TINY = dict(steps=2, width=4, device="cuda")
FEW_SHOT = {
    "prototypical_networks": dict(way=3, query=2, episodes=2), "matching_networks": dict(way=3, query=2, episodes=2),
    "siamese_networks": dict(way=2, drawings=2, episodes=2),
    "maml": dict(way=3, tasks=1, inner_steps=1, test_steps=1, query=2, episodes=1)}
OTHERS = {"context": ("matching_networks", dict(context=True)), "Meta-SGD": ("maml", dict(learn_alpha="parameter")),
          "sinusoid": ("maml", dict(task="sinusoid", alpha=0.01))}
TRANSFORMER = dict(embed=8, decoder=8, blocks=1, heads=2)
SELF_SUPERVISED = {
    "SimCLR": ("simclr", {}), "MAE": ("mae", TRANSFORMER), "MAE, raw": ("mae", dict(TRANSFORMER, raw=True)),
    "BYOL": ("byol", {}), "SimSiam": ("byol", dict(gamma=0.0)), "VICReg": ("vicreg", dict(hidden=8, projection=8)),
    "Barlow Twins": ("vicreg", dict(barlow=True, hidden=8, projection=8)), "denoising": ("denoising", dict(hidden=8)),
    "Exemplar-CNN": ("exemplar", {}), "CPC": ("cpc_images", dict(features=8, context=8)), "supervised": ("supervised", {}),
    "DINO": ("dino", dict(classes_made=16, hidden=8, bottleneck=4, local_size=8, local_views=1, clip=0.01, frozen=0.0))}
SEMI = {
    "supervised": ("supervised", {}), "pseudo-label": ("pseudo_label", dict(begin=0.0)),
    "Pi": ("pi_model", dict(dropout=0.5)), "Pi, logits": ("pi_model", dict(on_logits=True, stop_gradient=True)),
    "Mean Teacher": ("mean_teacher", dict(dropout=0.5)), "one input": ("mean_teacher", dict(own=False)),
    "VAT": ("vat", {}), "VAT, all": ("vat", dict(iterations=2, stop_gradient=False)), "VAT, alone": ("vat", dict(entropy=0.0)),
    "UDA": ("uda", dict(annealing="linear", beta=0.1)), "UDA, weak": ("uda", dict(strong=False)),
    "MixMatch": ("mixmatch", {}), "MixMatch, apart": ("mixmatch", dict(mix="apart", views=8)),
    "ReMixMatch": ("remixmatch", {}), "ReMixMatch, plain": ("remixmatch", dict(align=False, squared=True, lambda_r=0.0)),
    "FixMatch": ("fixmatch", dict(tau=0.1)), "FixMatch, soft": ("fixmatch", dict(tau=0.1, temperature=0.5, apart=True)),
    "FixMatch, learned": ("fixmatch", dict(tau=0.1, learned=True)),
    "SoftMatch": ("softmatch", dict(momentum=0.5)), "FreeMatch": ("freematch", dict(momentum=0.5, lambda_f=0.5)),
    "FreeMatch, unfair": ("freematch", dict(lambda_f=0.0)), "ladder": ("ladder", dict(hidden=(8, 6), weights=(1, 0.1))),
    "Gamma": ("ladder", dict(hidden=(8, 6), variant="gamma")), "no ladder": ("ladder", dict(hidden=(8, 6), variant="none"))}


@pytest.fixture(params=[pytest.param(nogpu.installed, id="standin", marks=pytest.mark.skipif(
    not standin.available, reason="there is no g++")), pytest.param(
        contextlib.nullcontext, id="gpu", marks=pytest.mark.gpu)])
def device(request, shared_cache):
    with request.param():
        yield


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """A folder of twelve classes of six small images."""
    from PIL import Image
    folder = tmp_path_factory.mktemp("images")
    for c in range(12):
        (folder / f"class{c}").mkdir()
        for i in range(6):
            drawn = np.kron(np.random.default_rng([c, i]).integers(0, 2, (7, 7), np.uint8) * 255, np.ones((4, 4), np.uint8))
            Image.fromarray(drawn).save(folder / f"class{c}" / f"{i}.png")
    return str(folder)


@pytest.mark.parametrize("name", [*FEW_SHOT, *OTHERS])
def test_few_shot(device, images, name, tmp_path, monkeypatch):
    script, changes = OTHERS.get(name, (name, {}))
    module = importlib.import_module(f"examples.{script}")
    if script == "maml":
        monkeypatch.setattr(module, "TEST_TASKS", 2)
    run = module.Run(**{**TINY, **FEW_SHOT[script], **changes, "data": images})
    captured_like_eager(module.main, run, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", SELF_SUPERVISED)
def test_self_supervised(device, images, name, tmp_path, monkeypatch):
    from examples import self_supervised
    method, changes = SELF_SUPERVISED[name]
    settings = {**TINY, **changes, "data": images, "size": 8, "batch": 8, "depth": 1, "network": "small", "test_every": 9}
    run = dataclasses.replace(self_supervised.settings(method), **settings)
    monkeypatch.setattr(self_supervised, "whole", lambda images: self_supervised.probed(images, 12, 6))
    captured_like_eager(self_supervised.main, run, tmp_path, monkeypatch)


def captured_like_eager(main, run, tmp_path, monkeypatch):
    """Captured steps, before and after a resumption, leave what eager ones leave."""
    moves, replays, ends = spied(monkeypatch), counted(monkeypatch), []
    for how in ("captured", "eager"):
        if how == "eager":
            assert moves.count("cuda") > 1 and len(replays) == 3 + 1
            monkeypatch.setattr(mg, "capture", lambda step: step)
        first = main(dataclasses.replace(run, steps=4, out=str(tmp_path / how)))
        again = main(dataclasses.replace(run, steps=6, out=str(tmp_path / how), resume=True))
        assert len(first) == len(again) > 0
        log = [json.loads(line) for line in (tmp_path / how / "metrics.jsonl").read_text().splitlines()]
        ends.append((log, *io.load(tmp_path / how / "checkpoint.safetensors")))
    assert len(replays) == 4
    (log, arrays, facts), (eager_log, eager_arrays, eager_facts) = ends
    assert facts == eager_facts and arrays.keys() == eager_arrays.keys()
    for line, eager in zip(log, eager_log, strict=True):
        assert line | {"seconds": 0} == pytest.approx(eager | {"seconds": 0}, rel=1e-3, abs=1e-4)
    apart = [np.abs(arrays[key].astype(float) - array).ravel() for key, array in eager_arrays.items()]
    assert np.median(np.concatenate(apart)) <= 1e-6 and max(map(np.max, apart)) <= 0.01  # Adam divides gradients near 0


@pytest.mark.parametrize("task", ["contrastive", "caption", "bag_of_words"])
def test_pictures_and_text(device, images, task, tmp_path, monkeypatch):
    pytest.importorskip("tokenizers")
    from examples import clip
    for c in range(2):
        shutil.copytree(f"{images}/class{c}", tmp_path / "data" / f"class{c}")
    (tmp_path / "data" / "captions.csv").write_text("image,caption\n" + "".join(
        f"class{c}/{i}.png,the {word} {i}\n" for c, word in enumerate(("first", "second")) for i in range(6)))
    run = clip.Run(**TINY, data=str(tmp_path / "data"), task=task, tower="small", size=8, text_width=8, text_layers=1,
                   text_heads=2, vocabulary=520, length=6, dim=8, batch=4, held_out=4, out=str(tmp_path / "run"))
    if task != "caption":
        captured_like_eager(clip.main, run, tmp_path, monkeypatch)
        return
    moves, replays = spied(monkeypatch), counted(monkeypatch)
    first = clip.main(run)
    assert moves.count("cuda") > 1
    again = clip.main(dataclasses.replace(run, steps=6, resume=True))
    assert len(first) == len(again) > 0 and not replays


@pytest.mark.parametrize("name", SEMI)
def test_semi_supervised(device, name, tmp_path, monkeypatch):
    from examples import semi_supervised
    method, changes = SEMI[name]
    run = dataclasses.replace(semi_supervised.settings(method), **{**TINY, "batch": 4, "ratio": 1, **changes})
    digits = semi_supervised.load("digits", 50, 0)
    digits.test, digits.test_y = digits.test[:20], digits.test_y[:20]
    captured_like_eager(lambda run: [semi_supervised.result(run, method, digits)], run, tmp_path, monkeypatch)


def test_temporal_ensembling(device, tmp_path, monkeypatch):
    from examples import semi_supervised
    moves, replays = spied(monkeypatch), counted(monkeypatch)
    run = dataclasses.replace(semi_supervised.settings("temporal_ensembling"), **TINY, batch=4, ratio=1, out=str(tmp_path))
    assert 0 <= semi_supervised.main(run) <= 1
    assert moves.count("cuda") > 1
    again = dataclasses.replace(run, steps=3, resume=True)
    assert 0 <= semi_supervised.main(again) <= 1 and len(replays) == 1  # of the labels alone, which each run trains too


def test_two_moons(device, tmp_path, monkeypatch):
    from examples import two_moons
    monkeypatch.setattr(two_moons, "METHODS", {k: two_moons.METHODS[k] for k in ("mean_teacher", "vat")})
    moves = spied(monkeypatch)
    assert len(two_moons.main(two_moons.Run(steps=2, points=40, device="cuda", out=str(tmp_path)))) == 3
    assert moves.count("cuda") > 1


@pytest.mark.parametrize("name", ["siamese_networks", "prototypical_networks"])
def test_predict(device, images, name, tmp_path):
    """A classifier that was trained on the device classifies there as on the CPU."""
    from examples import predict
    module = importlib.import_module(f"examples.{name}")
    module.main(module.Run(**{**TINY, **FEW_SHOT[name], "data": images, "out": str(tmp_path)}))
    there, here = (predict.main(predict.Run(str(tmp_path), (f"{images}/class0",), device=d)) for d in ("cuda", "cpu"))
    assert len(there) == 6 and there[0][0] == here[0][0]
    np.testing.assert_allclose([p for _, _, p in there], [p for _, _, p in here], atol=1e-4)


def counted(monkeypatch):
    """A list that gets an item with each replay of a captured step from now on."""
    replays, replayed = [], cuda_graph.Captured._replayed
    monkeypatch.setattr(cuda_graph.Captured, "_replayed", lambda self: replays.append(self.step) or replayed(self))
    return replays


def spied(monkeypatch):
    """A list of the devices to which arrays are moved from now on."""
    moves, move = [], backend.to_device
    monkeypatch.setattr(backend, "to_device", lambda array, device: moves.append(device) or move(array, device))
    return moves

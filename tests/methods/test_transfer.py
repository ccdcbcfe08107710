"""Transfer: linear classifiers in plain NumPy, features, fine-tuning, and the examples end to end with a small encoder."""
import dataclasses
import os
import pathlib
import warnings

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import minigrad as mg
from methods.training import networks
from methods.training.classifier import Architecture, full_name, load_classifier
from methods.training.pictures import EncoderInput, preprocessing_of
from methods.training.settings import RunError
from methods.transfer import baselines, features, finetune, linear, pictures, tip_adapter
from methods.vision_language import few_labels
from minigrad import io, nn

pytest.importorskip("sklearn")
Image = pytest.importorskip("PIL.Image")


pytestmark = pytest.mark.usefixtures("own_cache")


def clouds(seed, classes=3, each=6, width=20, spread=1.0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(classes), each))
    return (rng.normal(size=(classes, width))[y] + spread * rng.normal(size=(len(y), width)) + 3).astype(np.float32), y


# -- linear classifiers ------------------------------------------------------------------------------------------------

@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 999), st.integers(2, 4), st.integers(2, 6), st.integers(1, 30), st.floats(-3, 2))
def test_ridge_leaves_each_label_out_as_a_loop_does(seed, classes, each, width, log_strength):
    x, y = clouds(seed, classes, each, width)
    strength = 10.0**log_strength
    found = linear.ridge(x, y, classes, (strength,))
    scale = np.sqrt(((x - x.mean(0, dtype=float)) ** 2).sum(1).mean())
    right = []
    for i in range(len(x)):
        rest = np.arange(len(x)) != i
        z, target = x.astype(float) / scale, np.eye(classes)[y]
        ones = np.concatenate([z, np.ones((len(z), 1))], 1)  # the bias, which is not penalised
        penalty = strength * len(x) * np.diag([1.0] * width + [0.0])
        w = np.linalg.solve(ones[rest].T @ ones[rest] + penalty, ones[rest].T @ target[rest])
        right.append((ones[i] @ w).argmax() == y[i])
    assert found.left_out == pytest.approx(np.mean(right))


def test_the_nearest_prototype_by_its_definition():
    x, y = clouds(0)
    found, (queries, _) = linear.prototypes(x, y, 3), clouds(1)
    z = (x - x.mean(0)) / np.linalg.norm(x - x.mean(0), axis=1, keepdims=True)
    p = np.stack([z[y == c].mean(0) for c in range(3)])
    p /= np.linalg.norm(p, axis=1, keepdims=True)
    q = (queries - x.mean(0)) / np.linalg.norm(queries - x.mean(0), axis=1, keepdims=True)
    np.testing.assert_array_equal(found.scores(queries).argmax(1), (q @ p.T).argmax(1))
    right = []
    for i in range(len(x)):
        rest = np.arange(len(x)) != i
        means = np.stack([z[rest & (y == c)].sum(0) for c in range(3)])
        right.append((means / np.linalg.norm(means, axis=1, keepdims=True) @ z[i]).argmax() == y[i])
    assert found.left_out == pytest.approx(np.mean(right))


@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_regression_is_that_of_the_features(classes):
    """Found in the space that the labelled features span, it is scikit-learn's in the whole space."""
    from sklearn.linear_model import LogisticRegression
    x, y = clouds(0, classes, each=8, width=40)
    found = linear.logistic(x, y, classes, (0.1,))
    scale = np.sqrt(((x - x.mean(0, dtype=float)) ** 2).sum(1).mean())
    model = LogisticRegression(C=1 / (0.1 * len(x)), tol=1e-8, max_iter=5000).fit((x - x.mean(0)) / scale, y)
    queries = clouds(1, classes, width=40)[0]
    p = np.exp(found.scores(queries))
    np.testing.assert_allclose(p / p.sum(1, keepdims=True), model.predict_proba((queries - x.mean(0)) / scale), atol=0.01)


@pytest.mark.parametrize("classes", [2, 5])
def test_svm_is_the_solution_of_its_problem_in_all_features(classes):
    from sklearn.svm import LinearSVC
    x, y = clouds(0, classes, each=8, width=40)
    found = linear.svm(x, y, classes, (0.1,))
    z = (x - x.mean(0)) / np.sqrt(((x - x.mean(0, dtype=float)) ** 2).sum(1).mean())
    model = LinearSVC(C=1 / (0.1 * len(x)), tol=1e-8, max_iter=10000).fit(z, y)
    factor = float(found.chosen.split()[-1])
    scores = found.scores(x) / factor
    if classes == 2:
        scores = scores[:, 1] - scores[:, 0]
    np.testing.assert_allclose(scores, model.decision_function(z), atol=0.02)
    logits = found.scores(clouds(1, classes, width=40)[0])
    assert found.left_out > 1 / classes and np.isfinite(logits).all()


@pytest.mark.parametrize("name", linear.PROBES)
@pytest.mark.parametrize("classes, each, width", [(2, 1, 5), (3, 1, 1), (2, 2, 3), (5, 3, 200)])
def test_few_labels_and_few_features(name, classes, each, width):
    x, y = clouds(0, classes, each, width, 0.1)
    for rows in (x, np.ones_like(x)):  # and features that say nothing
        found = linear.PROBES[name](rows, y, classes)
        assert found.weight.shape == (classes, width) and np.isfinite(found.scores(x)).all()
    if width > 2:
        assert (linear.PROBES[name](x, y, classes).scores(x).argmax(1) == y).mean() > 0.9


@pytest.mark.parametrize("fit", [linear.prototypes, linear.logistic, linear.svm, tip_adapter.cache])
def test_a_class_without_a_label_is_refused(fit):
    x, y = clouds(0)
    with pytest.raises(ValueError, match="labels are from 0 to 2, not -1"):
        fit(x, np.append(y[:-1], -1), 3)
    with pytest.raises(ValueError, match="each class needs a label, and there is none of 1, 3"):
        fit(x[y != 1], y[y != 1], 4)
    if fit in (linear.logistic, linear.svm):
        with pytest.raises(ValueError, match="2 classes or more are needed, not 1"):
            fit(x, np.zeros_like(y), 1)


@pytest.mark.parametrize("fit", linear.PROBES.values())
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused(fit, value):
    x, y = clouds(0)
    x[[1, 4], 2] = value
    with pytest.raises(ValueError, match=f"2 of {len(x)} rows of features hold NaN or infinity"):
        fit(x, y, 3)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 3), min_size=2, max_size=4), st.integers(0, 99))
def test_labels_that_stand_alone_are_not_left_out(counts, seed):
    """What is said of left-out labels is about those of classes that have others, and NaN where there are none."""
    rng, y = np.random.default_rng(seed), np.repeat(np.arange(len(counts)), counts)
    centres = 10 * rng.normal(size=(len(counts), 30))
    x = (centres[y] + 0.01 * rng.normal(size=(len(y), 30))).astype(np.float32)
    for name in ("prototypes", "ridge"):
        left_out = linear.PROBES[name](x, y, len(counts)).left_out
        assert left_out == 1 if max(counts) > 1 else np.isnan(left_out), name
    for fit in (linear.logistic, linear.svm):
        assert np.isnan(fit(x, y, len(counts)).left_out) == (min(counts) == 1)
    if max(counts) == 1:
        assert all("strength 0.01" in linear.PROBES[name](x, y, len(counts)).chosen for name in ("ridge", "logistic", "svm"))


@pytest.mark.parametrize("fit", [linear.logistic, linear.svm, lambda x, y, _: baselines.support_vectors(x, y, x)])
@pytest.mark.parametrize("each", [1, 2])
def test_many_classes_of_few_labels_are_no_reason_to_warn(fit, each):
    y = np.repeat(np.arange(30), each)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(np.random.default_rng(0).normal(size=(len(y), 40)).astype(np.float32), y, 30)


# -- features and pictures ---------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def encoder_file(tmp_path_factory):
    """A vision Transformer for 16 x 16 pixels, one block, in timm's names."""
    mg.random.seed(0)
    net = nn.VisionTransformer(16, 8, 3, 0, 64, 1, 1)
    path = tmp_path_factory.mktemp("encoder") / "vit.safetensors"
    io.save(path, net.state_dict())
    return path


@pytest.fixture
def folder(tmp_path):
    """Red, green and blue pictures of several sizes; one cannot be read."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(("红", "green", "blue")):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 120, (20 + i, 30 - i, 3))
            pixels[..., k] += 100
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "own" / name / f"{i}.png")
    (tmp_path / "own" / "unlabelled").mkdir()
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "own" / "unlabelled" / "u.png")
    (tmp_path / "own" / "green" / "3.png").write_bytes(b"no picture")
    return str(tmp_path / "own")


def test_quarters_are_the_maxima_of_each_rectified_map():
    mg.random.seed(0)
    encoder, x = networks.SmallConv(1, 0, widths=(2, 3)).eval(), mg.randn(5, 1, 16, 16)
    found, maps, want = features.Quarters(encoder, 16, 1), x, []
    for conv, norm in zip(encoder.convs, encoder.norms):
        maps = mg.relu(norm(conv(maps)))
        h = maps.shape[-1] // 2
        want.append(np.stack([maps.numpy()[:, :, i:i + h, j:j + h].max((2, 3)) for i in (0, h) for j in (0, h)], 2).reshape(5, -1))
    np.testing.assert_array_equal(found(x).numpy(), np.concatenate([*want, encoder.features(x).numpy()], 1))
    assert found.width == 4 * (2 + 3) + 3
    for net, maps in ((nn.resnet18(num_classes=0, small_images=True), 2 * (64 + 128 + 256 + 512)),
                      (nn.WideResNet(10, 1, 0), 16 + 32 + 64 + 64), (nn.Conv4(3, 8, image_size=32), 4 * 8)):
        both = features.Quarters(net.eval(), 32, 3)
        assert both.width == 4 * maps + net.width
        for n in (1, 40):  # of few pictures convolutions and norms are computed apart
            assert both.features(mg.randn(n, 3, 32, 32)).shape == (n, both.width)
    with pytest.raises(ValueError, match="VisionTransformer makes no maps"):
        features.Quarters(nn.VisionTransformer(16, 8, 3, 0, 8, 1, 1), 16, 3)


def cut_short(folder, name):
    """A picture's file loses its end: it begins as one."""
    path = pathlib.Path(folder) / name
    path.write_bytes(path.read_bytes()[:-40])


def test_features_are_computed_once_and_broken_pictures_left_out(folder, encoder_file, capsys, monkeypatch):
    encoder, preprocessing = nn.load_encoder(encoder_file)
    cut_short(folder, "green/5.png")
    images = pictures.load(folder)
    assert "green/3.png (it is no picture)" in images.description and "green/3.png" not in images.files
    everything = np.arange(len(images.labels))
    x, whole = features.encoded(encoder, preprocessing, images, everything)
    broken = images.files.index("green/5.png")
    assert "skipped green/5.png: it cannot be read" in capsys.readouterr().err
    assert np.isnan(x[broken]).all() and np.isfinite(np.delete(x, broken, 0)).all()
    assert broken not in np.concatenate([whole.train, whole.test]) and broken in np.concatenate([images.train, images.test])
    one = preprocessing(images.pictures[0])
    again = features.encode(encoder.train(), preprocessing, [images.pictures[0]], show=False)
    np.testing.assert_allclose(again[0], x[0], rtol=1e-5, atol=1e-6)
    assert encoder.training and encoder.eval()
    with mg.no_grad():
        np.testing.assert_allclose(x[0], encoder.features(mg.Tensor(one)).numpy()[0], rtol=1e-5, atol=1e-6)
    with monkeypatch.context() as changed:
        changed.setattr(features, "encode", None)  # the second time they come from the cache
        again, _ = features.encoded(encoder, preprocessing, images, everything)
    np.testing.assert_array_equal(again, x)
    Image.new("RGB", (30, 30), "white").save(os.path.join(folder, "blue", "0.png"))  # a picture that has changed is read anew
    changed, _ = features.encoded(encoder, preprocessing, pictures.load(folder), everything)
    place = images.files.index("blue/0.png")
    assert (changed[place] != x[place]).any()
    np.testing.assert_array_equal(np.delete(changed, place, 0), np.delete(x, place, 0))


def test_features_of_other_networks_with_the_same_weights_are_not_taken_from_the_cache(folder, encoder_file):
    images, state = pictures.load(folder), io.load(encoder_file)[0]
    found = []
    for heads in (1, 2, 4):
        encoder = nn.VisionTransformer(16, 8, 3, 0, 64, 1, heads)
        encoder.load_state_dict(state)
        found.append(features.encoded(encoder, nn.Preprocessing(16), images, images.test)[0][images.test])
    assert not np.allclose(found[0], found[1]) and not np.allclose(found[1], found[2])


def test_quarters_of_other_networks_with_the_same_weights_are_not_taken_from_the_cache(folder):
    images, found = pictures.load(folder), []
    state = nn.WideResNet(10, 1, 0).state_dict()
    for slope in (0.1, 0.5):
        encoder = nn.WideResNet(10, 1, 0, negative_slope=slope)
        encoder.load_state_dict(state)
        wide = features.Quarters(encoder, 16, 3)
        found.append(features.encoded(wide, nn.Preprocessing(16), images, images.test)[0][images.test])
    assert not np.allclose(*found)


def test_a_picture_that_can_be_read_at_last_is_read(folder, encoder_file, monkeypatch):
    encoder, preprocessing = nn.load_encoder(encoder_file)
    images = pictures.load(folder)
    which = np.arange(len(images.labels))
    one = int(images.train[0])
    read = pictures.Files.__getitem__

    def unreadable(files, i):
        if i == one:
            raise ValueError("the disk is asleep")
        return read(files, i)

    with monkeypatch.context() as changed:
        changed.setattr(pictures.Files, "__getitem__", unreadable)
        x, without = features.encoded(encoder, preprocessing, images, which)
        assert np.isnan(x[one]).all() and one not in without.train
    x, again = features.encoded(encoder, preprocessing, images, which)
    assert np.isfinite(x[one]).all() and one in again.train


def test_an_encoder_that_makes_something_infinite_is_no_broken_picture(folder, encoder_file):
    encoder, preprocessing = nn.load_encoder(encoder_file)
    with mg.no_grad():
        encoder.norm.bias[3] = np.inf
    images = pictures.load(folder)
    with pytest.raises(ValueError, match="encoder's features .* not finite"):
        features.encoded(encoder, preprocessing, images, np.arange(len(images.labels)))


def test_a_class_without_readable_pictures_is_refused(folder, encoder_file):
    images = pictures.load(folder)
    green = np.flatnonzero(images.labels == images.classes.index("green"))
    with pytest.raises(ValueError, match="no picture to train on can be read of green"):
        images.without(green)
    with pytest.raises(ValueError, match="9 labels of each class are asked for, and to train on"):
        images.chosen(9, 0)
    assert len(images.chosen(3, 0)) == 9 and set(images.labels[images.chosen(3, 1)]) == {0, 1, 2}
    np.testing.assert_array_equal(images.chosen(0, 0), images.train)


@pytest.mark.parametrize("leads_to", ["nowhere.png", "dead.png"], ids=["dead", "to itself"])
def test_a_link_that_leads_nowhere_is_left_out_and_said(folder, leads_to):
    os.symlink(leads_to, os.path.join(folder, "green", "dead.png"))
    images = pictures.load(folder)
    assert "green/dead.png" not in images.files and "green/dead.png (it cannot be read" in images.description


def test_an_encoder_is_built_again_from_its_description():
    for make in (lambda n: nn.VisionTransformer(16, 8, num_classes=n, embed_dim=64, depth=1, num_heads=1),
                 lambda n: nn.ResNet(nn.models.resnet.BasicBlock, (1, 1, 1, 1), n, small_images=True)):
        net = make(0)
        architecture = Architecture(full_name(type(net)), **{**net.arguments, "num_classes": 4})
        again = Architecture.of(mg.io.json.loads(mg.io.json.dumps(architecture.facts()))).build()
        assert {name: a.shape for name, a in again.state_dict().items()} == {n: a.shape for n, a in make(4).state_dict().items()}
    preprocessing = EncoderInput(16, "bilinear", (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), 1.0)
    assert preprocessing_of(mg.io.json.loads(mg.io.json.dumps(dataclasses.asdict(preprocessing)))) == preprocessing


# -- fine-tuning -------------------------------------------------------------------------------------------------------

def small():
    mg.random.seed(0)
    return nn.ResNet(nn.models.resnet.BasicBlock, (1, 1, 1, 1), 0, small_images=True)


def test_the_head_begins_as_the_linear_classifier():
    net, rng = small(), np.random.default_rng(0)
    found = linear.Linear(rng.normal(size=(3, net.width)), rng.normal(size=3), "", 1.0)
    finetune.set_head(net, found)
    x = rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
    with mg.no_grad():
        net.eval()
        np.testing.assert_allclose(net(x).numpy(), found.scores(net.features(x).numpy()), rtol=1e-4, atol=1e-5)


def test_an_encoder_in_an_encoder_has_layers_of_its_own():
    mg.random.seed(0)
    tower = nn.VisionTransformer(8, 4, 3, 0, 12, 3, 3)
    alone, named = finetune.layers(tower), few_labels.Named(tower, 5, 4)
    inner = [*alone, tower.head.parameters()]
    found = finetune.layers(named)
    assert [[id(p) for p in layer] for layer in found] == [[id(p) for p in layer] for layer in (*inner, named.head.parameters())]
    optimizers = finetune.make_optimizers(named, finetune.Config(lr=0.01, layer_decay=0.5))
    rates = {id(p): o.lr for o in optimizers.values() for g in o.param_groups for p in g["params"]}
    first, second = (rates[id(block.attn.qkv.weight)] for block in tower.blocks[:2])
    assert second == pytest.approx(2 * first)


@pytest.mark.parametrize("name", ["small", "residual", "mlp"])
def test_a_norm_has_the_rate_of_the_layer_that_it_follows(name):
    net = networks.architecture(name, 3, 16, 4, 0.0, 4, 1).build()
    kernels = net.layers if name == "mlp" else net.convs
    want = [{*map(id, [*kernel.parameters(), *norm.parameters()])} for kernel, norm in zip(kernels, net.norms)]
    assert [{*map(id, layer)} for layer in finetune.layers(net)] == [*want, {*map(id, net.head.parameters())}]


def test_what_stands_behind_the_head_does_not_lower_the_rates_before_it():
    mae = nn.MAE(8, 4, 3, 2, 12, 2, 3, decoder_dim=12, decoder_depth=2, decoder_heads=3)
    vit = nn.VisionTransformer(8, 4, 3, 2, 12, 2, 3)
    names = {id(p): name for name, p in mae.named_parameters()}
    own = [{names[id(p)] for p in layer} for layer in finetune.layers(mae)]
    assert own[-len(finetune.layers(vit)):] == [{name for name, p in vit.named_parameters() if any(p is q for q in layer)}
                                                for layer in finetune.layers(vit)]
    assert own[-1] == {"head.weight", "head.bias"} and sorted(names.values()) == sorted(n for layer in own for n in layer)
    shared = nn.Encoder.__new__(nn.Encoder)
    shared.first = shared.second = nn.Linear(3, 3)
    nn.Encoder.__init__(shared, 3, 2)
    assert [len(layer) for layer in finetune.layers(shared)] == [2, 2]


@pytest.mark.parametrize("kind", [nn.ModuleList, nn.Sequential])
def test_parameters_beside_the_items_of_a_list_of_modules_are_trained(kind):
    class Blocks(kind):
        def __init__(self, *blocks):
            super().__init__(*([blocks] if kind is nn.ModuleList else blocks))
            self.token = nn.Parameter(np.zeros(3, np.float32))

    net = nn.Encoder.__new__(nn.Encoder)
    net.blocks, net.norms = Blocks(nn.Linear(3, 3), nn.Linear(3, 3)), Blocks(nn.LayerNorm(3), nn.LayerNorm(3))
    nn.Encoder.__init__(net, 3, 2)
    names = {id(p): name for name, p in net.named_parameters()}
    found = [names.pop(id(p)) for layer in finetune.layers(net) for p in layer]
    assert not names and found[0] == "blocks.token" and found[-2:] == ["head.weight", "head.bias"]


def test_rates_fall_from_layer_to_layer_and_statistics_stay():
    net, config = small(), finetune.Config(lr=0.01, layer_decay=0.5)
    finetune.set_head(net, linear.Linear(np.zeros((3, net.width)), np.zeros(3), "", 1.0))
    optimizers = finetune.make_optimizers(net, config)
    assert sum(p.size for o in optimizers.values() for g in o.param_groups for p in g["params"]) == sum(p.size for p in net.parameters())
    count = len(finetune.layers(net))
    assert optimizers[f"kernels {count - 1}"].lr == 0.01 and optimizers["kernels 0"].lr == pytest.approx(0.01 * 0.5**(count - 1))
    method = finetune.FineTune(config, net)
    before = {name: a.copy() for name, a in net.named_buffers()}
    rng = np.random.default_rng(0)
    batches = finetune.Batches(rng.normal(size=(8, 3, 8, 8)).astype(np.float32), np.arange(8) % 3, config, 0)
    for step in range(3):
        loss, _ = method.loss(batches.sample(), step)
        loss.backward()
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
    assert all((a == before[name]).all() for name, a in net.named_buffers())
    tuned = net.state_dict()
    for alpha, expected in ((0.0, method.frozen), (1.0, tuned)):
        config.alpha = alpha
        for name, a in finetune.Between(method).state_dict().items():
            np.testing.assert_allclose(a, expected[name], rtol=1e-6, atol=1e-7)
    assert any((tuned[name] != method.frozen[name]).any() for name in tuned)


def test_the_loss_the_rates_and_the_decay_of_fine_tuning():
    config, rng = finetune.Config(lr=0.01, decay=0.3, smoothing=0.2), np.random.default_rng(0)
    net = small()
    finetune.set_head(net, linear.Linear(rng.normal(size=(4, net.width)), rng.normal(size=4), "", 1.0))
    method = finetune.FineTune(config, net)
    x, y = rng.normal(size=(6, 3, 8, 8)).astype(np.float32), np.arange(6) % 4
    logits = net.eval()(x).numpy().astype(float)
    logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    wanted = -(0.8 * logp[np.arange(6), y] + 0.2 * logp.mean(1)).mean()
    loss, numbers = method.loss((x, y), 0)
    assert float(loss) == pytest.approx(wanted, rel=1e-4) and numbers["accuracy"] == (logits.argmax(1) == y).mean()
    rates = [method.schedule(step, 40) for step in range(40)]
    np.testing.assert_allclose(rates[:4], np.arange(1, 5) / 4)
    np.testing.assert_allclose(rates[4:], (1 + np.cos(np.pi * np.arange(36) / 36)) / 2)
    for name, optimizer in finetune.make_optimizers(net, config).items():
        assert {p.ndim > 1 for p in optimizer.params} == {name.startswith("kernels")}
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3 if name.startswith("kernels") else 0]


@pytest.mark.parametrize("channels, std", [(1, (0.2,)), (3, (0.2, 0.3, 0.25))])
def test_coloured_pictures_alone_are_mirrored_unless_said_otherwise(channels, std):
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.integers(0, 256, (6, 1, 12, 12)), channels, 1).astype(np.uint8)
    colours = rng.integers(0, 256, grey.shape).astype(np.uint8)
    inputs = nn.Preprocessing(12, mean=(0.5, 0.4, 0.3)[:channels], std=std, crop=1.0)
    for pictures_, is_coloured in ((grey, False), (colours, channels == 3), (np.zeros_like(grey), False), (grey[:0], False)):
        x = inputs(pictures_)
        for mirror, wanted in (("auto", is_coloured), ("yes", True), ("no", False)):
            batches = finetune.Batches(x, np.arange(len(x)), finetune.Config(batch=6, shift=0, mirror=mirror), 0)
            found = [batches.sample() for _ in range(3)]
            changed = any((a != x[y]).any() for a, y in found)
            assert changed == (wanted and bool(np.ptp(pictures_, -1).max(initial=0)))


@pytest.mark.parametrize("side, pixels", [(4, 0), (8, 1), (28, 2), (32, 2), (64, 4), (224, 16)])
def test_pictures_are_shifted_by_a_part_of_their_side(side, pixels):
    x = np.zeros((40, 1, side, side), np.float32)
    x[:, :, 0, 0] = 1  # goes out of the picture, or to the place that says how far it went
    batches = finetune.Batches(x, np.arange(40), finetune.Config(batch=40, mirror="no"), 0)
    places = np.argwhere(np.concatenate([batches.sample()[0] for _ in range(3)]))[:, 2:]
    assert 0.8 * pixels <= places.max() <= pixels and len(places) > 20


# -- the examples ------------------------------------------------------------------------------------------------------

def test_transfer_from_a_file_to_a_folder_of_pictures(folder, encoder_file, tmp_path, capsys, monkeypatch):
    pytest.importorskip("tyro")
    from examples import predict, transfer
    run = transfer.Run(data=folder, encoder=str(encoder_file), per_class=4, baselines=False, out=str(tmp_path / "run"))
    found = transfer.main(run)
    assert set(found) == set(linear.PROBES) and max(found.values()) > 0.6
    with monkeypatch.context() as patched:
        patched.setattr(transfer, "MOST_FOR_SVM", 5)
        assert set(transfer.main(dataclasses.replace(run, out=str(tmp_path / "other")))) == set(linear.PROBES) - {"svm"}
    assert "learning from 12 labels, 4 of each class (--per-class 0: from all)" in capsys.readouterr().out
    transfer.main(dataclasses.replace(run, per_class=-1, out=str(tmp_path / "most")))
    assert "learning from 24 labels, 8 of each class" in capsys.readouterr().out  # there are no ten of each
    files = sorted(p.name for p in (tmp_path / "run").iterdir())
    assert files == [".minigrad-run", "checkpoint.safetensors", "config.json", "confusion.csv", "mistakes.csv", "predictions.csv"]
    classes = {kind for _, kind, _ in predict.main(predict.Run(str(tmp_path / "run"), (folder,)))}
    assert classes <= {"红", "green", "blue"}
    with pytest.raises(FileExistsError, match="--resume"):
        transfer.main(run)
    assert transfer.main(dataclasses.replace(run, resume=True)) == found
    for changes in (dict(per_class=3), dict(finetune=True)):
        with pytest.raises(RunError, match=f"made with other settings: {next(iter(changes))}"):
            transfer.main(dataclasses.replace(run, resume=True, **changes))


def test_transfer_reads_the_quarters_of_maps(folder, tmp_path, capsys, monkeypatch):
    pytest.importorskip("tyro")
    from examples import transfer
    mg.random.seed(0)
    encoder = networks.SmallConv(3, 0, widths=(4, 6)).eval()
    input = nn.Preprocessing(16, "bilinear", (0.0,) * 3, (1.0,) * 3, 1.0)
    monkeypatch.setattr(transfer, "load_encoder", lambda run: (encoder, input))
    run = transfer.Run(data=folder, per_class=4, baselines=False, quarters=True, out=str(tmp_path / "run"))
    assert transfer.main(run)["svm, quarters"] > 0.5
    assert "46 numbers a picture" in capsys.readouterr().out  # 4 of each of 10 maps, and the 6 features
    transfer.main(dataclasses.replace(run, per_class=1, out=str(tmp_path / "one")))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("svm, quarters")]
    assert "none could be left out" in line and "nan" not in line
    monkeypatch.setattr(transfer, "MOST_FOR_SVM", 5)
    assert "svm, quarters" not in transfer.main(dataclasses.replace(run, out=str(tmp_path / "other")))


def test_finetuning_resumes_and_keeps_both_weights(folder, encoder_file, tmp_path):
    pytest.importorskip("tyro")
    from examples import transfer
    run = transfer.Run(data=folder, encoder=str(encoder_file), per_class=4, baselines=False, finetune=True, steps=4, batch=4,
                       shift=0.05, out=str(tmp_path / "a"))
    found = transfer.main(run)
    assert {"LP-FT", "LP-FT + WiSE-FT"} < set(found)
    half = dataclasses.replace(run, steps=2, out=str(tmp_path / "b"))
    transfer.main(half)
    transfer.main(dataclasses.replace(half, steps=4, resume=True))
    net = load_classifier(tmp_path / "b" / "checkpoint.safetensors").net
    assert net.head.weight.shape == (3, 64)


@pytest.mark.parametrize("changes, words", [
    (dict(encoder="missing.pth"), "--encoder missing.pth: no encoder at"), (dict(data="nowhere"), "--data nowhere: no image folder"),
    (dict(per_class=40), "40 labels of each class are asked for"), (dict(image_size=17), "--encoder"),
    (dict(quarters=True), "--quarters: VisionTransformer makes no maps")])
def test_what_cannot_be_is_one_line_before_anything_is_written(folder, encoder_file, tmp_path, changes, words):
    pytest.importorskip("tyro")
    from examples import transfer
    run = transfer.Run(data=folder, encoder=str(encoder_file), out=str(tmp_path / "run"))
    with pytest.raises(SystemExit) as error:
        transfer.main(dataclasses.replace(run, **changes))
    assert words in str(error.value) and "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_compare_and_resume(folder, encoder_file, tmp_path):
    pytest.importorskip("tyro")
    from examples import compare_transfer
    run = compare_transfer.Run(data=folder, encoder=str(encoder_file), per_class=(1, 3), draws=2, out=str(tmp_path / "c"),
                               only=("prototypes", "ridge", "pixels"))
    found = compare_transfer.main(run)
    assert set(found) == {(name, n) for name in run.only for n in (1, 3)} and all(len(v) == 2 for v in found.values())
    assert compare_transfer.main(dataclasses.replace(run, resume=True)) == found
    assert (tmp_path / "c" / "accuracies.png").exists() and "ridge" in (tmp_path / "c" / "table.txt").read_text()


@pytest.mark.parametrize("broken", ["a", "train/a", "test/a", "unlabelled"])
def test_a_class_of_which_nothing_is_a_picture_is_refused(tmp_path, broken):
    parts = ("train/", "test/") if "/" in broken else ("",)
    for name in [*(f"{part}{kind}/{i}.png" for part in parts for kind in "abc" for i in range(3)), "unlabelled/u.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if name.startswith(f"{broken}/"):
            (tmp_path / name).write_bytes(b"no picture")
        else:
            Image.new("L", (8, 8), len(name) + 9 * int(name[-5]) if name[-5].isdigit() else 3).save(tmp_path / name)
    if broken == "unlabelled":
        found = pictures.load(str(tmp_path))
        assert len(found.classes) == 3 and not len(found.unlabelled) and "unlabelled/u.png (it is no picture)" in found.description
        return
    with pytest.raises(SystemExit, match=f"no picture can be read in {broken}; skipped 3 files: {broken}/0.png"):
        pictures.load(str(tmp_path))


def test_broken_pictures_that_leave_too_few_labels_are_one_line(folder, encoder_file, tmp_path):
    pytest.importorskip("tyro")
    from examples import compare_transfer
    run = compare_transfer.Run(data=folder, encoder=str(encoder_file), per_class=(1, 8), draws=1, only=("prototypes",),
                               out=str(tmp_path / "c"))
    for name in os.listdir(os.path.join(folder, "green")):
        if name != "3.png":
            cut_short(folder, f"green/{name}")
    with pytest.raises(SystemExit, match="no picture to train on can be read of green"):
        compare_transfer.main(run)


def test_a_data_set_of_floats(encoder_file, tmp_path, capsys):
    pytest.importorskip("tyro")
    from examples import transfer
    run = transfer.Run(data="digits", encoder=str(encoder_file), per_class=1, test_images=50, out=str(tmp_path / "run"))
    assert set(transfer.main(run)) > set(linear.PROBES)
    assert "nan" not in capsys.readouterr().out
    assert pictures.load("digits").pictures.max() == 255


def test_a_method_whose_library_is_missing_is_left_out(folder, encoder_file, tmp_path, monkeypatch, capsys):
    pytest.importorskip("tyro")
    from examples import compare_transfer

    def missing(images):
        raise ImportError("No module named 'skimage'")

    monkeypatch.setattr(compare_transfer.baselines, "gradient_histograms", missing)
    run = compare_transfer.Run(data=folder, encoder=str(encoder_file), per_class=(2,), draws=1, out=str(tmp_path / "c"),
                               only=("HOG, SVM", "prototypes"))
    assert set(compare_transfer.main(run)) == {("prototypes", 2)}
    assert "No module named 'skimage'" in capsys.readouterr().err

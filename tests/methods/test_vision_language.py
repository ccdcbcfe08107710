"""CLIP and what is compared with it: equations in plain NumPy, what is learned, what is kept, what is refused."""
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

pytest.importorskip("tokenizers")

import minigrad as mg  # noqa: E402
from checks import named  # noqa: E402
from methods.training.classifier import Architecture  # noqa: E402
from methods.transfer import tip_adapter  # noqa: E402
from methods.vision_language import bag_of_words, base, caption_prediction, clip, few_labels, pictures, retrieval  # noqa: E402
from methods.vision_language import TASKS, zero_shot  # noqa: E402
from minigrad import data, nn  # noqa: E402

rng = np.random.default_rng(0)
CAPTIONS = ["a red cat", "the blue dog sleeps", "one green bird", "a red dog", "a cat"]
PLAIN = nn.Preprocessing(8, "bilinear", (0.0,) * 3, (1.0,) * 3, 1.0)


@pytest.fixture(scope="module")
def vocabulary():
    return data.BytePairs.train(CAPTIONS, 560)


def config(module, **changes):
    small = dict(vocabulary=560, length=12, text_width=16, text_layers=2, text_heads=2, dropout=0.0)
    return module.Config(**{**small, **changes})


def network(task, vocabulary, **changes):
    """A small network of a task for pictures of 8 x 8, in float64."""
    mg.random.seed(0)
    module = TASKS[task]
    image = Architecture("methods.training.networks.SmallConv", in_channels=3, num_classes=0, widths=[4, 6, 8], small=True)
    net = module.network(config(module, **changes), image, vocabulary).build()
    module.start(net)
    return net.to("float64").eval()


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def log_softmax(x, axis=1):
    x = x - x.max(axis, keepdims=True)
    return x - np.log(np.exp(x).sum(axis, keepdims=True))


# -- equations ---------------------------------------------------------------------------------------------------------

@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=7), st.floats(-1, 4.6), st.integers(0, 99))
def test_the_contrastive_loss(keys, s, seed):
    rng, keys, n = np.random.default_rng(seed), np.array(keys), len(keys)
    images, texts = unit(rng.normal(size=(n, 5))), unit(rng.normal(size=(n, 5)))
    expected = 0
    for a, b in ((images, texts), (texts, images)):
        for i in range(n):
            others = [j for j in range(n) if j == i or keys[j] != keys[i]]
            logits = np.exp(s) * b[others] @ a[i]
            expected -= (logits[others.index(i)] - logits.max() - np.log(np.exp(logits - logits.max()).sum())) / (2 * n)
    found = clip.loss(mg.Tensor(images), mg.Tensor(texts), mg.Tensor(np.array(s)), keys)
    assert float(found) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_at_random_the_contrastive_loss_is_log_n_and_with_equal_captions_nothing_is_learned():
    images, texts = (mg.Tensor(unit(rng.normal(size=(64, 512)))) for _ in range(2))
    assert float(clip.loss(images, texts, mg.Tensor(np.array(0.0)), np.arange(64))) == pytest.approx(np.log(64), abs=0.02)
    assert float(clip.loss(images, texts, mg.Tensor(np.array(0.0)), np.zeros(64))) == 0


def test_captions_that_stand_twice_in_a_batch_are_read_once(vocabulary):
    net = network("contrastive", vocabulary).to("float32")
    features, ids = rng.normal(size=(6, 8)).astype(np.float32), vocabulary.encode(CAPTIONS[:3], 12)[[2, 0, 1, 0, 2, 2]]
    keys = np.array([2, 0, 1, 0, 2, 2])
    found, _ = clip.Contrastive(config(clip), net, PLAIN, None).loss(base.Batch(features, ids, keys), 0)
    wanted = clip.loss(net.embed_images(mg.Tensor(features)), net.embed_texts(ids), net.s, keys)
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)


def test_the_same_caption_of_different_ones_is_no_negative(vocabulary):
    """Two cats that differ in what else is said of them, both drawn as `a cat`."""
    net = network("contrastive", vocabulary).to("float32")
    features, ids = rng.normal(size=(3, 8)).astype(np.float32), vocabulary.encode(CAPTIONS[:2], 12)[[0, 1, 0]]
    found, _ = clip.Contrastive(config(clip), net, PLAIN, None).loss(base.Batch(features, ids, np.arange(3)), 0)
    wanted = clip.loss(net.embed_images(mg.Tensor(features)), net.embed_texts(ids), net.s, np.array([0, 1, 0]))
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)


def test_of_no_texts_there_are_no_embeddings(vocabulary):
    assert retrieval.text_embeddings(network("contrastive", vocabulary), vocabulary, []).shape[0] == 0


def test_embeddings_have_length_one_and_logits_their_factor(vocabulary):
    net, x, ids = network("contrastive", vocabulary), rng.random((3, 3, 8, 8)), vocabulary.encode(CAPTIONS, 12)
    images = unit(net.image.features(x).numpy() @ net.image.head.weight.numpy().T)
    texts = unit(net.text.features(ids).numpy() @ net.text.head.weight.numpy().T)
    np.testing.assert_allclose(net(x, ids).numpy(), images @ texts.T / 0.07, rtol=1e-6)
    assert net.image.head.bias is None and net.text.head.bias is None and net.s.ndim == 0


def test_the_factor_stays_at_100_and_does_not_decay(vocabulary):
    from methods.training import optimizers
    net = network("contrastive", vocabulary)
    method = clip.Contrastive(config(clip), net, PLAIN, None)
    net.s.data[...] = 7
    method.after_step(0)
    assert np.exp(float(net.s)) == pytest.approx(100)
    groups = optimizers.make(net.parameters(), "adam", 1e-3, 0.2)
    assert any(p is net.s for p in groups["rest"].params) and not any(p is net.s for p in groups["kernels"].params)


def test_the_captions_likelihood_word_by_word(vocabulary):
    net, features = network("caption", vocabulary), rng.normal(size=(5, 8))
    ids = vocabulary.encode(CAPTIONS, 12)
    found, rows = net.log_likelihoods(mg.Tensor(features), ids)
    expected = []
    for row, one in zip(ids, features):  # each prefix by itself, so that nothing after it can be seen
        words = row[1:row.tolist().index(vocabulary.end) + 1]
        first = (one @ net.image.head.weight.numpy().T)[None, None]
        for j, word in enumerate(words):
            x = np.concatenate([first, net.text.embed(words[None, :j].astype(int)).numpy()], 1)
            logits = net.text.encode(mg.Tensor(x)).numpy()[0, -1] @ net.text.token.weight.numpy().T
            expected.append(log_softmax(logits[None])[0, word])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    assert np.bincount(rows).sum() == len(expected)
    method = caption_prediction.CaptionPrediction(config(caption_prediction), net, PLAIN, None)
    loss, _ = method.loss(base.Batch(features.astype(np.float32), ids, np.arange(5)), 0)
    assert float(loss) == pytest.approx(-np.mean(expected), rel=1e-5)
    scores = net.classifier([ids[:2], ids[3:4]])(mg.Tensor(features)).numpy()
    means = [net.log_likelihoods(mg.Tensor(features[:1]), ids[i:i + 1])[0].numpy().mean() for i in (0, 1, 3)]
    np.testing.assert_allclose(scores[0], [np.mean(means[:2]), means[2]], rtol=1e-6)


def test_the_bag_of_words(vocabulary):
    net, features = network("bag_of_words", vocabulary), rng.normal(size=(2, 8))
    ids = vocabulary.encode(["the red red cat, and a dog", "the a"], 12)
    shares = net.shares(ids)
    count = {word: int(vocabulary.encode([word], 4)[0, 1]) for word in ("red", "cat", "dog", "a", "the")}
    kept = [i for i in ids[0] if i not in net.stop]
    assert shares[0, count["red"]] == pytest.approx(2 / len(kept)) and shares[0, count["dog"]] > 0
    assert shares[0, count["a"]] == shares[0, vocabulary.end] == 0 and shares[0].sum() == pytest.approx(1)
    assert not shares[1].any()
    logp = log_softmax(features @ net.image.head.weight.numpy().T + net.image.head.bias.numpy())
    method = bag_of_words.BagOfWordsPrediction(config(bag_of_words), net, PLAIN, None)
    loss, _ = method.loss(base.Batch(features.astype(np.float32), ids, np.arange(2)), 0)
    assert float(loss) == pytest.approx(-(shares * logp).sum(1).mean(), rel=1e-5)
    scores = net.classifier([ids[:1], ids])(mg.Tensor(features)).numpy()
    np.testing.assert_allclose(scores, logp @ np.stack([shares[0], shares.mean(0)]).T, rtol=1e-5)


def test_class_weights_are_normalised_before_and_after_the_mean(vocabulary):
    net = network("contrastive", vocabulary)
    names, templates = ("cat", "dog"), ("a {}", "the {} sleeps", "{}")
    ids = zero_shot.prompts(vocabulary, names, templates, net.length)
    expected = []
    for name in names:
        texts = [net.text(vocabulary.encode([t.replace("{}", name)], 12)).numpy() for t in templates]
        expected.append(unit(np.concatenate([unit(t) for t in texts]).mean(0, keepdims=True))[0])
    np.testing.assert_allclose(net.class_weights(ids), expected, rtol=1e-6)
    features = rng.normal(size=(4, 8))
    scores = zero_shot.ZeroShot(net.to("float32"), vocabulary, names, templates).scores(features)
    images = unit(features @ net.image.head.weight.numpy().T)
    np.testing.assert_allclose(scores, images @ np.array(expected).T / 0.07, rtol=1e-3, atol=1e-4)


def test_accuracies_count_ties_as_wrong():
    scores = np.array([[3, 2, 1], [1, 1, 1], [0, 2, 1], [5, 0, 9]])
    found = zero_shot.accuracy(scores, np.array([0, 0, 2, 2]), 2)
    assert (found.first, found.among, found.class_mean, found.class_mean_among) == (0.5, 0.75, 0.5, 0.75)
    assert zero_shot.accuracy(scores, np.array([0, 0, 2, 2]), 5).k == 3


def test_recall_by_hand():
    found = np.eye(4)
    queries = np.array([[1, 0, 0, 0], [0.9, 0.8, 0, 0], [1, 1, 0.5, 0], [1, 1, 1, 1]], float)
    assert [retrieval.recall(queries, found, k) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]
    assert retrieval.recall(queries, found, 1, np.array([0, 0, 0, 3])) == 0.75  # of equals each is a partner


def test_scores_that_are_nan_are_wrong():
    scores, labels = np.array([[np.nan] * 3, [2, np.nan, 1], [3, 2, 1], [np.nan, 2, 1]]), np.array([0, 0, 0, 0])
    found = zero_shot.accuracy(scores, labels, 2)
    assert (found.first, found.among) == (0.25, 0.5)  # one NaN stands before the right class
    queries = np.eye(4)
    queries[:3] = np.nan
    assert [retrieval.recall(queries, np.eye(4), k) for k in (1, 3)] == [0.25, 0.25]


def test_tip_adapter_by_its_equation():
    images, weights, known = (unit(rng.normal(size=(n, 6))) for n in (5, 3, 4))
    labels, expected = np.array([0, 1, 2, 1]), np.zeros((5, 3))
    found = few_labels.tip_adapter(weights, known, labels, 30.0)
    for i in range(5):
        for c in range(3):
            expected[i, c] = 30 * images[i] @ weights[c] + found.alpha * sum(
                np.exp(-found.beta * (1 - images[i] @ known[j])) for j in range(4) if labels[j] == c)
    np.testing.assert_allclose(found.scores(images), expected)


def test_tip_adapter_of_single_labels_does_not_ignore_them():
    centres = unit(rng.normal(size=(8, 16)))
    weights, test = unit(centres + rng.normal(size=centres.shape)), unit(np.repeat(centres, 20, 0) + 0.1 * rng.normal(size=(160, 16)))
    one = unit(centres + 0.1 * rng.normal(size=centres.shape))
    found = few_labels.tip_adapter(weights, one, np.arange(8), 10.0)
    assert (found.alpha, found.beta) == few_labels.PAPERS
    right = lambda scores: (scores.argmax(1) == np.repeat(np.arange(8), 20)).mean()
    assert right(found.scores(test)) > right(test @ weights.T)
    more = np.concatenate([one, unit(centres[1:] + 0.1 * rng.normal(size=(7, 16)))])  # one class keeps a single label
    labels = np.concatenate([np.arange(8), np.arange(1, 8)])
    assert few_labels.tip_adapter(weights, more, labels, 10.0).alpha == few_labels.tip_adapter(
        weights[1:], more[labels > 0], labels[labels > 0] - 1, 10.0).alpha > 0


def test_tip_adapter_trusts_labels_where_names_are_wrong():
    centres = np.eye(3, 6)
    known = unit(np.repeat(centres, 5, 0) + 0.1 * rng.normal(size=(15, 6)))
    labels = np.arange(3).repeat(5)
    found = few_labels.tip_adapter(np.roll(centres, 1, 0), known, labels, 5.0)
    assert found.alpha == max(tip_adapter.ALPHAS)
    np.testing.assert_array_equal(found.scores(known).argmax(1), labels)
    one_each = few_labels.tip_adapter(centres, known[::5], np.arange(3), 5.0)
    assert (one_each.alpha, one_each.beta) == few_labels.PAPERS  # of what is left out nothing is near


def test_a_named_network_says_what_the_zero_shot_classifier_says(vocabulary):
    net = network("contrastive", vocabulary).to("float32")
    weights = net.class_weights(zero_shot.prompts(vocabulary, ("cat", "dog"), ("a {}",), net.length))
    x = rng.random((3, 3, 8, 8), np.float32)
    found = few_labels.named(net, weights).eval()(x)
    wanted = np.exp(float(net.s)) * net.embed_images(net.image.features(x)).numpy() @ weights.T
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_the_towers_begin_as_clips_do(vocabulary):
    net = network("contrastive", vocabulary, text_width=64, text_layers=3, dim=96)
    w, ends = 64**-0.5, 6**-0.5  # what ends a branch begins the smaller, the more branches there are
    wanted = {net.text.token.weight: 0.02, net.text.position.weight: 0.01, net.text.head.weight: w,
              net.image.head.weight: net.image.width**-0.5}
    for block in net.text.blocks:
        wanted |= {block.attn.qkv.weight: w, block.attn.proj.weight: w * ends, block.mlp.fc1.weight: w * 0.5**0.5,
                   block.mlp.fc2.weight: w * ends}
        assert not any(layer.bias.numpy().any() for layer in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2))
    for weight, deviation in wanted.items():
        assert weight.numpy().std() == pytest.approx(deviation, rel=0.12) and abs(weight.numpy().mean()) < deviation / 5
    assert float(net.s) == pytest.approx(np.log(1 / 0.07), rel=1e-6)


def test_rates_rise_in_the_warmup_and_fall_to_nothing(vocabulary):
    method = clip.Contrastive(config(clip, warmup=0.2), network("contrastive", vocabulary), PLAIN, None)
    rates = [method.schedule(step, 50) for step in range(50)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    np.testing.assert_allclose(rates[10:], (1 + np.cos(np.pi * np.arange(40) / 40)) / 2)


# -- batches -----------------------------------------------------------------------------------------------------------

def coloured(n=60):
    images, labels = data.load_digits()
    return data.coloured_digits(images[:n], labels[:n])


def test_batches_resume_and_keep_captions_with_their_pictures(vocabulary):
    found = coloured()
    batches = base.Batches(found.pictures, found, vocabulary, 16, 12, 0)
    batches.sample()
    state = batches.state_dict()
    first = batches.sample()
    again = base.Batches(found.pictures, found, vocabulary, 16, 12, 5)
    again.load_state_dict(state)
    second = again.sample()
    assert all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("x", "ids", "keys"))
    assert first.x.shape == (16, 3, 8, 8) and first.x.dtype == np.float32 and first.x.max() <= 1
    batch = base.Batches(found.pictures, found, vocabulary, 100, 60, 0, least=1.0).sample()
    assert len(batch.keys) == 60
    for x, ids, key in zip(batch.x, batch.ids, batch.keys):
        i = next(i for i in range(60) if np.allclose(found.pictures[i] / 255, x))
        assert vocabulary.decode(ids) in found.texts[i] and key == found.keys()[i]


def test_pictures_are_cropped_to_squares_and_nothing_else_is_done_to_them(vocabulary):
    found = coloured()
    view = base.Batches(found.pictures, found, vocabulary, 16, 12, 0, 0.6).view
    assert (view.size, view.crop, view.ratio) == (8, (0.6, 1.0), (1.0, 1.0))
    assert (view.flip, view.jitter_p, view.greyscale, view.blur, view.solarize) == (0,) * 5


def test_the_image_tower_gets_what_its_preprocessing_says(vocabulary):
    net, x = network("contrastive", vocabulary).to("float32"), rng.random((6, 3, 8, 8), np.float32)
    inputs = nn.Preprocessing(8, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 1.0)
    column = (1, 3, 1, 1)
    wanted = net.image.features((x - np.reshape(inputs.mean, column).astype(np.float32)) /
                                np.reshape(inputs.std, column).astype(np.float32)).numpy()
    method = clip.Contrastive(config(clip), net, inputs, None)
    batch = base.Batch(x, np.zeros((6, 2), int), np.arange(6))
    np.testing.assert_allclose(method.features(method.inputs(batch)).numpy(), wanted, rtol=1e-4, atol=1e-5)
    net.train()  # what is kept of the features is of evaluation mode
    np.testing.assert_allclose(zero_shot.image_features(net.image, x, inputs, 4), wanted, rtol=1e-4, atol=1e-5)
    assert net.image.training and not np.allclose(method.features(method.inputs(batch)).numpy(), wanted, rtol=1e-2)


def test_features_are_dropped_in_training_alone(vocabulary):
    net, x = network("contrastive", vocabulary).to("float32"), np.ones((200, 8), np.float32)
    batch = base.Batch(x, np.zeros((200, 2), int), np.arange(200))
    method = clip.Contrastive(config(clip, dropout=0.75), net, PLAIN, None)
    dropped = method.features(method.inputs(batch)).numpy()
    assert set(np.unique(dropped)) == {0, 4} and 0.2 < (dropped > 0).mean() < 0.3
    np.testing.assert_array_equal(zero_shot.image_features(net.image, x), x)


def test_the_mean_and_deviation_of_the_preprocessing_are_taken_once():
    x = rng.random((2, 3, 4, 4), np.float32)
    want = nn.Preprocessing(4, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 1.0)
    pixels = np.rint(x * 255).astype(np.uint8)
    np.testing.assert_allclose(base.normalised(pixels / np.float32(255), want), want(pixels), rtol=1e-5, atol=1e-6)
    assert base.normalised(x, PLAIN) is x


# -- sources -----------------------------------------------------------------------------------------------------------

def test_pictures_of_classes_that_are_never_seen():
    task = pictures.load("digits", 300)
    hidden = set(task.unseen)
    assert len(hidden) == 16 and not hidden & set(task.train.labels) and hidden <= set(task.test.labels)
    assert {task.classes[k].split()[1] for k in hidden} == set(data.captions.DIGITS) and len({
        task.classes[k].split()[0] for k in hidden}) == 8  # each digit and each colour is seen with others
    assert not set(task.train.names) & set(task.test.names)
    with pytest.raises(SystemExit, match="--data digits: --unseen: there is no class zebra"):
        pictures.load("digits", 300, unseen=("zebra",))
    with pytest.raises(SystemExit, match="no pictures with captions at"):
        pictures.load("nowhere", 300)


@pytest.mark.parametrize("groups", [False, True])
def test_where_no_classes_are_known_that_is_said(tmp_path, monkeypatch, groups):
    pytest.importorskip("emoji")
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path))
    monkeypatch.setattr(data.emoji, "GROUPS", "groups.txt")  # a machine may have Unicode's file
    for code in ("1f600", "1f408", "1f415", "1f3c4"):
        (tmp_path / "noto-emoji").mkdir(exist_ok=True)
        (tmp_path / "noto-emoji" / f"emoji_u{code}.png").write_bytes(b"no picture is read here")
    if groups:
        (tmp_path / "groups.txt").write_text("# subgroup: face\n1F600 ;\n# subgroup: animal\n1F408 ;\n1F415 ;\n")
    said = pictures.load("emoji", 2).description
    assert ("2 classes: animal, face" in said) == groups != ("no classes are known" in said and "emoji-test.txt" in said)


@pytest.mark.parametrize("names, templates, said", [
    (("cat",), ("{}",), "two or more classes"), (("cat", "cat"), ("{}",), "each once"), ((), ("{}",), "not none"),
    (("cat", " "), ("{}",), "with a name"), (("cat", "dog"), (), "no template"), (("cat", "dog"), ("a {}", "a cat"), "unlike 'a cat'")], ids=named)
def test_prompts_that_make_no_classifier(vocabulary, names, templates, said):
    with pytest.raises(ValueError, match=said):
        zero_shot.prompts(vocabulary, names, templates, 12)


@pytest.mark.parametrize("names, same", [
    (("Cat", "dog", "cat", "CAT"), [("Cat", "cat"), ("Cat", "CAT")]),
    (("dog " * 20 + "red", "dog " * 20), [("dog " * 20 + "red", "dog " * 20)]),
    (("cat", "dog"), [])], ids=("case", "cut off", "none"))
def test_names_that_are_the_same_to_a_network_are_said(vocabulary, names, same):
    found = zero_shot.ZeroShot(network("contrastive", vocabulary), vocabulary, names, ("a {}", "{}")).same
    assert found == same


def test_every_setting_of_the_tasks_has_limits():
    for module in TASKS.values():
        for field in dataclasses.fields(module.Config):
            assert "limits" in field.metadata, (module, field.name)

"""BERT's two tasks: what is hidden, what follows, the loss against plain NumPy, files, a run and its resumption."""
import dataclasses
import json
import math
import types

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import minigrad as mg
from methods.self_supervised import bert, bert_evaluation, bert_files, bert_sequences
from methods.training import optimizers
from methods.training.loop import train
from methods.training.run import RunFolder
from methods.training.settings import RunSettings
from minigrad import io, nn, optim
from minigrad.data import WordPiece

WORDS = 60
VOCABULARY = types.SimpleNamespace(pad=0, unknown=1, cls=2, sep=3, mask=4, ordinary=np.arange(5, WORDS),
                                   tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(5, WORDS))])


@dataclasses.dataclass
class Run(RunSettings, bert.Config):
    batch: int = 8


def corpus(rng, count=40, longest=9):
    """Documents in which the first word of each sentence names the document, and the second the sentence's kind."""
    documents, kinds = [], []
    for d in range(count):
        kinds.append([int(k) for k in rng.integers(0, 2, rng.integers(1, 5))])
        documents.append([np.array([5 + d, 50 + k, *rng.integers(5, WORDS, rng.integers(1, longest))], np.int32)
                          for k in kinds[-1]])
    return documents, kinds


def small(dropout=0.0):
    mg.random.seed(0)
    return bert.PretrainingBERT(nn.BERT(WORDS, 16, 2, 2, 32, 64, dropout=dropout))


def sequences(seed=0, **settings):
    return bert_sequences.Sequences(*corpus(np.random.default_rng(0)), VOCABULARY, Run(**settings), seed)


# -- what is hidden --------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(0, 40), st.floats(0.01, 1))
@settings(max_examples=60, deadline=None)
def test_the_count_of_hidden_words_and_never_a_special_token(seed, a, b, share):
    rng = np.random.default_rng(seed)
    first, second = (rng.choice([1, *range(5, WORDS)], n) for n in (a, b))
    x, s = bert_sequences.joined(first, second if b else None, VOCABULARY, 128)
    assert x[0] == VOCABULARY.cls and x[-1] == VOCABULARY.sep and (x == VOCABULARY.sep).sum() == 1 + bool(b)
    np.testing.assert_array_equal(s, [0] * (a + 2) + ([1] * (b + 1) if b else []))
    changed, places = bert_sequences.hidden(x, VOCABULARY, bert.Config(share=share), rng)
    words = np.flatnonzero((x > 3))
    assert len(places) == len(set(places)) == min(max(1, round(share * len(x))), len(words))
    assert set(places) <= set(words)
    rest = np.setdiff1d(np.arange(len(x)), places)
    np.testing.assert_array_equal(changed[rest], x[rest])
    assert not np.isin(changed[places], [0, 1, 2, 3]).any()


def test_shares_of_masked_changed_and_kept_words():
    rng, config = np.random.default_rng(0), bert.Config()
    x, _ = bert_sequences.joined(rng.integers(5, WORDS, 200), None, VOCABULARY, 300)
    counts, hidden = np.zeros(3), 0
    for _ in range(1000):
        changed, places = bert_sequences.hidden(x, VOCABULARY, config, rng)
        masked, kept = (changed[places] == VOCABULARY.mask).sum(), (changed[places] == x[places]).sum()
        counts += masked, len(places) - masked - kept, kept
        hidden += len(places)
    assert hidden == 1000 * round(0.15 * len(x))
    unlucky = 0.1 / len(VOCABULARY.ordinary)  # a random word that is the old one
    np.testing.assert_allclose(counts / hidden, [0.8, 0.1 - unlucky, 0.1 + unlucky], atol=0.008)


@given(st.integers(1, 80), st.integers(0, 80), st.integers(8, 64))
@settings(max_examples=80, deadline=None)
def test_what_is_too_long_is_cut_and_both_sentences_stay(a, b, length):
    x, s = bert_sequences.joined(np.full(a, 7), np.full(b, 8) if b else None, VOCABULARY, length)
    kept = (x == 7).sum(), (x == 8).sum()
    assert len(x) == len(s) <= length and len(x) == min(length, a + b + (3 if b else 2))
    assert kept[0] >= 1 and (kept[1] >= 1 or not b)
    if len(x) == length and b:
        assert kept == (a, length - 3 - a) or kept == (length - 3 - b, b) or abs(kept[0] - kept[1]) <= 1


# -- what follows ----------------------------------------------------------------------------------------------------


def test_half_of_the_sentences_are_of_another_document_and_look_alike():
    s, seen = sequences(alone=True), []
    assert {d for d, _ in s.first} == set(range(len(s.documents)))
    assert sequences().first == [(d, i) for d, i in s.first if len(s.documents[d]) > 1]
    assert sequences(next_sentence=False).first == s.first
    for d, i in s.first:
        for _ in range(30):
            x, segments, y = s.sequence(d, i)
            if len(s.documents[d]) == 1:
                assert y == bert.NO_LABEL and not segments.any()
            elif y != bert.NO_LABEL:
                b = x[segments == 1]
                assert (b[0] == 5 + d) == (y == 0)
                assert b[1] == s.documents[d][i + 1][1]  # of the true one's kind
                seen.append(y)
    assert len(seen) > 1000 and abs(np.mean(seen) - 0.5) < 0.05


def test_a_kind_that_one_document_has_alone_gets_no_label():
    documents = [[np.array([5, 6]), np.array([7])], [np.array([8]), np.array([9])], [np.array([10]), np.array([11])]]
    s = bert_sequences.Sequences(documents, [[0, 1], [0, 0], [0, 0]], VOCABULARY, Run(), 0)
    assert {s.sequence(0, 0)[2] for _ in range(20)} == {bert.NO_LABEL}
    assert {s.sequence(1, 0)[2] for _ in range(40)} == {0, 1}
    without = bert_sequences.Sequences(documents, [[0, 0]] * 3, VOCABULARY, Run(next_sentence=False), 0)
    assert {without.sequence(d, 0)[2] for d in range(3) for _ in range(20)} == {bert.NO_LABEL}


def test_each_sequence_once_in_a_round():
    s = sequences(batch=7)
    whole = s.round()
    assert sorted(whole) == list(range(len(s.first)))
    count = 0
    while count < len(s):
        count += len(s.sample().ids)
    assert count == len(s) and not len(s.order)


# -- the network and the loss ----------------------------------------------------------------------------------------


def in_numpy(net, batch):
    """L from the encoder's states, with loops."""
    p = {name: array.astype(np.float64) for name, array in net.state_dict().items()}
    h = net.bert.encode(net.bert.embed(batch.ids, batch.segments), batch.attended).numpy().astype(np.float64)
    erf = np.vectorize(math.erf)

    def log_softmax(z):
        return z - np.log(np.exp(z).sum())

    words = []
    for row, place, target in zip(batch.rows, batch.places, batch.targets):
        t = p["dense.weight"] @ h[row, place] + p["dense.bias"]
        t = t * 0.5 * (1 + erf(t / np.sqrt(2)))
        t = (t - t.mean()) / np.sqrt(t.var() + 1e-12) * p["norm.weight"] + p["norm.bias"]
        words.append(-log_softmax(p["bert.word.weight"] @ t + p["bias"])[target])
    follows = []
    for row, y in enumerate(batch.follows):
        if y >= 0:
            pooled = np.tanh(p["bert.pooler.weight"] @ h[row, 0] + p["bert.pooler.bias"])
            follows.append(-log_softmax(p["follows.weight"] @ pooled + p["follows.bias"])[y])
    return np.mean(words), np.mean(follows) if follows else None


@pytest.mark.parametrize("next_sentence", [True, False])
def test_the_loss(next_sentence):
    net, batch = small(), sequences(next_sentence=next_sentence, alone=True).sample()
    for parameter in net.parameters():
        parameter.data = parameter.data + np.random.default_rng(1).normal(0, 0.1, parameter.shape).astype(np.float32)
    words, follows = in_numpy(net, batch)
    loss, numbers = bert.Pretraining(Run(), net).loss(batch, 0)
    np.testing.assert_allclose(float(numbers["words"]), words, rtol=1e-4)
    assert (follows is None) == ("next sentence" not in numbers) == (not next_sentence)
    np.testing.assert_allclose(float(loss), words + (follows or 0), rtol=1e-4)


def test_a_batch_without_a_known_word_teaches_what_follows_alone():
    documents = [[np.full(3, VOCABULARY.unknown)] * 2 for _ in range(4)]
    for next_sentence in (True, False):
        unknown = bert_sequences.Sequences(documents, [[0, 0]] * 4, VOCABULARY, Run(next_sentence=next_sentence), 0)
        net, batch = small(), unknown.sample()
        loss, numbers = bert.Pretraining(Run(), net).loss(batch, 0)
        loss.backward()
        assert len(batch.targets) == 0 == float(numbers["words"]) == numbers["words right"]
        assert float(loss) == float(numbers.get("next sentence", 0)) and np.isfinite(float(loss))
        assert all(np.isfinite(p.grad.numpy()).all() for p in net.parameters() if p.grad is not None)


def test_the_embeddings_get_the_gradients_of_both_their_uses():
    net, batch = small(), sequences().sample()
    scores, _ = net(batch)
    mg.cross_entropy(scores, batch.targets).backward()
    both = net.bert.word.weight.grad.numpy()
    state = {**net.state_dict()}

    def loss(read, said):
        h = net.bert.encode(net.bert.norm(mg.embedding(batch.ids, read) + net.bert.position.weight[:batch.ids.shape[1]]
                                          + net.bert.kind(batch.segments)), batch.attended)
        t = net.norm(mg.gelu(net.dense(h[batch.rows, batch.places])))
        return mg.cross_entropy(mg.linear(t, said, net.bias), batch.targets)

    parts = [g.numpy() for g in mg.grad(loss, argnums=(0, 1))(state["bert.word.weight"], state["bert.word.weight"])]
    assert all(np.abs(part).max() > 1e-4 for part in parts)
    np.testing.assert_allclose(both, parts[0] + parts[1], rtol=1e-3, atol=1e-6)


def test_padding_has_no_influence():
    net, batch = small(), sequences().sample()
    wide = np.pad(batch.ids, ((0, 0), (0, 5)), constant_values=17)
    more = dataclasses.replace(batch, ids=wide, attended=np.pad(batch.attended, ((0, 0), (0, 5))),
                               segments=np.pad(batch.segments, ((0, 0), (0, 5)), constant_values=1))
    for one, other in zip(net(batch), net(more)):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-5)


def test_a_new_encoder_begins_as_large_as_the_published_one_in_relation_to_its_width():
    mg.random.seed(0)
    net = bert.PretrainingBERT(nn.BERT(50, 64, 2, 4, 128, 32))
    bert.begin(net, 64)
    for name, weight in net.named_parameters():
        if weight.ndim == 2 and "self_attn.in_proj" not in name and "attn.qkv" not in name:
            embedding = name.split(".")[-2] in ("word", "position", "kind")
            assert np.isclose(weight.numpy().std(), 0.02 if embedding else 0.02 * (768 / 64) ** 0.5, rtol=0.25), name


def test_schedule():
    def factor(step, steps, warmup):
        return bert.Pretraining.schedule(types.SimpleNamespace(config=bert.Config(warmup=warmup)), step, steps)

    factors = [factor(step, 100, 0.1) for step in range(100)]
    assert np.isclose(factors[0], 0.1) and np.isclose(max(factors), 1) and np.argmax(factors) in (9, 10)
    assert np.isclose(factors[-1], 1 / 90) and (np.diff(factors[10:]) < 0).all()
    assert factor(0, 1, 0) == factor(0, 1, 1) == 1


def test_a_run_that_resumes_ends_with_the_same_bits(tmp_path):
    def go(folder, steps, resume=False):
        run = Run(out=str(tmp_path / folder), steps=steps, resume=resume, warmup=0.0, dropout=0.1)
        method = bert.Pretraining(run, small(dropout=0.1).train())
        method.schedule = lambda step, steps: 1.0
        made = optimizers.make(method.net.parameters(), "adam", 1e-3, 0.01)
        train(method, sequences(), made, steps, RunFolder(run.out, run, resume))
        return method.net.state_dict()

    whole, _ = go("whole", 14), go("parts", 6)
    for name, array in go("parts", 14, resume=True).items():
        np.testing.assert_array_equal(array, whole[name], err_msg=name)


def test_it_learns_what_follows_and_what_is_hidden(tmp_path):
    """Sentences are runs of numbers, and the next sentence goes on."""
    starts = np.random.default_rng(0).integers(5, WORDS - 12, 320)
    documents = [[np.arange(k, k + 6), np.arange(k + 6, k + 12)] for k in starts]
    run = Run(out=str(tmp_path), batch=32, lr=1e-2, length=16, share=0.3)
    mg.random.seed(0)
    net = bert.PretrainingBERT(nn.BERT(WORDS, 32, 2, 2, 64, 16, dropout=0.0))
    batches = bert_sequences.Sequences(documents, [[0, 0]] * 320, VOCABULARY, run, 0)
    train(bert.Pretraining(run, net), batches, optimizers.make(net.parameters(), "adam", run.lr, run.decay), 200,
          RunFolder(run.out, run, False))
    shares = bert_evaluation.word_shares(documents, WORDS)
    assert shares.shape == (WORDS,) and np.isclose(shares.sum(), 1)
    found = bert_evaluation.measured(net, [batches.sample() for _ in range(5)], shares)
    assert found["words right"] > found["most frequent right"] + 0.3 and found["words"] < found["entropy"] - 1
    assert found["next sentence right"] > 0.7


# -- what is done with it --------------------------------------------------------------------------------------------


def test_measured_counts_each_hidden_word_and_each_known_pair_once():
    net, s = small(), sequences(batch=11)
    batches = [s.sample() for _ in range(4)]
    shares = np.full(WORDS, 1 / WORDS)
    found = bert_evaluation.measured(net, batches, shares)
    scores = [[z.numpy() for z in net(batch)] for batch in batches]
    right = np.concatenate([words.argmax(1) == batch.targets for (words, _), batch in zip(scores, batches)])
    assert found["words right"] == right.mean() and np.isclose(found["entropy"], np.log(WORDS))
    right = np.concatenate([(y.argmax(1) == batch.follows)[batch.follows >= 0] for (_, y), batch in zip(scores, batches)])
    assert found["next sentence right"] == right.mean()


def test_guesses_are_for_each_gap_and_never_special():
    net = small()
    found = bert_evaluation.guesses(net, VOCABULARY, [np.array([7, 8]), np.array([], int), np.array([9])], 3)
    assert len(found) == 2 and all(len(row) == 3 for row in found)
    assert all(word.startswith("w") and 0 < p < 1 for row in found for word, p in row)
    with pytest.raises(ValueError, match="no .MASK."):
        bert_evaluation.fill(net, VOCABULARY, "a dog")
    with pytest.raises(ValueError, match="66 pieces .* reads 64"):
        bert_evaluation.guesses(net, VOCABULARY, [np.full(40, 7), np.full(23, 7)], 3)


def test_classification_reads_whole_documents():
    rng = np.random.default_rng(0)
    documents = [[np.array([5 + y, 30]), rng.integers(20, WORDS, 3)] for y in (0, 1) for _ in range(20)]
    labels = np.repeat([0, 1], 20)
    config = bert_evaluation.Tuning(batch=8)
    texts = bert_evaluation.DocumentBatches(documents, labels, VOCABULARY, config, 0)
    ids, attended, y = texts.sample()
    assert ids.shape == attended.shape == (8, 7) and attended.all() and (ids[:, 1] == 5 + y).all()
    mg.random.seed(0)
    method = bert_evaluation.Classification(config, nn.BERT(WORDS, 16, 1, 2, 32, 16, dropout=0.0, num_classes=2))
    optimizer = optim.AdamW(method.net.parameters(), 3e-3, weight_decay=0.0)
    for step in range(60):
        loss, _ = method.loss(texts.sample(), step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert method.tested(texts, 7) == 1


# -- files -----------------------------------------------------------------------------------------------------------


def changed(net):
    for parameter in net.parameters():
        parameter.data = parameter.data + np.random.default_rng(2).normal(0, 1, parameter.shape).astype(np.float32)
    return net


def test_the_exported_encoder_is_read_back_in_published_names(tmp_path):
    net, vocabulary = changed(small()), WordPiece(VOCABULARY.tokens)
    bert_files.save(net, tmp_path, vocabulary)
    names = set(io.load(tmp_path / "model.safetensors")[0])
    assert {"bert.embeddings.word_embeddings.weight", "bert.encoder.layer.1.attention.self.key.bias",
            "cls.predictions.bias", "cls.predictions.transform.LayerNorm.weight", "cls.seq_relationship.weight"} <= names
    assert all(name.startswith(("bert.", "cls.")) for name in names)
    alone = nn.BERT(WORDS, 16, 2, 2, 32, 64)
    nn.load_published(alone, tmp_path / "model.safetensors")
    found, words, new = bert_files.load(tmp_path)
    assert not new and words.tokens == vocabulary.tokens and found.bert.blocks[0].attn.num_heads == 2
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(found.state_dict()[name], array)
        if name.startswith("bert."):
            np.testing.assert_array_equal(alone.state_dict()[name.removeprefix("bert.")], array)


def test_heads_that_a_file_lacks_are_new_and_old_names_are_read(tmp_path):
    net = changed(small())
    bert_files.save(net, tmp_path, WordPiece(VOCABULARY.tokens))
    state, _ = io.load(tmp_path / "model.safetensors")
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
           for name, array in state.items() if "seq_relationship" not in name}
    io.save(tmp_path / "model.safetensors", old)
    found, _, new = bert_files.load(tmp_path)
    assert new == ["next sentence"]
    np.testing.assert_array_equal(found.norm.weight.numpy(), net.norm.weight.numpy())
    io.save(tmp_path / "model.safetensors", {name: array for name, array in old.items() if "cls." not in name})
    assert bert_files.load(tmp_path)[2] == ["masked words", "next sentence"]


def test_what_is_no_bert_is_refused(tmp_path):
    vocabulary = WordPiece(VOCABULARY.tokens)
    with pytest.raises(FileNotFoundError, match="no encoder at"):
        bert_files.load(tmp_path / "nothing")
    io.save(tmp_path / "model.safetensors", {"a": np.zeros(3)})
    with pytest.raises(ValueError, match="no BERT is recognised in its 1 tensors"):
        bert_files.load(tmp_path)
    bert_files.save(small(), tmp_path, vocabulary)
    (tmp_path / "vocab.txt").write_text("\n".join([*VOCABULARY.tokens, "more"]))
    with pytest.raises(ValueError, match="61 words in vocab.txt, but embeddings of 60"):
        bert_files.load(tmp_path)
    facts = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(facts | {"hidden_act": "relu"}))
    with pytest.raises(ValueError, match="its hidden_act is relu"):
        bert_files.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(facts | {"num_attention_heads": 3}))
    with pytest.raises(ValueError, match="nearly holds a BERT, but: .*num_heads .*, not 3"):
        bert_files.load(tmp_path)


@pytest.mark.parametrize("build", [lambda: nn.BERT(20, 8, 2, 2, 16, 10, num_classes=3),
                                   lambda: nn.ResNet(nn.models.resnet.BasicBlock, (1, 1, 1, 1), 4),
                                   lambda: nn.VisionTransformer(16, 8, 3, 5, 12, 2, 3), lambda: nn.efficientnet_lite(0),
                                   lambda: nn.CLIPText(20, 8, 1, 2, 16, 10, 6)],
                         ids=["BERT", "ResNet", "VisionTransformer", "EfficientNetLite", "CLIPText"])
def test_published_state_is_what_load_published_reads(build):
    model, other = build(), build()
    state = nn.published_state(model)
    nn.load_published(other, state)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], array, err_msg=name)
    with pytest.raises(TypeError, match="published_state: Conv4 has no published"):
        nn.published_state(nn.Conv4())

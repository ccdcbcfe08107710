"""What is measured. A workload is a dict from library to a function of the device that returns one step to time.

Each library's version is written as its users would write it; libraries are imported where they are used, so that a
process holds one of them.
"""
import importlib.util
import math

import numpy as np

ALL = {}
WORK = {}  # name: what a step has to do at least, ("bytes" of memory read and written or "flops" of products, how many)


def workload(name, work=None, **libraries):
    """What is built with JAX counts where that is installed."""
    ALL[name] = {library.replace("_", " "): build for library, build in libraries.items()
                 if library != "jax" or importlib.util.find_spec("jax")}
    if work:
        WORK[name] = work


def _rng():
    return np.random.default_rng(0)


# -- engine ----------------------------------------------------------------------------------------------------------

def _chain(x, constant):
    def step():
        y = x
        for _ in range(1000):
            y = y * constant
        y.sum().backward()
    return step


def chain_minigrad(device):
    import minigrad as mg
    x, constant = (mg.Tensor(a).to(device) for a in (np.ones(4, np.float32), np.full(4, 0.999, np.float32)))
    return _chain(mg.Tensor(x, requires_grad=True), constant)


def chain_torch(device):
    import torch
    return _chain(torch.ones(4, device=device, requires_grad=True), torch.full((4,), 0.999, device=device))


workload("chain of 1,000 multiplications of 4 numbers", minigrad=chain_minigrad, torch=chain_torch)


# -- training steps --------------------------------------------------------------------------------------------------

WAY, QUERY = 60, 5


def conv4_minigrad(device):
    import minigrad as mg
    from methods.few_shot import prototypical
    from minigrad import nn, optim
    net = nn.Conv4().to(device)
    optimizer = optim.Adam(net.parameters())
    x = mg.Tensor(_rng().random((WAY * (1 + QUERY), 1, 28, 28), np.float32)).to(device)
    labels = np.arange(WAY).repeat(QUERY)

    def train(x, labels):
        z = net(x)
        loss = mg.cross_entropy(prototypical.logits(z[WAY:], z[:WAY].reshape(WAY, 1, -1).mean(1)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    step = mg.capture(train, device)  # on the CPU `train` itself
    return lambda: step(x, labels).item()


def conv4_torch(device, channels_last=False):
    import torch
    from torch import nn
    layers = []
    for i in range(4):
        layers += [nn.Conv2d(64 if i else 1, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(*layers, nn.Flatten()).to(device)
    x = torch.tensor(_rng().random((WAY * (1 + QUERY), 1, 28, 28), np.float32)).to(device)
    if channels_last:
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters())
    labels = torch.arange(WAY).repeat_interleave(QUERY).to(device)

    def step():
        z = net(x)
        distances = ((z[WAY:, None] - z[None, :WAY]) ** 2).sum(2)
        loss = nn.functional.cross_entropy(-distances, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()
    return step


def conv4_jax(device):
    from . import jax_peers
    return jax_peers.prototypical_step(_rng().random((WAY * (1 + QUERY), 1, 28, 28), np.float32), WAY, QUERY)


workload("conv4 step, 60-way 1-shot, 5 queries", minigrad=conv4_minigrad, torch=conv4_torch,
         torch_channels_last=lambda device: conv4_torch(device, True), jax=conv4_jax)


TASKS, INNER = 4, 5


def _maml_data():
    rng = _rng()
    images = [rng.random((TASKS, 5 * n, 1, 28, 28), np.float32) for n in (1, 5)]
    return images, [np.tile(np.arange(5).repeat(n), (TASKS, 1)) for n in (1, 5)]


def maml_minigrad(device):
    import minigrad as mg
    from methods.few_shot import maml, maml_nets
    from minigrad import optim
    config = maml.Config(inner_steps=INNER, alpha=0.1)
    params = {k: mg.Tensor(p.to(device), requires_grad=True) for k, p in maml_nets.init_conv_net(_rng(), 5).items()}
    alpha, optimizer = maml.init_alpha(params, config), optim.Adam(list(params.values()))
    images, labels = _maml_data()
    support, query = ((mg.Tensor(x).to(device), mg.Tensor(y).to(device)) for x, y in zip(images, labels))

    def train(support, query):
        loss, _ = maml.meta_loss(maml_nets.conv_net, maml.cross_entropy, params, alpha, support, query, config)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    step = mg.capture(train, device)
    return lambda: step(support, query).item()


def maml_torch(device):
    import torch
    from torch.nn import functional as F
    from methods.few_shot import maml, maml_nets
    params = {k: torch.tensor(p.numpy(), device=device, requires_grad=True) for k, p in maml_nets.init_conv_net(_rng(), 5).items()}
    optimizer = torch.optim.Adam(list(params.values()))
    images, labels = _maml_data()
    (xs, xq), (ys, yq) = ([torch.tensor(a, device=device) for a in pair] for pair in (images, labels))

    def net(fast, x):
        n = x.shape[1]
        x = x.transpose(0, 1).reshape(n, -1, 28, 28)
        for i in range(maml_nets.LAYERS):
            w = fast[f"conv{i}"]
            x = F.conv2d(x, w.reshape(-1, *w.shape[2:]), stride=2, padding=1, groups=TASKS)
            x = F.relu(F.batch_norm(x, None, None, fast[f"scale{i}"][0].repeat(TASKS), fast[f"shift{i}"][0].repeat(TASKS), True))
        x = x.mean((2, 3)).reshape(n, TASKS, -1).transpose(0, 1)
        return x @ fast["weight"].transpose(1, 2) + fast["bias"][:, None]

    def loss(logits, y):
        return F.cross_entropy(logits.reshape(-1, 5), y.reshape(-1)) * 5

    def step():
        fast = {k: p if k.startswith(maml.FIXED) else p.expand(TASKS, *p.shape) for k, p in params.items()}
        adapted = [k for k in fast if not k.startswith(maml.FIXED)]
        for _ in range(INNER):
            grads = torch.autograd.grad(loss(net(fast, xs), ys) * TASKS, [fast[k] for k in adapted], create_graph=True)
            fast = {**fast, **{k: fast[k] - 0.1 * g for k, g in zip(adapted, grads)}}
        value = loss(net(fast, xq), yq)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.item()
    return step


def maml_jax(device):
    from . import jax_peers
    return jax_peers.maml_step(*_maml_data(), INNER)


workload("MAML step of second order, 5 inner steps, 4 tasks", minigrad=maml_minigrad, torch=maml_torch, jax=maml_jax)


# -- training steps of larger networks: cross-entropy, backward, SGD ----------------------------------------------------

def _images(n):
    return _rng().random((n, 3, 32, 32), np.float32)


def _tokens(n, length=64):
    return _rng().integers(0, 30522, (n, length))


def _step_minigrad(build, x, optimizer_of=lambda optim, net: optim.SGD(net.parameters(), 0.01, momentum=0.9)):
    def start(device):
        import minigrad as mg
        from minigrad import nn, optim
        net = build(nn).to(device)
        optimizer = optimizer_of(optim, net)
        inputs, labels = mg.Tensor(x).to(device), np.arange(len(x)) % 10

        def train(inputs, labels):
            loss = mg.cross_entropy(net(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        step = mg.capture(train, device)
        return lambda: step(inputs, labels).item()
    return start


def _step_torch(build, x, channels_last=False, compiled=False,
                optimizer_of=lambda optim, net: optim.SGD(net.parameters(), 0.01, momentum=0.9)):
    """Compiled, the first call takes a minute, which is warm-up."""
    def start(device):
        import torch
        from . import peers
        net, inputs = build(peers).to(device), torch.tensor(x, device=device)
        if channels_last:
            net, inputs = net.to(memory_format=torch.channels_last), inputs.to(memory_format=torch.channels_last)
        optimizer = optimizer_of(torch.optim, net)
        labels, run = torch.arange(len(x), device=device) % 10, torch.compile(net) if compiled else net

        def step():
            loss = torch.nn.functional.cross_entropy(run(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.item()
        return step
    return start


def _step_jax(name, x):
    def start(device):
        from . import jax_peers
        return jax_peers.training_step(getattr(jax_peers, name), x)
    return start


def _classifier(nn):
    """MiniLM with a linear layer on the pooled state."""
    class Classifier(nn.Module):
        def __init__(self):
            self.bert = nn.BERT(hidden_size=384, num_layers=6, intermediate_size=1536)
            self.head = nn.Linear(384, 10)

        def forward(self, ids):
            return self.head(self.bert(ids))
    return Classifier()


NETWORKS = {
    "WRN-28-2 step, 32 images of 32x32": (
        lambda nn: nn.WideResNet(28, 2, 10), lambda peers: peers.wide_resnet(10), "wide_resnet", _images(32)),
    "ResNet-18 step, 16 images of 32x32": (
        lambda nn: nn.resnet18(num_classes=10, small_images=True), lambda peers: peers.resnet18(10), "resnet18",
        _images(16)),
    "ViT-Tiny step, 64 images of 32x32, patch 4": (
        lambda nn: nn.VisionTransformer(32, 4, 3, 10, 192, 12, 3), lambda peers: peers.ViT(32, 4, 192, 12, 3, 10), "vit",
        _images(64)),
    "BERT step, MiniLM, 16 texts of 64 tokens": (
        _classifier, lambda peers: peers.BERT(30522, 384, 6, 12, 1536, 10), "bert", _tokens(16))}
for _name, (_ours, _theirs, _jaxs, _x) in NETWORKS.items():
    _last = {"torch_channels_last": _step_torch(_theirs, _x, channels_last=True)} if "wide" in _jaxs or "resnet" in _jaxs else {}
    workload(_name, minigrad=_step_minigrad(_ours, _x), torch=_step_torch(_theirs, _x), **_last,
             torch_compiled=_step_torch(_theirs, _x, compiled=True), jax=_step_jax(_jaxs, _x))


# -- LoRA of queries and values, rank 8: loss, backward, AdamW -----------------------------------------------------------

LORA = 30522, 384, 6, 12, 1536


def _lora(nn):
    from methods import peft
    net = nn.BERT(*LORA)
    peft.apply(net, "lora", head=10)
    return net


def _trained(optim, net):
    return optim.AdamW([p for p in net.parameters() if p.requires_grad], 1e-3)


workload("LoRA step, MiniLM, 16 texts of 64 tokens", minigrad=_step_minigrad(_lora, _tokens(16), _trained),
         torch=_step_torch(lambda peers: peers.LoRABERT(*LORA, 10), _tokens(16), optimizer_of=_trained))


# -- self-supervised methods: loss, backward, AdamW, the moving average; the views are given ------------------------------


def _views(name):
    """The views of 64 pictures that a method learns from; of the masked autoencoder one, and the order of its patches.

    For CPC of audio, waveforms of a quarter of a second."""
    if name == "mae":
        return [_images(64), _rng().random((64, 64)).argsort(1)]
    if name == "cpc_audio":
        return [_rng().standard_normal((64, 2000), np.float32)]
    return [_images(64), _images(64)] + [_images(64)[:, :, :16, :16]] * (4 if name == "dino" else 0)


CONFIGS = {"dino": {"classes_made": 512, "local_views": 4, "batch_norm": False},  # where they are not the defaults
           "cpc_images": {"strength": 0.0}}


def _self_supervised_method(name, views, device):
    """The method, what it trains, and its batch; nothing is drawn at random any more."""
    import importlib
    from methods.self_supervised.base import Batch, Task
    from minigrad import nn
    module = importlib.import_module(f"methods.self_supervised.{name}")
    config = module.Config(**CONFIGS.get(name, {}))
    if name == "cpc_audio":
        net = module.CPC(config.channels, config.context, config.kernels, config.strides, config.ahead).to(device)
        batch = module.Batch(views[0], np.full(64, views[0].shape[1] // net.hop), np.arange(64))
        return module.ContrastivePredictiveCoding(config, net), net.parameters(), batch
    encoder = module.architecture(config, 3, 32).build() if hasattr(module, "architecture") else nn.WideResNet(10, 2, 0)
    method = module.Objective(config, encoder.to(device), Task(32, 3, 64, 64, 1000, 0, True))
    if name == "mae":
        method.order = lambda n: views[1]
    if hasattr(method, "view"):
        method.view = lambda x, rng: views[0]
    else:
        method.views = [lambda x, rng, view=view: view for view in views]
    return method, method.parameters(), Batch(views[0], np.arange(64), np.zeros(64, int))


def _self_supervised_minigrad(name):
    """Captured where the method has an `objective`. The batch is on the device, as the peers' is."""
    def start(device):
        import minigrad as mg
        from methods.training import optimizers
        from methods.training.method import Method
        method, parameters, batch = _self_supervised_method(name, _views(name), device)
        updates = optimizers.make(parameters, "adam", 1e-3, 0.01).values()
        whole = type(method).loss is not Method.loss

        def train(*given):
            loss, _ = method.loss(batch, 500) if whole else method.objective(*given)
            for optimizer in updates:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in updates:
                optimizer.step()
            method.after_step(500)
            return loss

        given = () if whole else method.arguments(batch, 500)
        step = train if whole else mg.capture(train, device)
        return lambda: step(*given).item()
    return start


def _self_supervised_peer(name):
    from . import peers
    return {"simclr": peers.SimCLR, "byol": peers.BYOL, "dino": peers.DINO, "mae": lambda: peers.MAE(32, 4, 96, 4, 4),
            "cpc_images": peers.PatchCPC, "cpc_audio": peers.AudioCPC}[name]()


def _self_supervised_torch(name):
    def start(device):
        import torch
        views, net = [torch.tensor(v, device=device) for v in _views(name)], _self_supervised_peer(name).to(device)
        optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], 1e-3, weight_decay=0.01)

        def step():
            loss = net.loss(views[0], views[1], 16) if name == "mae" else net.loss(views)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if hasattr(net, "follow"):
                net.follow(0.99)
            return loss.item()
        return step
    return start


SELF_SUPERVISED = {"simclr": "SimCLR step, 64 pictures of 32x32, WRN-10-2", "byol": "BYOL step, 64 pictures of 32x32, WRN-10-2",
                   "dino": "DINO step, 64 pictures of 32x32, WRN-10-2", "mae": "MAE step, 64 pictures of 32x32, Transformer",
                   "cpc_images": "CPC step, 64 pictures of 32x32 in 9 patches",
                   "cpc_audio": "CPC step, 64 recordings of 2,000 samples"}
for _name, _shown in SELF_SUPERVISED.items():
    workload(_shown, minigrad=_self_supervised_minigrad(_name), torch=_self_supervised_torch(_name))


# -- CLIP: both towers, the loss, backward, AdamW, the factor's limit -------------------------------------------------------

WORDS, LONG = 2000, 32


def _captions():
    """Ids of 64 captions, as long as the text tower allows."""
    ids = _rng().integers(0, WORDS - 2, (64, LONG))
    ids[:, 0], ids[:, -1] = WORDS - 2, WORDS - 1
    return ids


def clip_minigrad(device):
    from methods.training import optimizers
    from methods.vision_language import base, clip
    from minigrad import nn
    text = nn.CLIPText(WORDS, 128, 2, 4, 512, LONG, 128, eot=WORDS - 1)
    method = clip.Contrastive(clip.Config(), clip.CLIP(nn.WideResNet(10, 2, 0), text).to(device), nn.Preprocessing(
        32, "bilinear", (0.0,) * 3, (1.0,) * 3, 1.0), None)
    updates = optimizers.make(method.net.parameters(), "adam", 1e-3, 0.2).values()
    batch = base.Batch(_images(64), _captions(), np.arange(64))

    def step():
        loss, _ = method.loss(batch, 0)
        for optimizer in updates:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in updates:
            optimizer.step()
        method.after_step(0)
        return loss.item()
    return step


def clip_torch(device):
    import torch
    from . import peers
    net = peers.CLIP(WORDS, LONG, 128, 2, 4).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.2)
    images, ids = torch.tensor(_images(64), device=device), torch.tensor(_captions(), device=device)

    def step():
        loss = net.loss(images, ids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            net.s.clamp_(max=math.log(100))
        return loss.item()
    return step


workload("CLIP step, 64 pictures of 32x32, WRN-10-2, captions of 32 tokens", minigrad=clip_minigrad, torch=clip_torch)


# -- encoding: a frozen encoder, in evaluation ----------------------------------------------------------------------------


def _encoding_minigrad(device):
    import minigrad as mg
    from minigrad import nn
    net, x = nn.efficientnet_lite(0, num_classes=0).to(device).eval(), mg.Tensor(ENCODED).to(device)

    def step():
        with mg.no_grad():
            return float(net(x)[0, 0])
    return step


def _encoding_torch(device, channels_last=False):
    import torch
    from . import peers
    net, x = peers.efficientnet_lite0().to(device).eval(), torch.tensor(ENCODED).to(device)
    if channels_last:
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)

    def step():
        with torch.no_grad():
            return float(net(x)[0, 0])
    return step


ENCODED = _rng().standard_normal((16, 3, 224, 224), np.float32)
workload("encoding, EfficientNet-Lite0, 16 images of 224x224", minigrad=_encoding_minigrad, torch=_encoding_torch,
         torch_channels_last=lambda device: _encoding_torch(device, True))


# -- layers: forward alone, and with backward ----------------------------------------------------------------------------

LARGER = 16  # how many times the inputs are longer on a GPU, which is done with the others before the next is launched


def _input(shape, device):
    n = shape[0] * (LARGER if device == "cuda" else 1)
    return _rng().standard_normal((n, *shape[1:]), np.float32)


def _first(y):
    return y[0] if isinstance(y, tuple) else y


def _layer(shape, backward, ours, theirs, jaxs=None):
    """`ours(mg, nn)` and `theirs(torch)` give a function of one array, `jaxs(jax)` one of it and of the weights behind it; timed
    is its value (of several the first), or that and its gradients for a cotangent of ones."""
    def minigrad(device):
        import minigrad as mg
        from minigrad import nn
        x, f = mg.Tensor(_input(shape, device)).to(device), ours(mg, nn)
        f = f.to(device) if isinstance(f, nn.Module) else f
        cotangent = mg.ones_like(_first(f(x))).detach()
        x.requires_grad = backward

        def step():
            x.grad = None
            if backward:
                _first(f(x)).backward(cotangent)
            else:
                with mg.no_grad():
                    f(x)
        return step

    def torch(device):
        import torch
        x, f = torch.tensor(_input(shape, device), device=device, requires_grad=backward), theirs(torch)
        f = f.to(device) if isinstance(f, torch.nn.Module) else f
        cotangent = torch.ones_like(_first(f(x)))

        def step():
            x.grad = None
            if backward:
                _first(f(x)).backward(cotangent)
            else:
                with torch.no_grad():
                    f(x)
        return step

    def jax(device):
        import jax
        f, *weights = jaxs(jax)
        xs = [jax.numpy.asarray(a) for a in (_input(shape, device), *weights)]
        cotangent = jax.numpy.ones_like(f(*xs))  # an argument, as the others: a constant would be folded into the program
        if not backward:
            run = jax.jit(f)
            return lambda: jax.block_until_ready(run(*xs))

        def both(cotangent, *xs):
            y, pull = jax.vjp(f, *xs)
            return y, pull(cotangent)

        run = jax.jit(both)
        return lambda: jax.block_until_ready(run(cotangent, *xs))

    return dict(minigrad=minigrad, torch=torch, **(dict(jax=jax) if jaxs else {}))


_ROWS, _MAPS, _SEQUENCES = (64 * 65, 768), (64, 64, 32, 32), (32, 64, 128)


def _jax_normalised(axes):
    def build(jax):
        def f(x):
            centred = x - x.mean(axes, keepdims=True)
            return centred / jax.numpy.sqrt((centred**2).mean(axes, keepdims=True) + 1e-5)
        return [f]
    return build


def _jax_pooling(jax):
    return [lambda x: jax.lax.reduce_window(x, -np.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")]


def _jax_convolution(jax):
    return lambda x, w: jax.lax.conv(x, w, (1, 1), "SAME"), _rng().normal(size=(64, 64, 3, 3)).astype(np.float32)


def _jax_linear(jax):
    return lambda x, w: x @ w, _rng().normal(size=(768, 768)).astype(np.float32)


def _passes(forward, backward):
    """Work counted in passes over an array of the input's size, each a reading or a writing."""
    return lambda size, both: ("bytes", 4 * size * (forward + backward * both))


def _products(each, backward=2):
    """Work counted in multiplications and additions for each element of the input; the gradients cost twice as much."""
    return lambda size, both: ("flops", 2 * size * each * (1 + backward * both))


LAYERS = {
    "GELU": (_passes(2, 3), _ROWS, lambda mg, nn: mg.gelu, lambda t: t.nn.functional.gelu,
             lambda jax: [lambda x: jax.nn.gelu(x, approximate=False)]),
    "softmax": (_passes(2, 3), _ROWS, lambda mg, nn: lambda x: mg.softmax(x, 1), lambda t: lambda x: t.softmax(x, 1),
                lambda jax: [lambda x: jax.nn.softmax(x, 1)]),
    "layer norm": (_passes(2, 3), _ROWS, lambda mg, nn: nn.LayerNorm(768), lambda t: t.nn.LayerNorm(768),
                   _jax_normalised(1)),
    "dropout": (_passes(2, 2), _ROWS, lambda mg, nn: nn.Dropout(0.1), lambda t: t.nn.Dropout(0.1)),
    "batch norm": (_passes(3, 5), _MAPS, lambda mg, nn: nn.BatchNorm2d(64), lambda t: t.nn.BatchNorm2d(64),
                   _jax_normalised((0, 2, 3))),
    "ReLU": (_passes(2, 3), _MAPS, lambda mg, nn: mg.relu, lambda t: t.relu, lambda jax: [jax.nn.relu]),
    "max pooling": (_passes(1.25, 1.25), _MAPS, lambda mg, nn: nn.MaxPool2d(2), lambda t: t.nn.MaxPool2d(2), _jax_pooling),
    "convolution 3x3": (_products(64 * 9), _MAPS, lambda mg, nn: nn.Conv2d(64, 64, 3, padding=1),
                        lambda t: t.nn.Conv2d(64, 64, 3, padding=1), _jax_convolution),
    "depthwise convolution 3x3": (_passes(2, 4), _MAPS, lambda mg, nn: nn.Conv2d(64, 64, 3, padding=1, groups=64),
                                  lambda t: t.nn.Conv2d(64, 64, 3, padding=1, groups=64)),
    "linear": (_products(768), _ROWS, lambda mg, nn: nn.Linear(768, 768), lambda t: t.nn.Linear(768, 768), _jax_linear),
    "LSTM": (_products(4 * 256), _SEQUENCES, lambda mg, nn: nn.LSTM(128, 128, batch_first=True),
             lambda t: t.nn.LSTM(128, 128, batch_first=True)),
    "GRU": (_products(3 * 256), _SEQUENCES, lambda mg, nn: nn.GRU(128, 128, batch_first=True),
            lambda t: t.nn.GRU(128, 128, batch_first=True)),
    "attention": (_products(2 * 128, 2.5), (16, 12, 128, 32),
                  lambda mg, nn: lambda x: mg.scaled_dot_product_attention(x, x, x),
                  lambda t: lambda x: t.nn.functional.scaled_dot_product_attention(x, x, x))}
for _name, (_work, _shape, *_functions) in LAYERS.items():
    for _what, _backward in (("forward", False), ("forward and backward", True)):
        workload(f"layer: {_name}, {' x '.join(map(str, _shape))}, {_what}", _work(LARGER * math.prod(_shape), _backward),
                 **_layer(_shape, _backward, *_functions))


# -- optimisers: one step of 10 million parameters in 60 arrays ------------------------------------------------------------

def _optimiser(kind, **options):
    shapes = [(512, 325)] * 60

    def minigrad(device):
        import minigrad as mg
        from minigrad import optim
        params = [mg.Tensor(mg.Tensor(_rng().random(s, np.float32)).to(device), requires_grad=True) for s in shapes]
        for p in params:
            p.grad = mg.ones_like(p).detach()
        return getattr(optim, kind)(params, 1e-3, **options).step

    def torch(device):
        import torch
        params = [torch.tensor(_rng().random(s, np.float32), device=device, requires_grad=True) for s in shapes]
        for p in params:
            p.grad = torch.ones_like(p)
        return getattr(torch.optim, kind)(params, 1e-3, **options).step
    return dict(minigrad=minigrad, torch=torch)


workload("optimiser: AdamW, 10 million parameters", ("bytes", 4 * 7 * 60 * 512 * 325), **_optimiser("AdamW"))
workload("optimiser: SGD with momentum, 10 million parameters", ("bytes", 4 * 5 * 60 * 512 * 325),
         **_optimiser("SGD", momentum=0.9))


# -- augmentation: NumPy on one core, without a peer ----------------------------------------------------------------------

def _augment(build):
    def start(device):
        from minigrad import data
        x, rng, f = _rng().random((500, 3, 32, 32), np.float32), _rng(), build(data)
        return lambda: f(x, rng)
    return start


workload("augmentation: weak (shift, flip, noise), 500 images of 32x32",
         minigrad=_augment(lambda data: lambda x, rng: data.weak(x, rng, flip=True, noise=0.15)))
workload("augmentation: strong (RandAugment, two operations, cutout), 500 images of 32x32",
         minigrad=_augment(lambda data: data.RandAugment()))

"""The networks of `workloads` as a user of PyTorch writes them; they have as many parameters as minigrad's."""
import copy

import torch
from torch import nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    def __init__(self, before, channels, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
        self.shortcut = nn.Identity()
        if stride > 1 or before != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


def resnet18(classes):
    """For small images: the first convolution is 3x3, without pooling."""
    layers, before = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()], 64
    for i, channels in enumerate((64, 128, 256, 512)):
        layers += [BasicBlock(before, channels, 2 if i else 1), BasicBlock(channels, channels, 1)]
        before = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))


class WideBlock(nn.Module):
    def __init__(self, before, channels, stride):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(before), nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(before, channels, 1, stride, bias=False) if before != channels else None

    def forward(self, x):
        active = F.leaky_relu(self.bn1(x), 0.1)
        y = self.conv2(F.leaky_relu(self.bn2(self.conv1(active)), 0.1))
        return y + (x if self.shortcut is None else self.shortcut(active))


def wide_resnet(classes, blocks=4):
    """A Wide ResNet with so many blocks in each group: 4 for WRN-28-2, 1 for WRN-10-2."""
    layers, before = [nn.Conv2d(3, 16, 3, 1, 1, bias=False)], 16
    for i, channels in enumerate((32, 64, 128)):
        for j in range(blocks):
            layers.append(WideBlock(before, channels, 2 if i and j == 0 else 1))
            before = channels
    return nn.Sequential(*layers, nn.BatchNorm2d(128), nn.LeakyReLU(0.1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes))


class SameConv(nn.Conv2d):
    """TensorFlow's padding "same", as timm does it."""

    def forward(self, x):
        rows, columns = (max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(x.shape[2:], self.stride, self.kernel_size))
        x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)) if rows or columns else x
        return F.conv2d(x, self.weight, None, self.stride, 0, 1, self.groups)


def conv_norm(before, channels, kernel, stride=1, groups=1):
    padding = SameConv(before, channels, kernel, stride, groups=groups, bias=False) if stride > 1 else nn.Conv2d(
        before, channels, kernel, 1, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(padding, nn.BatchNorm2d(channels, 1e-3, 0.01))


class InvertedResidual(nn.Module):
    def __init__(self, before, channels, kernel, stride, expansion):
        super().__init__()
        hidden, self.shortcut = expansion * before, stride == 1 and before == channels
        layers = [conv_norm(before, hidden, 1), nn.ReLU6(inplace=True)] if expansion > 1 else []
        self.layers = nn.Sequential(*layers, conv_norm(hidden, hidden, kernel, stride, hidden), nn.ReLU6(inplace=True),
                                    conv_norm(hidden, channels, 1))

    def forward(self, x):
        return x + self.layers(x) if self.shortcut else self.layers(x)


def efficientnet_lite0():
    """Without a head."""
    layers, before = [conv_norm(3, 32, 3, 2), nn.ReLU6(inplace=True)], 32
    for count, kernel, stride, expansion, channels in ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
                                                       (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)):
        for i in range(count):
            layers.append(InvertedResidual(before, channels, kernel, 1 if i else stride, expansion))
            before = channels
    return nn.Sequential(*layers, conv_norm(320, 1280, 1), nn.ReLU6(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class ViT(nn.Module):
    def __init__(self, size, patch, width, depth, heads, classes):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, (size // patch) ** 2 + 1, width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, classes) if classes else nn.Identity()

    def embedded(self, x):
        return self.patches(x).flatten(2).transpose(1, 2) + self.position[:, 1:]

    def encoded(self, x):
        return self.blocks(torch.cat([(self.cls + self.position[:, :1]).expand(len(x), -1, -1), x], 1))

    def forward(self, x):
        return self.head(self.encoded(self.embedded(x))[:, 0])


class MAE(ViT):
    """Its decoder is one block of half the width."""

    def __init__(self, size, patch, width, depth, heads):
        super().__init__(size, patch, width, depth, heads, 0)
        self.position.requires_grad_(False)
        half, count = width // 2, (size // patch) ** 2
        self.down, self.mask = nn.Linear(width, half), nn.Parameter(torch.zeros(1, 1, half))
        self.place = nn.Parameter(torch.zeros(1, count + 1, half), requires_grad=False)
        layer = nn.TransformerEncoderLayer(half, heads, 4 * half, 0.0, "gelu", batch_first=True, norm_first=True)
        self.decoder = nn.TransformerEncoder(layer, 1, nn.LayerNorm(half), enable_nested_tensor=False)
        self.pixels, self.patch = nn.Linear(half, 3 * patch ** 2), patch

    def loss(self, x, order, visible):
        take = order[:, :visible, None]
        patches = F.unfold(x, self.patch, stride=self.patch).transpose(1, 2)
        target = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6).sqrt()
        embedded = self.embedded(x)
        seen = self.down(self.encoded(embedded.gather(1, take.expand(-1, -1, embedded.shape[2]))))
        hidden = self.mask.expand(len(x), order.shape[1] - visible, -1)
        places = torch.cat([seen[:, 1:], hidden], 1).gather(1, order.argsort(1)[..., None].expand(-1, -1, seen.shape[2]))
        drawn = self.pixels(self.decoder(torch.cat([seen[:, :1], places], 1) + self.place)[:, 1:])
        at = order[:, visible:, None].expand(-1, -1, drawn.shape[2])
        return ((drawn.gather(1, at) - target.gather(1, at)) ** 2).mean()


class BERT(nn.Module):
    def __init__(self, vocabulary, width, depth, heads, hidden, classes):
        super().__init__()
        self.word, self.position, self.kind = nn.Embedding(vocabulary, width), nn.Embedding(512, width), nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, 1e-12)
        layer = nn.TransformerEncoderLayer(width, heads, hidden, 0.1, "gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.pooler, self.head = nn.Linear(width, width), nn.Linear(width, classes)

    def forward(self, ids):
        x = self.word(ids) + self.position.weight[:ids.shape[1]] + self.kind(torch.zeros_like(ids))
        x = self.layers(F.dropout(self.norm(x), 0.1, self.training))
        return self.head(torch.tanh(self.pooler(x[:, 0])))


class LowRank(nn.Module):
    """A frozen linear layer with LoRA of rank 8 and alpha 16."""

    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width).requires_grad_(False)
        self.a, self.b = nn.Parameter(torch.randn(8, width) / width ** 0.5), nn.Parameter(torch.zeros(width, 8))

    def forward(self, x):
        return self.linear(x) + x @ self.a.T @ self.b.T * 2


class LoRABlock(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.heads, self.q, self.v = heads, LowRank(width), LowRank(width)
        self.k, self.out, self.fc1, self.fc2 = (nn.Linear(*sizes).requires_grad_(False) for sizes in (
            (width, width), (width, width), (width, hidden), (hidden, width)))
        self.norm1, self.norm2 = (nn.LayerNorm(width).requires_grad_(False) for _ in range(2))

    def forward(self, x):
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.1 * self.training).transpose(1, 2).flatten(2)
        x = self.norm1(x + F.dropout(self.out(y), 0.1, self.training))
        y = self.fc2(F.dropout(F.gelu(self.fc1(x)), 0.1, self.training))
        return self.norm2(x + F.dropout(y, 0.1, self.training))


class LoRABERT(BERT):
    """A frozen BERT with LoRA of queries and values, and a head."""

    def __init__(self, vocabulary, width, depth, heads, hidden, classes):
        super().__init__(vocabulary, width, 0, heads, hidden, classes)
        self.requires_grad_(False)
        self.head.requires_grad_()
        self.layers = nn.Sequential(*(LoRABlock(width, heads, hidden) for _ in range(depth)))


# -- self-supervised methods: a loss of two or more views each -------------------------------------------------------------

def projector(*widths, last_norm=False):
    layers = []
    for i, (before, after) in enumerate(zip(widths, widths[1:])):
        last = i == len(widths) - 2
        layers += [nn.Linear(before, after, bias=False)] + ([] if last else [nn.BatchNorm1d(after), nn.ReLU()])
    return nn.Sequential(*layers, *([nn.BatchNorm1d(widths[-1])] if last_norm else []))


class SimCLR(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(*wide_resnet(10, 1)[:-1], projector(128, 256, 64, last_norm=True))

    def loss(self, views):
        z = F.normalize(self.net(torch.cat(views)), dim=1)
        similarity = (z @ z.T / 0.5).masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)
        return F.cross_entropy(similarity, torch.arange(len(z), device=z.device).roll(len(z) // 2))


class Followed(nn.Module):
    """A network and its moving average."""

    def __init__(self, net):
        super().__init__()
        self.net, self.target = net, copy.deepcopy(net).requires_grad_(False)

    def follow(self, decay):
        with torch.no_grad():
            for target, online in zip(self.target.state_dict().values(), self.net.state_dict().values()):
                if target.is_floating_point():
                    target.lerp_(online, 1 - decay)


class BYOL(Followed):
    def __init__(self):
        super().__init__(nn.Sequential(*wide_resnet(10, 1)[:-1], projector(128, 256, 64)))
        self.predictor = projector(64, 256, 64)

    def loss(self, views):
        with torch.no_grad():
            targets = [self.target(v) for v in views]
        q = [self.predictor(self.net(v)) for v in views]
        return sum(2 - 2 * F.cosine_similarity(a, b).mean() for a, b in zip(q, targets[::-1]))


class Cosines(nn.Module):
    """DINO's head."""

    def __init__(self, width):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, 256), nn.GELU(), nn.Linear(256, 64))
        self.last = nn.Linear(64, 512, bias=False)

    def forward(self, x):
        return F.normalize(self.mlp(x), dim=1) @ F.normalize(self.last.weight, dim=1).T


class DINO(Followed):
    def __init__(self):
        super().__init__(nn.Sequential(*wide_resnet(10, 1)[:-1], Cosines(128)))
        self.register_buffer("centre", torch.zeros(1, 512))

    def loss(self, views):
        with torch.no_grad():
            raw = self.target(torch.cat(views[:2]))
            targets = ((raw - self.centre) / 0.04).softmax(1).chunk(2)
            self.centre.lerp_(raw.mean(0, keepdim=True), 0.1)
        large, small = torch.cat(views[:2]), torch.cat(views[2:])
        student = [*self.net(large).chunk(2), *self.net(small).chunk(len(views) - 2)]
        pairs = [(t, s) for i, t in enumerate(targets) for j, s in enumerate(student) if i != j]
        terms = [-(t * (s / 0.1).log_softmax(1)).sum(1).mean() for t, s in pairs]
        return sum(terms) / len(terms)


class PatchCPC(nn.Module):
    """CPC of images: patches of 16 pixels, 8 apart; from each of four sides the second row from it is to be found among all."""

    def __init__(self, width=128):
        super().__init__()
        widths = 3, width // 4, width // 2, width
        self.encoder = nn.Sequential(*(m for i, o, s in zip(widths, widths[1:], (1, 2, 2))
                                       for m in (nn.Conv2d(i, o, 3, s, 1), nn.ReLU())))
        self.context = nn.ModuleList([nn.Conv2d(width, width, (2, 3)) for _ in range(4)])
        self.W = nn.ModuleList([nn.Linear(width, width, bias=False) for _ in range(4)])

    def loss(self, views):
        patches = views[0].unfold(2, 16, 8).unfold(3, 16, 8).permute(0, 2, 3, 1, 4, 5)
        z = self.encoder(patches.reshape(-1, *patches.shape[3:])).mean((2, 3)).view(*patches.shape[:3], -1)
        losses = []
        for seen, conv, w in zip((z, z.flip(1), z.transpose(1, 2), z.transpose(1, 2).flip(1)), self.context, self.W):
            c = F.relu(conv(F.pad(seen.permute(0, 3, 1, 2), (1, 1, 1, 0)))).permute(0, 2, 3, 1)
            right = torch.arange(seen.shape[:3].numel(), device=z.device).view(seen.shape[:3])
            losses.append(F.cross_entropy(w(c[:, :-2]).flatten(0, 2) @ seen.flatten(0, 2).T, right[:, 2:].reshape(-1)))
        return sum(losses) / 4


class AudioCPC(nn.Module):
    """CPC of raw audio: a hop of 80 samples, 12 steps ahead, the other recordings of the batch as negatives."""

    def __init__(self, channels=128, context=128, ahead=12):
        super().__init__()
        inputs = 1, channels, channels, channels
        self.encoder = nn.Sequential(*(m for i, k, s in zip(inputs, (10, 8, 4, 4), (5, 4, 2, 2))
                                       for m in (nn.Conv1d(i, channels, k, s), nn.ReLU())))
        self.gru = nn.GRU(channels, context, batch_first=True)
        self.W = nn.Parameter(torch.randn(ahead, channels, context) / context ** 0.5)

    def loss(self, views):
        z = self.encoder(F.pad(views[0], (145, 0))[:, None]).transpose(1, 2)
        c, losses = self.gru(z)[0], []
        for k in range(1, len(self.W) + 1):
            scores = (c[:, :-k] @ self.W[k - 1].T).transpose(0, 1) @ z[:, k:].permute(1, 2, 0)
            labels = torch.arange(len(z), device=z.device).repeat(len(scores))
            losses.append(F.cross_entropy(scores.flatten(0, 1), labels))
        return sum(losses) / len(losses)


# -- pictures and text ----------------------------------------------------------------------------------------------------

class CLIP(nn.Module):
    def __init__(self, vocabulary, length, width, depth, heads):
        super().__init__()
        self.image = nn.Sequential(*wide_resnet(10, 1)[:-1], nn.Linear(128, width, bias=False))
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Parameter(0.01 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, lambda x: x * torch.sigmoid(1.702 * x),
                                           batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.projection, self.s = nn.Linear(width, width, bias=False), nn.Parameter(torch.tensor(2.66))
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length))

    def loss(self, x, ids):
        states = self.blocks(self.token(ids) + self.position, self.mask, is_causal=True)
        texts = F.normalize(self.projection(states[torch.arange(len(ids)), ids.argmax(1)]), dim=1)
        logits = self.s.exp() * F.normalize(self.image(x), dim=1) @ texts.T
        labels = torch.arange(len(x), device=x.device)
        return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2

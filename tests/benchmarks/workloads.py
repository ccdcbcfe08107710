"""What is measured. A workload is a dict from library to a function of the device that returns one step to time.

Each library's version is written as its users would write it; libraries are imported where they are used, so that a
process holds one of them.
"""
import numpy as np

ALL = {}


def workload(name, **libraries):
    ALL[name] = {library.replace("_", " "): build for library, build in libraries.items()}


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
    return _chain(mg.Tensor(np.ones(4, np.float32), requires_grad=True), mg.Tensor(np.full(4, 0.999, np.float32)))


def chain_torch(device):
    import torch
    return _chain(torch.ones(4, requires_grad=True), torch.full((4,), 0.999))


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

    def step():
        z = net(x)
        loss = mg.cross_entropy(prototypical.logits(z[WAY:], z[:WAY].reshape(WAY, 1, -1).mean(1)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()
    return step


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


workload("conv4 step, 60-way 1-shot, 5 queries", minigrad=conv4_minigrad, torch=conv4_torch,
         torch_channels_last=lambda device: conv4_torch(device, True))

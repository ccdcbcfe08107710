"""Places in a network: where its linear layers and its Transformer blocks are, and what is put there."""
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from minigrad import nn
from minigrad.nn.module import WritableTuple, items

ABSENT = object()


@dataclass
class Place:
    """Where something is put: `holder[key]`.

    Args:
        holder: the attributes of a module (`vars`), or a list or dict in them.
        new: a Module or Parameter.
        old: what was there; `ABSENT` for an attribute that only its class has.
    """

    holder: Any
    key: Any
    new: Any
    old: Any = ABSENT

    def __post_init__(self):
        if not isinstance(self.holder, dict) or self.key in self.holder:
            self.old = self.holder[self.key]

    def put(self) -> None:
        """The new one is there."""
        self.set(self.new)

    def take(self) -> None:
        """What was there before is there again."""
        if self.old is ABSENT:
            del self.holder[self.key]
        else:
            self.set(self.old)

    def set(self, value: Any) -> None:
        """`value` is there; a Module behaves as the one in whose place it is: as in training, or in evaluation."""
        there = ABSENT if isinstance(self.holder, dict) and self.key not in self.holder else self.holder[self.key]
        if isinstance(value, nn.Module) and isinstance(there, nn.Module) and value.training != there.training:
            value.train(there.training)
        self.holder[self.key] = value


@dataclass
class Layer:
    """A linear layer, or rows of one.

    Args:
        rows: of its weight; of a packed layer those of the queries, keys or values.
    """

    holder: Any
    key: Any
    linear: nn.Linear
    rows: slice


def linear_layers(net: nn.Module) -> dict[str, Layer]:
    """All linear layers by the attributes that lead to them, such as `blocks.0.mlp.fc1`.

    The layer `attn.qkv` stands there as a whole, and also as `attn.q`, `attn.k` and `attn.v`, a third of its rows each.
    """
    found = {}
    for path, holder, key, module, parent in _parts(net, vars(net)):
        if not isinstance(module, nn.Linear):
            continue
        rows = len(module.weight)
        found[path] = Layer(holder, key, module, slice(0, rows))
        if isinstance(parent, nn.Attention) and key == "qkv":
            for i, part in enumerate("qkv"):
                found[path[:-3] + part] = Layer(holder, key, module, slice(i * rows // 3, (i + 1) * rows // 3))
    return found


def matching(net: nn.Module, patterns: Iterable[str]) -> list[tuple[nn.Linear, list[slice], list[tuple[Any, Any]]]]:
    """The layers that patterns name: of each the rows named, and its places (holder, key).

    Args:
        patterns: with *, ? and [...] as in file names; they fit a name, or the end of one behind a dot.

    Raises:
        ValueError: there is no pattern, or one fits no layer, with the names there are; or rows are named twice.
    """
    layers, patterns = linear_layers(net), list(patterns)
    if not patterns:
        raise ValueError(f"no linear layer is named; there are: {_listed(net, layers)}")
    chosen: dict[str, Layer] = {}
    for pattern in patterns:
        fitting = {name: layer for name, layer in layers.items()
                   if fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")}
        if not fitting:
            raise ValueError(f"no linear layer is called {pattern!r}; there are: {_listed(net, layers)}; name some with targets")
        chosen |= fitting
    found = []
    for linear in {id(layer.linear): layer.linear for layer in chosen.values()}.values():
        rows = sorted({(layer.rows.start, layer.rows.stop) for layer in chosen.values() if layer.linear is linear})
        if any(stop > start for (_, stop), (start, _) in zip(rows, rows[1:])):
            raise ValueError("a pattern names rows that another names too: queries, keys or values, and all three together")
        places = {(id(layer.holder), layer.key): (layer.holder, layer.key)
                  for layer in layers.values() if layer.linear is linear}
        found.append((linear, [slice(*pair) for pair in rows], list(places.values())))
    return found


def _listed(net, layers):
    return ", ".join(_short(layers)) or f"none: this is a {type(net).__name__}, no Transformer"


def _short(names):
    """Names in which the numbers of blocks are *, each once."""
    return dict.fromkeys(".".join("*" if part.isdigit() else part for part in name.split(".")) for name in names)


def _parts(owner: nn.Module, holder: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any, Any, nn.Module]]:
    """(path, holder, key, Module or Parameter, the module whose attribute it is) of all that is below."""
    for key, value in list(items(holder)):
        if isinstance(value, (nn.Module, nn.Parameter)):
            yield f"{prefix}{key}", holder, key, value, owner
        if isinstance(value, nn.Module):
            yield from _parts(value, vars(value), f"{prefix}{key}.")
        if isinstance(value, (list, tuple, dict)):  # a ModuleList is a module and a list
            yield from _parts(owner, WritableTuple(holder, key) if isinstance(value, tuple) else value, f"{prefix}{key}.")


def transformers(net: nn.Module) -> list[nn.Module]:
    """The modules with a list or tuple `blocks` of Transformer blocks.

    Raises:
        ValueError: there is none.
    """
    found = [module for module in net.modules() if (blocks := vars(module).get("blocks")) and isinstance(blocks, (list, tuple))
             and isinstance(blocks[0], nn.TransformerBlock)]
    if not found:
        raise ValueError(f"{type(net).__name__} has no Transformer blocks: this method is for BERT, CLIPText, "
                         "VisionTransformer, and networks with a list of nn.TransformerBlock called `blocks`")
    return found


def blocks(net: nn.Module) -> list[nn.TransformerBlock]:
    """All blocks of the Transformers in a network."""
    return [block for transformer in transformers(net) for block in transformer.blocks]


def parameters(net: nn.Module) -> Iterator[tuple[Any, Any, nn.Parameter]]:
    """(holder, key, Parameter) of each place outside the head."""
    head = {id(parameter) for parameter in head_of(net).parameters()}
    for _, holder, key, value, _ in _parts(net, vars(net)):
        if isinstance(value, nn.Parameter) and id(value) not in head:
            yield holder, key, value


def copied(found: Iterable[tuple[Any, Any, nn.Parameter]]) -> Iterator[Place]:
    """A copy of each Parameter of what `parameters` gives, one for all places of it."""
    copies: dict[int, nn.Parameter] = {}
    for holder, key, parameter in found:
        if id(parameter) not in copies:
            copies[id(parameter)] = nn.Parameter(parameter.data.copy())
        yield Place(holder, key, copies[id(parameter)])


def head_of(net: nn.Module) -> nn.Module:
    """The part called `head`; Identity if there is none."""
    head = getattr(net, "head", None)
    return head if isinstance(head, nn.Module) else nn.Identity()

"""A block as its own forward wires it: a graph of what it does to a feature map."""

from __future__ import annotations

import copy

import networkx as nx
import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from ghostlib.models.reparam import RepConv

_FUNCTIONS = {"add": ("join", "+"), "mul": ("join", "×"), "cat": ("join", "concat"), "mean": ("resize", "mean to"),
              "avg_pool2d": ("resize", "pool to"), "interpolate": ("resize", "scale to")}


@torch.no_grad()
def graph(block: nn.Module, x: Tensor) -> nx.DiGraph:
    """What a block does to a feature map, read off its forward.

    Args:
        block: a module that `torch.fx` can trace. It is not changed.
        x: an input (N, C, H, W); only its shape matters.

    Returns:
        A node per operation in the order of execution, named after its module or, for a function, after the module
        that calls it and itself. Its attributes:

        - `kind`: conv, depthwise, norm, activation, resize, join or map;
        - `lines`: what to say of it, in a line each;
        - `parameters`: how many it has;
        - `site`: a name that a convolution shares with the normalisation and activation right behind it, and a
          `RepConv` with all of its branches.

        An edge per feature map handed on, whose `operand` numbers the inputs of a node from 0. What changes nothing
        (an identity, a slice of everything) and what gives no feature map (a size) has no node; the running sum of a
        RepConv is one.

    Raises:
        ValueError: the block does something that has no kind here.
    """
    traced = fx.symbolic_trace(copy.deepcopy(block).eval())
    ShapeProp(traced).propagate(x)
    found, names = nx.DiGraph(), {}  # names: the operation that gave each traced value
    convolved = set()  # the sites of convolutions
    for node in traced.graph.nodes:
        if "tensor_meta" not in node.meta:
            continue
        inputs = [names[value] for value in node.all_input_nodes if value in names]
        if _changes_nothing(node):
            names[node] = inputs[0]
            continue
        module = _module(node)
        kind, lines = _describe(node, module)
        site = _repconv(node)
        if kind == "join":  # a RepConv's running sum: the last takes over the terms of the one before
            inputs = [term for name in inputs for term in _terms(found, name, site)]
        name = names[node] = _name(node, found)
        if isinstance(module, nn.Conv2d):
            convolved.add(site or name)
        parameters = sum(p.numel() for p in module.parameters()) if module else 0
        found.add_node(name, kind=kind, lines=lines, parameters=parameters, site=site or name)
        found.add_edges_from((source, name, {"operand": i}) for i, source in enumerate(inputs))
    _join_sites(found, convolved)
    return found


def _changes_nothing(node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(_module(node), (nn.Identity, nn.Dropout))
    return _function(node) == "getitem" and node.meta["tensor_meta"].shape == node.args[0].meta["tensor_meta"].shape


def _describe(node: fx.Node, module: nn.Module | None) -> tuple[str, tuple[str, ...]]:
    """The kind of an operation, and what to say of it."""
    _, channels, *size = node.meta["tensor_meta"].shape
    extent = "×".join(map(str, size))
    if node.op in ("placeholder", "output"):
        return "map", (node.op.replace("placeholder", "input"), f"{channels}×{extent}")
    if isinstance(module, nn.Conv2d):
        kernel = "×".join(map(str, module.kernel_size))
        stride = "" if module.stride == (1, 1) else f", /{module.stride[0]}"
        bias = () if module.bias is None else ("bias",)
        if module.groups == module.in_channels > 1:
            return "depthwise", (f"{kernel} DW", f"{channels}{stride}", *bias)
        return "conv", (kernel, f"{module.in_channels}→{channels}{stride}", *bias)
    if isinstance(module, nn.BatchNorm2d):
        return "norm", ("BN",)
    if type(module).__module__ == "torch.nn.modules.activation":
        return "activation", (type(module).__name__,)
    if module is None and _function(node) in _FUNCTIONS:
        kind, label = _FUNCTIONS[_function(node)]
        return kind, (label, extent) if kind == "resize" else (label,)
    raise ValueError(f"{node.target} has no kind: give it one in {__name__}")


def _module(node: fx.Node) -> nn.Module | None:
    return node.graph.owning_module.get_submodule(node.target) if node.op == "call_module" else None


def _function(node: fx.Node) -> str:
    return getattr(node.target, "__name__", str(node.target))


def _owners(node: fx.Node) -> list[tuple[str, type]]:
    """The modules that a node runs in, by name and type, from the outside in."""
    return list(node.meta.get("nn_module_stack", {}).values())


def _repconv(node: fx.Node) -> str | None:
    return next((name for name, kind in _owners(node) if kind is RepConv), None)


def _name(node: fx.Node, taken: nx.DiGraph) -> str:
    if node.op in ("placeholder", "output"):
        return node.op.replace("placeholder", "input")
    owner = _owners(node)[-1][0] if _owners(node) else ""
    name = node.target if node.op == "call_module" else f"{owner}.{_function(node)}".lstrip(".")
    calls = sum(other.partition("@")[0] == name for other in taken)
    return f"{name}@{calls}" if calls else name


def _terms(found: nx.DiGraph, name: str, site: str | None) -> list[str]:
    """The terms of a sum that belongs to the site, which is taken out; of anything else, itself."""
    if found.nodes[name]["site"] != site or found.nodes[name]["kind"] != "join":
        return [name]
    terms = list(found.pred[name])
    found.remove_node(name)
    return terms


def _join_sites(found: nx.DiGraph, convolved: set[str]) -> None:
    """Gives a normalisation or activation the site of the convolution that it, and nothing else, comes behind."""
    for name, node in found.nodes.items():
        before = list(found.pred[name])
        if node["kind"] in ("norm", "activation") and len(before) == 1 and found.out_degree(before[0]) == 1:
            site = found.nodes[before[0]]["site"]
            if site in convolved and site.rpartition(".")[0] == name.rpartition(".")[0]:
                node["site"] = site

"""Pictures compared with transformed models: an error arrives where a weight gets a gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import fxbio
from tests.viz.nets import Residual, chain, picture


def entry(modules: str, rule: str) -> str:
    where = f"{{module: [{modules}], op: linear}}"
    return f"default: bp\nrules: [{{where: {where}, rule: {rule}}}]"


INPUT = "dfa, with: {at: input, skip: sum}"
BLOCK = "dfa, with: {at: block, block: 'blocks.*'}"
CASES = [
    *((net, rule) for net in ("chain", "residual") for rule in ("fa", "dfa", "dgl", "stop")),
    *(("chain", entry("'2'", rule)) for rule in ("stop", "dfa", "dgl", INPUT)),
    *(("chain", entry("'4'", rule)) for rule in ("stop", "dfa")),
    *(("residual", entry("blocks.1.down", rule)) for rule in ("stop", "dfa", "dgl", INPUT)),
    *(("residual", entry("'blocks.1.*'", rule)) for rule in ("stop", "dfa", "dgl", BLOCK)),
    *(("residual", entry("stem, blocks.1.up", rule)) for rule in ("stop", "dfa", INPUT)),
    ("residual", entry("head", "stop")),
]
NETS: dict[str, Callable[[], nn.Module]] = {
    "chain": lambda: chain(3),
    "residual": lambda: Residual(blocks=3),
}


def loss_of(out: Tensor) -> Tensor:
    return nn.functional.cross_entropy(out, torch.arange(len(out)) % out.shape[1])


@pytest.mark.parametrize(("net", "policy"), CASES)
def test_errors_arrive_where_there_are_gradients(net: str, policy: str) -> None:
    torch.manual_seed(0)
    model = NETS[net]()
    drawn = picture(model, policy, "site")
    text = policy if ":" in policy else f"default: {policy}"
    inputs = torch.randn(2, 6)
    transformed = fxbio.transform(model, fxbio.Policy.from_yaml(f"version: 1\n{text}\n"), inputs)
    loss_of(tree_leaves(transformed(inputs))[0]).backward()
    learning = {
        name.removesuffix(".weight")
        for name, parameter in transformed.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }
    for node in drawn.nodes:
        for passage in node.passages:
            assert passage.reached == (passage.sites[0] in learning), (passage, learning)

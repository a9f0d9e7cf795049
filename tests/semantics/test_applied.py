"""Layers applied to parameters and constants alone: learned queries, relative positions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxbio

WIDTH = 8
Layer = Callable[[Tensor, str], Tensor]


class Attention(nn.Module):
    """Learned tokens attend to the input; ``queries`` says what goes through which layer."""

    def __init__(self, functional: bool) -> None:
        super().__init__()
        self.functional = functional
        self.seeds = nn.Parameter(torch.randn(3, WIDTH))
        self.register_buffer("table", torch.randn(3, WIDTH))
        self.constant = torch.linspace(-1, 1, 3 * WIDTH).view(3, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.q, self.k, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def layer(self, x: Tensor, name: str) -> Tensor:
        linear: nn.Linear = getattr(self, name)
        return F.linear(x, linear.weight, linear.bias) if self.functional else linear(x)

    def queries(self, layer: Layer) -> Tensor:
        return layer(self.seeds, "q")

    def forward(self, x: Tensor, layer: Layer | None = None) -> Tensor:
        layer = layer or self.layer
        q, k = self.queries(layer), layer(x, "k")
        return layer((q @ k.transpose(1, 2)).softmax(-1) @ k, "out")


class Expanded(Attention):
    def queries(self, layer: Layer) -> Tensor:
        return layer(self.seeds.expand(2, -1, -1), "q")


class Twice(Attention):
    def queries(self, layer: Layer) -> Tensor:
        return layer(torch.tanh(layer(self.seeds, "q")), "q")


class Normalised(Attention):
    def queries(self, layer: Layer) -> Tensor:
        return layer(self.norm(self.seeds), "q")


class Relative(Attention):
    """A table of positions is looked up before it is projected."""

    def queries(self, layer: Layer) -> Tensor:
        return layer(self.seeds[torch.tensor([0, 2, 1, 0])], "q")


class Fixed(Attention):
    """A table that does not learn."""

    def queries(self, layer: Layer) -> Tensor:
        return layer(self.table, "q")


class Tied(Attention):
    """The tokens are themselves a weight, in the layer at the end."""

    def forward(self, x: Tensor, layer: Layer | None = None) -> Tensor:
        out = super().forward(x, layer)
        return layer(out, "seeds") if layer else F.linear(out, self.seeds)


NETS = [Attention, Expanded, Twice, Normalised, Relative, Fixed, Tied]


@pytest.mark.parametrize("functional", [False, True], ids=["layers", "functions"])
@pytest.mark.parametrize("net", NETS, ids=lambda net: net.__name__)
def test_gradients_are_those_of_feedback_alignment(net: type[Attention], functional: bool) -> None:
    """As of ``f(x.detach(), W) + (t - t.detach())`` with ``t = f(x, B)``, by plain autograd."""
    torch.manual_seed(0)
    model, x = net(functional), torch.randn(2, 5, WIDTH)
    transformed = fxbio.transform(model, fxbio.Policy.uniform("fa"), x)
    feedback = fxbio.feedback_weights(transformed)

    def oracle(x: Tensor, name: str) -> Tensor:
        tied = name == "seeds"
        weight = model.seeds if tied else getattr(model, name).weight
        bias = None if tied else getattr(model, name).bias
        t = F.linear(x, feedback[name if tied else f"{name}.weight"])
        return F.linear(x.detach(), weight, bias) + (t - t.detach())

    expected, out = model(x, oracle), transformed(x)
    error = torch.randn(out.shape)
    torch.testing.assert_close(out, expected)
    out.backward(error)
    expected.backward(error)
    found = {name: p.grad for name, p in transformed.named_parameters() if p.grad is not None}
    wanted = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, msg=name)
    assert fxbio.verify(transformed).ok


@pytest.mark.parametrize("functional", [False, True], ids=["layers", "functions"])
@pytest.mark.parametrize("net", NETS, ids=lambda net: net.__name__)
def test_the_layer_is_a_site(net: type[Attention], functional: bool) -> None:
    graph = fxbio.capture(net(functional), torch.randn(2, 5, WIDTH))
    sites = [s for s in graph.sites if s.calls and s.weight == "q.weight"]
    assert [site.op for site in sites] == ["linear"] * (2 if net is Twice else 1)
    called = [site for site in graph.sites if site.calls]
    assert [site for site in called if site.of_parameters] == called[:1]  # then come activations
    assert not any(site.derived for site in sites)


@pytest.mark.parametrize("functional", [False, True], ids=["layers", "functions"])
@pytest.mark.parametrize("net", NETS, ids=lambda net: net.__name__)
def test_a_layer_that_keeps_backprop_is_no_hidden_use(
    net: type[Attention], functional: bool
) -> None:
    """What it makes of a weight with a rule is an activation, not that weight once more."""
    policy = fxbio.Policy.uniform("fa").append(where={"module": "q"}, rule="bp")
    transformed = fxbio.transform(net(functional), policy, torch.randn(2, 5, WIDTH))
    assert fxbio.verify(transformed).ok


class Projected(nn.Module):
    """Torch's own attention over learned tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = nn.Parameter(torch.randn(1, 3, WIDTH))
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.attention(self.seeds.expand(len(x), -1, -1), x, x)[0]
        return out


def test_attention_of_torch_over_learned_tokens() -> None:
    x = torch.randn(2, 5, WIDTH)
    transformed = fxbio.transform(Projected(), fxbio.Policy.uniform("fa"), x)
    verified = fxbio.verify(transformed)
    assert verified.ok
    assert not verified.idle
    assert {site.op for site in fxbio.capture(Projected(), x).sites} == {"linear"}


class Generated(nn.Module):
    """What a layer makes of an embedding is the weight of the next: the use is of that weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(4, WIDTH))
        self.w = nn.Parameter(torch.randn(WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, F.linear(self.embedding, self.w))


class PowerIteration(nn.Module):
    """A norm of a convolution, by convolutions of a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.register_buffer("u", torch.randn(1, 3, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.w / F.conv2d(self.u, self.w).norm())


@pytest.mark.parametrize(
    ("net", "shape", "weight"),
    [(Generated, (2, WIDTH), (4, WIDTH)), (PowerIteration, (2, 3, 8, 8), (4, 3, 3, 3))],
    ids=["generated", "power iteration"],
)
def test_a_step_to_a_weight_is_no_site(
    net: type[nn.Module], shape: tuple[int, ...], weight: tuple[int, ...]
) -> None:
    x = torch.randn(shape)
    (site,) = fxbio.capture(net(), x).sites
    assert (site.derived, site.of_parameters, site.shape) == (True, False, weight)
    assert fxbio.verify(fxbio.transform(net(), fxbio.Policy.uniform("fa"), x)).ok

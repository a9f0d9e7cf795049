"""What arrives at each layer, written out by hand."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxbio
from tests.routes.nets import (
    Convolutions,
    Perceptron,
    Residual,
    gradients,
    images,
    labels,
    matrix,
    rows,
    transformed,
)


def stock(model: nn.Module) -> nn.Module:
    """The same weights without routes: single layers of a routed model refuse to learn."""
    return fxbio.revert(copy.deepcopy(model))


def by_hand(model: nn.Module, losses: list[Tensor]) -> dict[str, Tensor]:
    """Gradients of a sum of losses by the parameters of the stock model."""
    named = {n: p for n, p in model.named_parameters() if "fxbio" not in n}
    grads = torch.autograd.grad(sum(losses), list(named.values()), allow_unused=True)
    return {n: g for n, g in zip(named, grads, strict=True) if g is not None}


def same(found: dict[str, Tensor | None], wanted: dict[str, Tensor]) -> None:
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, msg=lambda text, n=name: f"{n}: {text}")
    assert set(wanted) == {name for name in found if "fxbio" not in name}


def error_of(logits: Tensor, y: Tensor) -> Tensor:
    """The error of the mean cross-entropy."""
    return (logits.detach().softmax(-1) - F.one_hot(y, logits.shape[-1])) / len(y)


def sent(receiver: Tensor, error: Tensor) -> Tensor:
    """A loss whose gradient by the receiver is an error."""
    return (receiver * error.reshape(receiver.shape)).sum()


def test_each_layer_gets_its_projection_and_nothing_else() -> None:
    model, x, y = transformed(Perceptron(), rows()), rows(), labels()
    found = gradients(model, model, x, y)
    plain = stock(model)
    first = torch.relu(plain.first(x))
    second = torch.tanh(plain.second(first.detach()))
    logits = plain.last(second.detach())
    e = error_of(logits, y)
    losses = [sent(first, e @ matrix(model, "first")), sent(second, e @ matrix(model, "second"))]
    same(found, by_hand(plain, [*losses, F.cross_entropy(logits, y)]))


def test_a_skip_connection_is_cut() -> None:
    model, x, y = transformed(Residual(), rows()), rows(), labels()
    found = gradients(model, model, x, y)
    plain = stock(model)
    stem = torch.tanh(plain.stem(x))
    one = torch.tanh(stem.detach() + plain.one(stem.detach()))
    two = torch.tanh(one.detach() + plain.two(one.detach()))
    logits = plain.last(two.detach())
    e = error_of(logits, y)
    receivers = {"stem": stem, "one": one, "two": two}
    losses = [sent(h, e @ matrix(model, name)) for name, h in receivers.items()]
    same(found, by_hand(plain, [*losses, F.cross_entropy(logits, y)]))


def test_a_skip_connection_adds_up_the_receivers() -> None:
    """Only the branch of each layer is cut off; what receives above comes down the skips."""
    model, x, y = transformed(Residual(), rows(), skip="sum"), rows(), labels()
    found = gradients(model, model, x, y)
    plain = stock(model)
    stem = torch.tanh(plain.stem(x))
    one = torch.tanh(stem + plain.one(stem.detach()))
    two = torch.tanh(one + plain.two(one.detach()))
    logits = plain.last(two.detach())
    e = error_of(logits, y)
    receivers = {"stem": stem, "one": one, "two": two}
    losses = [sent(h, e @ matrix(model, name)) for name, h in receivers.items()]
    same(found, by_hand(plain, [*losses, F.cross_entropy(logits, y)]))


def test_the_form_of_biotorch() -> None:
    """The input of every layer receives; the skips add up the receivers of the layers above."""
    model = transformed(Residual(), rows(), at="input", skip="sum", init="biotorch-xavier")
    x, y = rows(), labels()
    found = gradients(model, model, x, y)
    plain = stock(model)
    stem = torch.tanh(plain.stem(x))
    one = torch.tanh(stem + plain.one(stem.detach()))
    two = torch.tanh(one + plain.two(one.detach()))
    logits = plain.last(two.detach())
    e = error_of(logits, y)
    inputs = {"one": stem, "two": one, "last": two}
    losses = [sent(h, e @ matrix(model, name)) for name, h in inputs.items()]
    same(found, by_hand(plain, [*losses, F.cross_entropy(logits, y)]))
    # Along the skips alone: each derivative of tanh on the way, and the sum of what came before.
    slope = {h: 1 - h.detach() ** 2 for h in (one, two)}
    at_two = e @ matrix(model, "last")
    at_one = e @ matrix(model, "two") + slope[two] * at_two
    at_stem = e @ matrix(model, "one") + slope[one] * at_one
    weight = ((1 - stem.detach() ** 2) * at_stem).T @ x
    torch.testing.assert_close(found["stem.weight"], weight)


@pytest.mark.parametrize("projection", ["dense", "channel"])
def test_a_convolution_receives_behind_its_nonlinearity(projection: str) -> None:
    """In front of the pooling, behind the normalisation."""
    model = transformed(Convolutions(), images(), projection=projection)
    x, y = images(), labels()
    found = gradients(model, model, x, y)
    plain = stock(model)
    one = torch.relu(plain.norm(plain.one(x)))
    two = torch.relu(plain.two(F.max_pool2d(one.detach(), 2)))
    logits = plain.last(two.detach().mean((2, 3)))
    e, losses = error_of(logits, y), [F.cross_entropy(logits, y)]
    for name, h in (("one", one), ("two", two)):
        at = e @ matrix(model, name)
        if projection == "channel":
            at = (at[:, :, None, None] / h[0, 0].numel()).expand_as(h)
        losses.append(sent(h, at))
    same(found, by_hand(plain, losses))


class PreActivated(nn.Module):
    """Blocks that begin with the nonlinearity; the stream is read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        h = h + self.one(torch.relu(h))
        h = h + self.two(torch.relu(h))
        result: Tensor = self.last(torch.relu(h))
        return result


def test_a_stream_that_is_read_before_its_nonlinearity_is_cut() -> None:
    model, x, y = transformed(PreActivated(), rows()), rows(), labels()
    found = gradients(model, model, x, y)
    plain = stock(model)
    receivers, stream = {}, plain.stem(x)
    for name, layer in (("stem", plain.one), ("one", plain.two)):
        receivers[name] = torch.relu(stream)
        stream = stream.detach() + layer(receivers[name].detach())
    receivers["two"] = torch.relu(stream)
    logits = plain.last(receivers["two"].detach())
    e = error_of(logits, y)
    losses = [sent(h, e @ matrix(model, name)) for name, h in receivers.items()]
    same(found, by_hand(plain, [*losses, F.cross_entropy(logits, y)]))


def test_without_a_nonlinearity_the_next_layer_is_where_it_receives() -> None:
    net = nn.Sequential(
        nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3)
    )
    entries = [{"where": {"module": ["0", "2"]}, "rule": "dfa"}]
    for chosen in (entries, [{"where": {"module": "0"}, "rule": "dfa"}]):
        model, x, y = transformed(net, rows(), "bp", *chosen), rows(), labels()
        found = gradients(model, model, x, y)
        plain = stock(model)
        low = plain[1](plain[0](x))
        mid = torch.relu(plain[2](low.detach()))
        both = chosen is entries
        logits = plain[4](mid.detach() if both else mid)
        e = error_of(logits, y)
        losses = [F.cross_entropy(logits, y), sent(low, e @ matrix(model, "0"))]
        losses += [sent(mid, e @ matrix(model, "2"))] if both else []
        same(found, by_hand(plain, losses))


def test_the_last_layer_learns_exactly_behind_its_own_nonlinearity_too() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3), nn.Sigmoid())
    model = transformed(net, rows())
    routes = model._fxbio_binding.routes
    assert routes.units["2"].point == "exact"
    assert set(routes.deliveries) == {("", "0")}
    found = gradients(model, model, rows())
    plain = gradients(net, net, rows())
    torch.testing.assert_close(found["2.weight"], plain["2.weight"])
    assert not torch.allclose(found["0.weight"], plain["0.weight"])


class Tokens(nn.Module):
    """Position-wise layers around attention, with logits at every position."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(self.encoder(x))
        return result


def test_a_token_model_is_projected_position_by_position() -> None:
    x = torch.randn(2, 5, 8)
    options = {"at": "block", "block": "encoder.layers.*"}
    entry = {"where": {"module": "encoder.**"}, "rule": "dfa", "with": options}
    model = transformed(Tokens(), x, "bp", entry).eval()
    assert matrix(model, "encoder.layers.0").shape == (3, 8)
    error = torch.randn(2, 5, 3)
    model(x).backward(error)
    found = {n: p.grad for n, p in model.named_parameters()}
    plain = stock(model)
    one = plain.encoder.layers[0](x)
    two = plain.encoder.layers[1](one.detach())
    losses = [
        sent(h, error @ matrix(model, f"encoder.layers.{k}")) for k, h in enumerate((one, two))
    ]
    losses.append(sent(plain.last(two.detach()), error))
    same(found, by_hand(plain, losses))


def test_several_sources_add_up() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = torch.tanh(self.trunk(x))
            return self.a(h), self.b(h)

    entry = {"where": "trunk", "rule": "dfa", "with": {"source": ["a", "b"]}}
    model, x = transformed(Heads(), rows(), "bp", entry), rows()
    a, b = model(x)
    errors = torch.randn(4, 3), torch.randn(4, 2)
    torch.autograd.backward((a, b), errors)
    plain = stock(model)
    receiver = torch.tanh(plain.trunk(x))
    at = sum(e @ matrix(model, "trunk", s) for e, s in zip(errors, "ab", strict=True))
    wanted = torch.autograd.grad(sent(receiver, at), plain.trunk.weight)[0]
    torch.testing.assert_close(model.trunk.weight.grad, wanted)


@pytest.mark.parametrize("rule", ["dfa", "dgl"])
def test_a_layer_that_reads_without_gradients_stops_no_error(rule: str) -> None:
    """It reads what has not met a nonlinearity, so that is where the layer receives."""

    class Watched(Perceptron):
        def forward(self, x: Tensor) -> Tensor:
            h = self.first(x)
            with torch.no_grad():
                self.seen = F.linear(h, torch.ones(1, 8))
            result: Tensor = self.last(torch.tanh(self.second(torch.relu(h))))
            return result

    entry = {"where": {"module": "first"}, "rule": rule}
    model, x, y = transformed(Watched(), rows(), "bp", entry), rows(), labels()
    found = gradients(model, model, x, y)
    plain = stock(model)
    h, logits = plain.first(x), plain(x)
    if rule == "dfa":
        loss = sent(h, error_of(logits, y) @ matrix(model, "first"))
    else:
        loss = F.cross_entropy(F.linear(h, model.fxbio_head_0_weight, model.fxbio_head_0_bias), y)
    [wanted] = torch.autograd.grad(loss, [plain.first.weight])
    torch.testing.assert_close(found["first.weight"], wanted)

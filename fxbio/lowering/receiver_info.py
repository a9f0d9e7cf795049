"""Information on receivers for their rules, and the check that a rule can serve them."""

from __future__ import annotations

import math

from fxbio.errors import PolicyError
from fxbio.lowering.graph_router import Receivers
from fxbio.lowering.units import RoutedUnit
from fxbio.rules.routed_rule import ConvGeometry, ReceiverInfo

__all__ = ["receiver_info", "refused"]

Shape = tuple[int, ...]


def receiver_info(each: RoutedUnit, source: str, observed: Receivers) -> ReceiverInfo:
    """Information on a receiver for the rule of its unit.

    Raises:
        PolicyError: when the error of the source does not fit, or the rule cannot serve the unit.
    """
    name = each.unit.name
    error = _single_features(each, source, observed)
    shapes = sorted(observed.receivers[name])
    shape = shapes[0]
    dim = _channel_dim(each, shape)
    if shape[0] != error[0]:
        raise refused(
            each,
            source,
            f"its error is {error}, and {shape} is to receive it: the first dimensions differ",
        )
    leading = _leading(shape, dim, error)
    others = (found for found in observed.receivers.values())
    largest = max(math.prod(s[_leading(s, dim, error) :]) for found in others for s in found)
    info = ReceiverInfo(
        name=name,
        source=source,
        shape=shape,
        channel_dim=dim,
        classes=error[1] if len(error) > 3 else error[-1],
        leading=leading,
        largest=largest,
        error_dims=len(error),
        conv=_conv_geometry(each),
    )
    reason = each.rule.unserved(info) or _varying(each, shapes, info)
    if reason is not None:
        raise refused(each, source, reason)
    return info


def refused(each: RoutedUnit, source: str, reason: str) -> PolicyError:
    """The error of a unit that cannot be served."""
    what = f"'{source}'" if source else "the model's output"
    return PolicyError(
        f"'{each.unit.name}' cannot receive the error of {what}",
        notes=[reason, f"decided by {each.unit.decided_by}"],
        help="give it another rule, or name as 'source' modules that are computed from it and "
        "whose outputs the loss is made of",
    )


def _single_features(each: RoutedUnit, source: str, observed: Receivers) -> Shape:
    shapes = sorted(observed.sources[source])
    if len({(len(s), s[1] if len(s) > 3 else s[-1]) for s in shapes}) > 1 or len(shapes[0]) < 2:
        raise refused(each, source, f"it has outputs of the shapes {', '.join(map(str, shapes))}")
    return shapes[0]


def _varying(each: RoutedUnit, shapes: list[Shape], info: ReceiverInfo) -> str | None:
    """Reason why a unit that is called with several sizes cannot be served."""
    sizes = {s[info.leading :] for s in shapes}
    if len(sizes) == 1 or not each.rule.fixes_size:
        return None
    return (
        f"it is called with {len(sizes)} sizes, and one matrix cannot fit them: choose "
        "'projection: channel'"
    )


def _leading(shape: Shape, channel_dim: int, error: Shape) -> int:
    """Number of leading dimensions that a receiver shares with the error."""
    by_position = len(shape) == len(error) == 3 and channel_dim == -1 and shape[1] == error[1]
    return 2 if by_position else 1


def _channel_dim(each: RoutedUnit, shape: Shape) -> int:
    """The dimension of a receiver that holds what its layer puts out, or takes in."""
    site = each.site
    usual = 1 if site.op.startswith("conv") else -1
    side = site.input_shape if each.unit.point == "input" else site.output_shape
    features = side[usual]
    for dim in (usual, -usual):
        if shape[dim] == features:
            return dim
    return usual


def _conv_geometry(each: RoutedUnit) -> ConvGeometry | None:
    site, layer = each.site, each.layer
    if each.unit.point != "input" or site.op not in ("conv1d", "conv2d", "conv3d"):
        return None
    kernel = site.shape[2:]
    before, after = _padding(layer, kernel)
    return ConvGeometry(kernel, layer.stride, before, after, layer.dilation)


def _padding(layer: object, kernel: Shape) -> tuple[Shape, Shape]:
    """In front and behind, by dimension."""
    padding = layer.padding  # type: ignore[attr-defined]
    if not isinstance(padding, str):
        return padding, padding
    if padding == "valid":
        return (0,) * len(kernel), (0,) * len(kernel)
    spans = [d * (k - 1) for d, k in zip(layer.dilation, kernel, strict=True)]  # type: ignore[attr-defined]
    return tuple(span // 2 for span in spans), tuple(span - span // 2 for span in spans)

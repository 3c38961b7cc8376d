"""A picture of a quantization, layer by layer: the error of each kind of tensor, and its bytes.

SVG, written with nothing but text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from pyqwen.quantize.quantization import Quantization, QuantizedTensor
from pyqwen.quantize.tensor_names import layer_of, tensor_names

# Colors that the color-blind can tell apart (Okabe and Ito, "Color Universal Design"): of the matrices of a
# layer in their order in it, then of those of no layer.
_PALETTE = ("#0072b2", "#56b4e9", "#009e73", "#cc79a7", "#e69f00", "#d55e00", "#4b4b4b")
_OUTSIDE_PALETTE = ("#8c6bb1", "#9c755f")

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 960, 64, 136, 56, 40
_PANEL, _GAP = 230, 40
_INK, _GRID = "#333333", "#dddddd"
_MEGABYTE = 1_000_000


@dataclass
class _Columns:
    """What stands where: a column for each layer, then one for each tensor of no layer."""

    labels: list[str]
    colors: dict[str, str]  # of each kind of matrix
    tensors: list[dict[str, QuantizedTensor]] = field(default_factory=list)

    @property
    def step(self) -> float:
        return (_WIDTH - _LEFT - _RIGHT) / len(self.labels)

    def x(self, column: int) -> float:
        """The middle of a column."""
        return _LEFT + (column + 0.5) * self.step


def plot_svg(result: Quantization) -> str:
    """Return an SVG document; after a dry run, which measures nothing, without the errors."""
    columns = _columns(result)
    measured = result.rms_error is not None
    height = _TOP + _BOTTOM + _PANEL + (_PANEL + _GAP if measured else 0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="Helvetica, Arial, sans-serif" '
        f'font-size="12" fill="{_INK}">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(_LEFT, 26, _title(result), size=16),
    ]
    top = _TOP
    if measured:
        parts += _error_panel(columns, top)
        top += _PANEL + _GAP
    parts += _bytes_panel(columns, top)
    parts += _layer_axis(columns, top + _PANEL)
    parts += _legend(columns)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _columns(result: Quantization) -> _Columns:
    """Matrices by column and kind; vectors are too small to be seen."""
    names = tensor_names(result.architecture)
    inside = [_kind(names.name(role)) for role in names.inputs]
    outside = [_kind(names.name(role)) for role in ("embedding", "output")]
    colors = dict(zip(inside, _PALETTE, strict=True))
    colors |= dict(zip(outside, _OUTSIDE_PALETTE, strict=True))
    found: dict[int | str, dict[str, QuantizedTensor]] = {}
    for tensor in result.tensors:
        kind, layer = _kind(tensor.name), layer_of(tensor.name)
        if kind in colors and names.role(tensor.name) is not None and len(tensor.shape) > 1:
            found.setdefault(kind if layer < 0 else layer, {})[kind] = tensor
    layers = sorted(key for key in found if isinstance(key, int))
    last = [kind for kind in outside if kind in found]
    columns = _Columns([*map(str, layers), *last], colors)
    columns.tensors = [*(found[i] for i in layers), *(found[kind] for kind in last)]
    return columns


def _kind(name: str) -> str:
    """The name of a matrix without its layer and ``.weight``."""
    return name.removesuffix(".weight").rpartition(".")[2]


def _title(result: Quantization) -> str:
    name = (result.path or result.source).name
    title = (
        f"{name}: {result.type}, {result.file_bytes / _MEGABYTE:,.0f} MB, "
        f"{result.bits_per_weight:.2f} bits per weight"
    )
    if result.rms_error is not None:
        title += f", RMS error {100 * result.rms_error:.2f} %"
    return title


def _error_panel(columns: _Columns, top: float) -> list[str]:
    errors = {
        kind: [
            (i, 100 * tensor.rms_error)
            for i, tensors in enumerate(columns.tensors)
            if (tensor := tensors.get(kind)) is not None and tensor.rms_error is not None
        ]
        for kind in columns.colors
    }
    largest = max((error for line in errors.values() for _, error in line), default=0.0)
    axis = _Axis(top, largest)
    parts = axis.draw("error of the weights, RMS, %")
    for kind, line in errors.items():
        color = columns.colors[kind]
        points = " ".join(f"{columns.x(i):.1f},{axis.y(error):.1f}" for i, error in line)
        if len(line) > 1:
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.5"/>'
            )
        parts += [
            f'<circle cx="{columns.x(i):.1f}" cy="{axis.y(error):.1f}" r="2.5" fill="{color}">'
            f"{_tooltip(columns.tensors[i][kind])}</circle>"
            for i, error in line
        ]
    return parts


def _bytes_panel(columns: _Columns, top: float) -> list[str]:
    sums = [sum(t.n_bytes for t in tensors.values()) for tensors in columns.tensors]
    axis = _Axis(top, max(sums, default=0) / _MEGABYTE)
    parts = axis.draw("size, MB")
    width = 0.8 * columns.step
    for i, tensors in enumerate(columns.tensors):
        below = 0.0
        for kind, color in columns.colors.items():
            if (tensor := tensors.get(kind)) is None:
                continue
            above = below + tensor.n_bytes / _MEGABYTE
            parts.append(
                f'<rect x="{columns.x(i) - width / 2:.1f}" y="{axis.y(above):.1f}" '
                f'width="{width:.1f}" height="{axis.y(below) - axis.y(above):.1f}" '
                f'fill="{color}">{_tooltip(tensor)}</rect>'
            )
            below = above
    return parts


def _tooltip(tensor: QuantizedTensor) -> str:
    text = f"{tensor.name}: {tensor.type}, {tensor.n_bytes / _MEGABYTE:.2f} MB"
    if tensor.rms_error is not None:
        text += f", error {100 * tensor.rms_error:.3f} %"
    return f"<title>{escape(text)}</title>"


class _Axis:
    """A vertical axis from 0 to a round number not below ``largest``."""

    def __init__(self, top: float, largest: float) -> None:
        self._top = top
        rough = (largest or 1.0) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        self._tick: float = next(n * power for n in (1, 2, 2.5, 5, 10) if n * power >= rough)
        self._ticks = math.ceil((largest or 1.0) / self._tick)

    def y(self, value: float) -> float:
        return self._top + _PANEL * (1 - value / (self._tick * self._ticks))

    def draw(self, title: str) -> list[str]:
        parts = [_text(_LEFT, self._top - 8, title, color=_INK)]
        for i in range(self._ticks + 1):
            y = self.y(i * self._tick)
            parts.append(
                f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
                f'stroke="{_GRID}"/>'
            )
            parts.append(_text(_LEFT - 8, y + 4, f"{i * self._tick:g}", anchor="end"))
        return parts


def _layer_axis(columns: _Columns, y: float) -> list[str]:
    """Numbers of layers; the legend names what stands beside them."""
    every = max(math.ceil(26 / columns.step), 1)  # a label takes so many pixels
    parts = [
        _text(columns.x(i), y + 16, label, anchor="middle")
        for i, label in enumerate(columns.labels)
        if label.isdigit() and i % every == 0
    ]
    return [*parts, _text(_LEFT, y + 34, "layer", color=_INK)]


def _legend(columns: _Columns) -> list[str]:
    shown = {kind for tensors in columns.tensors for kind in tensors}
    parts = []
    for i, kind in enumerate(kind for kind in columns.colors if kind in shown):
        x, y = _WIDTH - _RIGHT + 20, _TOP + 4 + 20 * i
        parts.append(
            f'<rect x="{x}" y="{y}" width="12" height="12" fill="{columns.colors[kind]}"/>'
        )
        parts.append(_text(x + 20, y + 10, kind))
    return parts


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, color: str = "#555555"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{color}">'
        f"{escape(text)}</text>"
    )

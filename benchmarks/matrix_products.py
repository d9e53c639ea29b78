"""Which matrix products does a piece of work make, and how long do they take alone?

The yardstick of bench_step.py. Every product the work dispatches is written down with its shapes
and strides, backward included; attention counts as the products of its definition, the experts as
one product per expert with the rows it really got. They are then run alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sleepmami.models import short_attention

aten = torch.ops.aten
Timer = Callable[[Callable[[], object]], float]

PLAIN = {
    aten.mm.default: (0, 1),
    aten.mm.out: (0, 1),
    aten.bmm.default: (0, 1),
    aten.addmm.default: (1, 2),
    aten.baddbmm.default: (1, 2),
}
ATTENTION_FORWARD = frozenset(
    {
        aten._scaled_dot_product_flash_attention_for_cpu.default,
        aten._scaled_dot_product_flash_attention.default,
        aten._scaled_dot_product_efficient_attention.default,
        aten._scaled_dot_product_cudnn_attention.default,
    }
)
ATTENTION_BACKWARD = frozenset(
    {
        aten._scaled_dot_product_flash_attention_for_cpu_backward.default,
        aten._scaled_dot_product_flash_attention_backward.default,
        aten._scaled_dot_product_efficient_attention_backward.default,
        aten._scaled_dot_product_cudnn_attention_backward.default,
    }
)
MIN_TIMED_FLOP = 2e8  # a product is repeated until one reading holds this much


class Product(NamedTuple):
    """left [(batch,) rows, inner] @ right [(batch,) inner, columns], as they lie in memory."""

    left: tuple[int, ...]
    left_stride: tuple[int, ...]
    right: tuple[int, ...]
    right_stride: tuple[int, ...]
    dtype: torch.dtype

    @property
    def flop(self) -> int:
        """Multiplications and additions."""
        rows = 1
        for size in self.left:
            rows *= size
        return 2 * rows * self.right[-1]


class ProductRecorder(TorchDispatchMode):
    """While active, counts every matrix product that reaches torch's dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.products: Counter[Product] = Counter()

    def __torch_dispatch__(
        self,
        func: Any,  # an operator overload; torch has no public type for it
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in PLAIN:
            left, right = (args[place] for place in PLAIN[func])
            self._add(left, right)
        elif func is aten._grouped_mm.default:
            self._add_groups(*args, **(kwargs or {}))
        elif func in ATTENTION_FORWARD:
            self._add_attention(*args[:3])
        elif func in ATTENTION_BACKWARD:
            self._add_attention_gradient(*args[1:4])
        elif func is short_attention.OPERATOR.default:
            self._add_attention(*heads_apart(args[0], args[1], args[-1]))
        elif func is short_attention.OPERATOR_BACKWARD.default:
            self._add_attention_gradient(*heads_apart(args[1], args[2], args[-1]))
        with self:  # what is made of other operators, as linear is in inference, is taken apart
            whole = func.decompose(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if whole is NotImplemented else whole

    def _add(self, left: Tensor, right: Tensor, count: int = 1) -> None:
        product = Product(
            tuple(left.shape), left.stride(), tuple(right.shape), right.stride(), left.dtype
        )
        self.products[product] += count

    def _add_groups(self, left: Tensor, right: Tensor, offs: Tensor, *_: object, **__: Any) -> None:
        ends = offs.tolist()
        for group, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            if start == end:
                continue
            if right.ndim == 2:  # a gradient of the weights: groups lie along the inner dimension
                self._add(left[:, start:end], right[start:end])
            else:
                self._add(left[start:end], right[group])

    def _add_attention(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Q K' and P V."""
        query_NTC, key_NKC, value_NKC = (x.flatten(0, 1) for x in (query, key, value))
        weight_NTK = query_NTC.new_empty(len(query_NTC), query_NTC.shape[1], key_NKC.shape[1])
        self._add(query_NTC, key_NKC.mT)
        self._add(weight_NTK, value_NKC)

    def _add_attention_gradient(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        """P' dO, dO V', dS K and dS' Q; not the products that a kernel makes once more."""
        query_NTC, key_NKC, value_NKC = (x.flatten(0, 1) for x in (query, key, value))
        weight_NTK = query_NTC.new_empty(len(query_NTC), query_NTC.shape[1], key_NKC.shape[1])
        output_NTC = torch.empty_like(query_NTC)
        self._add(weight_NTK.mT, output_NTC)
        self._add(output_NTC, value_NKC.mT)
        self._add(weight_NTK, key_NKC)
        self._add(weight_NTK.mT, query_NTC)


def heads_apart(query: Tensor, key_value: Tensor, num_heads: int) -> tuple[Tensor, ...]:
    """[N, T, D] and [N, T, 2 D] of short_attention.py as query, key and value [N, H, T, C]."""
    key, value = key_value.chunk(2, dim=-1)
    return tuple(
        x.unflatten(-1, (num_heads, -1)).transpose(1, 2).contiguous() for x in (query, key, value)
    )


def record(work: Callable[[], object]) -> Counter[Product]:
    """The products of one call of `work`, with how often each occurs."""
    recorder = ProductRecorder()
    with recorder:
        work()
    return recorder.products


def total_flop(products: Counter[Product]) -> int:
    """Arithmetic of all of them."""
    return sum(product.flop * count for product, count in products.items())


class Yardstick:
    """Runs products alone and keeps the best reading of each."""

    def __init__(self, products: Counter[Product], device: torch.device, timer: Timer) -> None:
        self._products = products
        self._device = device
        self._timer = timer
        self._best: dict[Product, float] = {}

    def run(self) -> None:
        """One more reading of every product, in the two layouts; only the fastest is kept."""
        for product in self._products:
            seconds = min(self._seconds(product, contiguous) for contiguous in (False, True))
            self._best[product] = min(seconds, self._best.get(product, seconds))

    @property
    def seconds(self) -> float:
        """What all products take when each runs at its best."""
        return sum(self._best[product] * count for product, count in self._products.items())

    @property
    def flop_per_s(self) -> float:
        """Rate at which the products run alone."""
        return total_flop(self._products) / self.seconds

    def _seconds(self, product: Product, contiguous: bool) -> float:
        left, right = operands(product, self._device, contiguous=contiguous)
        output = torch.matmul(left, right)
        repeats = max(1, round(MIN_TIMED_FLOP / product.flop))

        def work() -> None:
            for _ in range(repeats):
                torch.matmul(left, right, out=output)

        return self._timer(work) / repeats


def operands(product: Product, device: torch.device, *, contiguous: bool) -> tuple[Tensor, Tensor]:
    """Random operands: row-major, or with rows and columns in the order the work had them."""
    sides = []
    for shape, stride in (
        (product.left, product.left_stride),
        (product.right, product.right_stride),
    ):
        transposed = not contiguous and stride[-2] < stride[-1]
        drawn = (*shape[:-2], shape[-1], shape[-2]) if transposed else shape
        side = torch.randn(drawn, device=device).to(product.dtype)
        sides.append(side.mT if transposed else side)
    return sides[0], sides[1]

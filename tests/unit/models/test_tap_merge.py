"""The merge of patches in one pass against its plain twin: values, gradients, half precision."""

import pytest
import torch

from sleepmami.models import cpu_kernels
from sleepmami.models.tap_merge import merge_by_taps, plain_merge_by_taps

NUM_PATCHES = 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stride", [1, 4, 5])  # the odd one has no middle
@pytest.mark.parametrize("masked", [True, False])
def test_the_kernel_equals_the_plain_twin(
    masked: bool, stride: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not cpu_kernels.available():
        pytest.skip("needs a C compiler")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    generator = torch.Generator().manual_seed(0)
    patch_SBV = None
    if masked:
        patch_SBV = torch.rand(2, 3, NUM_PATCHES, generator=generator).argsort()[..., :9]
    num_tokens = 9 if masked else NUM_PATCHES
    x_SBVD = torch.randn(2, 3, num_tokens, 19, generator=generator).to(dtype)
    weight_SkD = torch.randn(2, 2 * stride, 19, generator=generator).to(dtype)
    weigh = torch.randn(2, 3, NUM_PATCHES // stride, 19, generator=generator).to(dtype)
    results = []
    for function in (merge_by_taps, plain_merge_by_taps):
        leaves = [x_SBVD.clone().requires_grad_(), weight_SkD.clone().requires_grad_()]
        out_SBMD = function(*leaves, patch_SBV, NUM_PATCHES)
        gradients = torch.autograd.grad(out_SBMD, leaves, weigh)
        results.append([out_SBMD.detach(), *gradients])
    tolerance = 1e-5 if dtype == torch.float32 else 0.03  # as in test_fused.py
    for found, expected in zip(*results, strict=True):
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=4 * tolerance)

"""The frozen copy that embeds in half precision."""

import pytest
import torch

from tests.unit.models.micro_models import ALL, EVERY_STREAM, make_model, signals


def test_a_bfloat16_copy_keeps_the_direction_of_every_vector() -> None:
    model = make_model()
    frozen = model.for_inference(torch.bfloat16)
    with torch.inference_mode():
        exact = model.embed(signals(), ALL, EVERY_STREAM)
        rounded = frozen.embed(signals(), ALL, EVERY_STREAM)
    assert rounded.dtype == torch.float32
    cosine = torch.nn.functional.cosine_similarity(exact, rounded, dim=-1)
    assert cosine.min() >= 0.999  # weights five times those of a new model, see micro_models


def test_the_copy_routes_in_float32_and_leaves_the_model_as_it_was() -> None:
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    frozen = model.for_inference(torch.bfloat16)
    kept = {name for name, value in frozen.state_dict().items() if value.dtype == torch.float32}
    layers = range(len(model.shared))
    assert kept == {
        f"shared.{layer}.experts.{name}" for layer in layers for name in ("router", "balance_bias")
    }
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_copy_gives_the_same_bits_twice(dtype: torch.dtype) -> None:
    frozen = make_model().for_inference(dtype)
    with torch.inference_mode():
        one, two = (frozen.embed(signals(), ALL, EVERY_STREAM) for _ in range(2))
    assert torch.equal(one, two)

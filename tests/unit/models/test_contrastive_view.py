"""Does eq. 2 read each modality alone while fusion hears them all, by the same weights?"""

import torch
from torch import Tensor

from sleepmami.models.moe import ExpertLoad
from tests.unit.models.micro_models import (
    ALL,
    BATCH,
    EVERY_STREAM,
    assert_same,
    make_model,
    masks_for,
    signals,
)

MODEL = make_model()
MASKS = masks_for()
MISSING = EVERY_STREAM.clone()
MISSING[2, 1] = MISSING[5] = False


def encoded(signal_SBT: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens that eq. 2 compares, and fused tokens."""
    with torch.no_grad():
        parts = MODEL._encode(signal_SBT, ALL, EVERY_STREAM, MASKS.visible_SBV, "blocked")
    return parts.shared_SBMD, parts.fused_SBMD


def test_what_is_compared_does_not_hear_other_modalities_and_what_is_fused_does() -> None:
    signal = signals()
    other = signal.clone()
    other[0] = -other[0]
    compared, fused = encoded(signal)
    other_compared, other_fused = encoded(other)
    assert torch.equal(compared[1:], other_compared[1:])
    assert not torch.equal(compared[0], other_compared[0])
    assert ((fused[1:] - other_fused[1:]).abs().flatten(1).amax(1) > 1e-3).all()


def test_what_is_compared_is_the_shared_encoder_of_a_blocked_model() -> None:
    alone = make_model(shared_view="blocked")
    alone.load_state_dict(MODEL.state_dict())
    with torch.no_grad():
        both = MODEL(signals(), ALL, MASKS, MISSING, "blocked")
        expected = alone(signals(), ALL, MASKS, MISSING)
        tokens = MODEL.contrast_tokens(signals(), ALL, MASKS, MISSING, "blocked")
    for found in (both, tokens):
        assert torch.equal(found.shared_SBMD, expected.shared_SBMD)
        assert torch.equal(found.private_SBMD, expected.private_SBMD)


def test_what_is_reconstructed_and_embedded_is_that_of_the_joint_model() -> None:
    with torch.no_grad():
        both = MODEL(signals(), ALL, MASKS, MISSING, "blocked")
        joint = MODEL(signals(), ALL, MASKS, MISSING)
    assert torch.equal(both.reconstruction_SBPT, joint.reconstruction_SBPT)
    assert not torch.equal(both.shared_SBMD, joint.shared_SBMD)


def test_the_experts_load_is_that_of_both_passes() -> None:
    alone = make_model(shared_view="blocked")
    with torch.no_grad():
        both = MODEL(signals(), ALL, MASKS, MISSING, "blocked")
        each = [model(signals(), ALL, MASKS, MISSING) for model in (MODEL, alone)]
    assert not torch.equal(each[0].expert_counts, each[1].expert_counts)
    assert torch.equal(both.expert_counts, each[0].expert_counts + each[1].expert_counts)
    num_tokens = int(MISSING.sum()) * 24
    assert both.expert_counts.sum(1).tolist() == [2 * 2 * num_tokens] * 2  # passes, active experts
    mean = (each[0].expert_probability + each[1].expert_probability) / 2
    assert_same(both.expert_probability, mean)


def test_the_load_of_two_equal_numbers_of_tokens() -> None:
    one = ExpertLoad(torch.tensor([4, 0]), torch.tensor([1.0, 0.0]))
    two = ExpertLoad(torch.tensor([1, 3]), torch.tensor([0.25, 0.75]))
    both = one.with_as_many(two)
    assert both.count_E.tolist() == [5, 3]
    assert both.probability_E.tolist() == [0.625, 0.375]


def test_embedding_runs_the_shared_encoder_once() -> None:
    rows: list[torch.Size] = []
    hook = MODEL.shared[0].register_forward_pre_hook(lambda _, call: rows.append(call[0].shape))
    with torch.no_grad():
        MODEL.embed(signals(), ALL, EVERY_STREAM)
    hook.remove()
    assert rows == [(BATCH, 6 * 24, 64)]

"""The Macro-Encoder: direction, padding, missing modalities, cycles and the night vector."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sleepmami.config import MacroEncoderConfig
from sleepmami.config_edit import replace_at
from sleepmami.models.macro_encoder import MacroEncoder, cycle_ends, reverse_nights, states_at

SMALL = MacroEncoderConfig(dim=16, forward_depth=2, backward_depth=2, state_dim=4)


@pytest.fixture
def encoder() -> MacroEncoder:
    torch.manual_seed(0)
    return MacroEncoder(SMALL, micro_dim=8)


def nights(*lengths: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape = (len(lengths), max(lengths), 6)
    micro = torch.randn(*shape, 8, generator=generator)
    return micro, torch.rand(shape, generator=generator) > 0.2, torch.tensor(lengths)


def test_default_has_the_papers_parameters_and_a_vector_per_modality() -> None:
    counts = {n: p.numel() for n, p in MacroEncoder(MacroEncoderConfig(), 384).named_parameters()}
    assert counts.pop("missing_MD") == 2304
    assert counts["projection.weight"] == 2304 * 512
    assert sum(counts.values()) == 7_964_160


def test_content_of_padding_has_exactly_no_effect(encoder: MacroEncoder) -> None:
    micro, valid, length = nights(100, 60)
    before = encoder.embed(micro, valid, length)
    micro[1, 60:], valid[1, 60:] = 1e6, True
    after = encoder.embed(micro, valid, length)
    assert torch.equal(before[0][0], after[0][0])
    assert torch.equal(before[0][1, :60], after[0][1, :60])
    assert torch.equal(before[1], after[1])


def test_longer_padding_changes_nothing(encoder: MacroEncoder) -> None:
    micro, valid, length = nights(100, 60)
    longer = torch.full((2, 50, 6, 8), 9.0)
    macro, night = encoder.embed(micro, valid, length)
    padded = (torch.cat([micro, longer], 1), torch.cat([valid, torch.ones(2, 50, 6) > 0], 1))
    macro_padded, night_padded = encoder.embed(*padded, length)
    for b, n in enumerate((100, 60)):
        assert torch.allclose(macro[b, :n], macro_padded[b, :n], rtol=0, atol=1e-6)
    assert torch.allclose(night, night_padded, rtol=0, atol=1e-6)


def test_padding_of_nan_reaches_no_gradient(encoder: MacroEncoder) -> None:
    micro, valid, length = nights(40, 25)
    micro[1, 25:] = torch.nan
    output = encoder(micro, valid, length)
    (output.forward_BLD[1, 24].sum() + output.backward_BLD[1, 24].sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_a_batch_of_unequal_nights_is_each_night_alone(encoder: MacroEncoder) -> None:
    micro, valid, length = nights(100, 1, 37, 64)
    macro, night = encoder.embed(micro, valid, length)
    for b, n in enumerate(length.tolist()):
        alone, night_alone = encoder.embed(
            micro[b : b + 1, :n], valid[b : b + 1, :n], length[b : b + 1]
        )
        assert torch.allclose(macro[b, :n], alone[0], rtol=0, atol=1e-5)
        assert torch.allclose(night[b], night_alone[0], rtol=0, atol=1e-5)


def test_backward_stack_reads_the_night_from_its_end(encoder: MacroEncoder) -> None:
    encoder.backward_stack.load_state_dict(encoder.forward_stack.state_dict())
    micro, valid, length = nights(50)
    backward = encoder(micro, valid, length).backward_BLD
    forward_of_reversed = encoder(micro.flip(1), valid.flip(1), length).forward_BLD
    assert torch.allclose(backward, forward_of_reversed, rtol=0, atol=1e-6)


def test_a_change_is_seen_forward_from_it_on_and_backward_up_to_it(encoder: MacroEncoder) -> None:
    micro, valid, length = nights(50)
    macro, _ = encoder.embed(micro, valid, length)
    micro[0, 30], valid[0, 30] = 5.0, True
    changed_LD = (encoder.embed(micro, valid, length)[0] != macro)[0]
    forward_L, backward_L = changed_LD[:, :16].any(1), changed_LD[:, 16:].any(1)
    assert forward_L.tolist() == [t >= 30 for t in range(50)]
    assert backward_L.tolist() == [t <= 30 for t in range(50)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("cuts", [[25], [1, 2, 3], [3, 40]])
def test_forward_states_of_a_night_in_pieces_are_those_of_the_night(
    encoder: MacroEncoder, cuts: list[int], dtype: torch.dtype, tolerance: float
) -> None:
    encoder.to(dtype)
    micro, valid, length = nights(50, 30)
    whole = encoder(micro, valid, length).forward_BLD
    states, parts, edges = None, [], [0, *cuts, 50]
    for start, stop in pairwise(edges):
        piece = (micro[:, start:stop], valid[:, start:stop])
        length_of_piece = (length - start).clamp(0, stop - start)
        part, states = encoder.forward_piece(*piece, length_of_piece, states)
        parts.append(part)
    forward = torch.cat(parts, 1)
    for found, expected in ((forward[0], whole[0]), (forward[1, :30], whole[1, :30])):
        assert (found - expected).norm() < tolerance * expected.norm()


def test_a_piece_wants_a_state_for_each_block(encoder: MacroEncoder) -> None:
    micro, valid, length = nights(5)
    _, states = encoder.forward_piece(micro, valid, length)
    with pytest.raises(ValueError, match="found 1 states, expected one for each of 2 blocks"):
        encoder.forward_piece(micro, valid, length, states[:1])


def test_content_of_a_missing_modality_has_exactly_no_effect(encoder: MacroEncoder) -> None:
    micro, valid, length = nights(30)
    before = encoder(micro, valid, length)
    micro[~valid] = torch.nan
    after = encoder(micro, valid, length)
    assert torch.equal(before.forward_BLD, after.forward_BLD)
    assert torch.equal(before.backward_BLD, after.backward_BLD)


def test_a_missing_modality_is_its_learned_vector(encoder: MacroEncoder) -> None:
    micro, valid, length = nights(30)
    before = encoder(micro, valid, length).forward_BLD
    given = torch.where(valid.unsqueeze(3), micro, encoder.missing_MD)
    after = encoder(given, torch.ones_like(valid), length).forward_BLD
    assert torch.equal(before, after)


def test_learned_vectors_learn_where_their_modality_is_missing(encoder: MacroEncoder) -> None:
    micro, valid, length = nights(30, 20)
    valid[:] = True
    valid[0, 3, 4] = False
    valid[1, 25:, 2] = False  # padding is not a missing modality
    output = encoder(micro, valid, length)
    (output.forward_BLD[0, -1].sum() + output.forward_BLD[1, 19].sum()).backward()
    gradient = encoder.missing_MD.grad
    assert gradient is not None
    assert gradient.ne(0).any(1).tolist() == [False, False, False, False, True, False]


def test_an_epoch_without_any_modality_is_still_embedded(encoder: MacroEncoder) -> None:
    micro, valid, length = nights(30)
    valid[0, 10:20] = False
    macro, night = encoder.embed(micro, valid, length)
    assert macro.isfinite().all()
    assert night.isfinite().all()


def test_float16_embeddings_of_a_table_are_taken(encoder: MacroEncoder) -> None:
    micro, valid, length = nights(30)
    macro, _ = encoder.embed(micro.half(), valid, length)
    expected, _ = encoder.embed(micro.half().float(), valid, length)
    assert torch.equal(macro, expected)


def test_reversing_keeps_padding_in_place_and_undoes_itself() -> None:
    hidden = torch.arange(10.0).view(2, 5, 1)
    length = torch.tensor([5, 3])
    reversed_once = reverse_nights(hidden, length)
    assert reversed_once.flatten().tolist() == [4, 3, 2, 1, 0, 7, 6, 5, 8, 9]
    assert torch.equal(reverse_nights(reversed_once, length), hidden)


def test_cycles_end_at_180c_minus_1_in_nights_long_enough() -> None:
    index, present = cycle_ends(torch.tensor([179, 180, 361, 1080]), 1080, 180)
    assert index.tolist() == [[179, 359, 539, 719, 899, 1079]] * 4
    assert present.sum(1).tolist() == [0, 1, 2, 6]
    assert present[2].tolist() == [True, True, False, False, False, False]


def test_a_rest_of_half_a_cycle_may_end_at_the_last_epoch() -> None:
    index, present = cycle_ends(torch.tensor([4, 5, 10, 14, 15, 23, 40]), 25, 10, "last")
    assert present.sum(1).tolist() == [0, 1, 1, 1, 2, 2, 3]  # of a longer night, 25 epochs count
    assert index[1, 0].item() == 4
    assert index[4].tolist() == [9, 14, 24]
    assert index[5, :2].tolist() == [9, 19]
    assert index[6].tolist() == [9, 19, 24]


def test_cycles_of_the_longest_night_of_a_batch_are_those_of_max_epochs() -> None:
    # Workers gather equal shapes though their longest nights differ.
    for partial_cycle in ("drop", "last"):
        shapes = [cycle_ends(torch.tensor([n]), 1080, 180, partial_cycle)[0].shape for n in (90, 2000)]  # fmt: skip
        assert shapes == [(1, 6), (1, 6)]


def test_each_direction_reads_at_most_max_epochs_from_its_own_end(encoder: MacroEncoder) -> None:
    micro, valid, length = nights(50, 23)
    whole = encoder(micro, valid, length)
    capped = encoder(micro, valid, length, max_epochs=30)
    assert capped.forward_BLD.shape[1] == capped.backward_BLD.shape[1] == 30
    for part, of in zip(capped, whole, strict=True):
        assert torch.allclose(part, of[:, :30], rtol=0, atol=1e-6)
    micro[0, :20] = 9.0  # more than 30 epochs before the end
    again = encoder(micro, valid, length, max_epochs=30)
    assert torch.equal(again.backward_BLD[0], capped.backward_BLD[0])
    assert not torch.equal(again.forward_BLD[0], capped.forward_BLD[0])


def test_a_gap_in_the_middle_of_a_long_night_is_read_by_nobody(encoder: MacroEncoder) -> None:
    # What macro_batch with crop="ends" hands over of a night of 50 epochs, both ends of 10.
    micro, valid, length = nights(50)
    whole = encoder(micro, valid, length, max_epochs=10)
    ends = torch.cat([torch.arange(10), torch.arange(40, 50)])
    kept = encoder(micro[:, ends], valid[:, ends], torch.tensor([20]), max_epochs=10)
    assert torch.allclose(kept.forward_BLD, whole.forward_BLD, rtol=0, atol=1e-6)
    assert torch.allclose(kept.backward_BLD, whole.backward_BLD, rtol=0, atol=1e-6)


def variant(**changes: str) -> MacroEncoder:
    torch.manual_seed(0)
    return MacroEncoder(replace_at(SMALL, changes), micro_dim=8)


def test_a_mean_over_modalities_is_that_of_the_known_ones() -> None:
    encoder = variant(input="mean")
    micro, valid, length = nights(30)
    valid[0, 5] = False
    micro[~valid] = torch.nan
    given = micro.nanmean(2, keepdim=True)
    given[0, 5] = encoder.missing_MD
    hidden = encoder.projection(given[:, :, 0])
    expected = encoder.forward_stack(hidden)
    assert torch.allclose(encoder(micro, valid, length).forward_BLD, expected, rtol=0, atol=1e-6)
    assert encoder.projection.in_features == 8
    assert encoder.missing_MD.shape == (1, 8)


def test_padding_means_nothing_to_a_mean_over_modalities() -> None:
    encoder = variant(input="mean")
    micro, valid, length = nights(20, 12)
    before = encoder.embed(micro, valid, length)
    micro[1, 12:], valid[1, 12:] = torch.nan, True
    after = encoder.embed(micro, valid, length)
    assert torch.equal(before[0][1, :12], after[0][1, :12])
    assert torch.equal(before[1], after[1])


def test_the_norm_of_the_residual_sum_makes_every_state_of_unit_size() -> None:
    encoder = variant(post_norm="residual")
    micro, valid, length = nights(20)
    block = encoder.forward_stack[0]
    hidden = torch.randn(1, 20, 16, generator=torch.Generator().manual_seed(3))
    expected = block.post_norm(hidden + block.mamba(block.pre_norm(hidden)))
    assert torch.equal(block(hidden), expected)
    states = encoder(micro, valid, length).forward_BLD
    assert torch.allclose(states.square().mean(2), torch.ones(1, 20), atol=1e-4)
    names = set(dict(encoder.forward_stack.named_parameters()))
    assert not any(name.startswith(f"{SMALL.forward_depth}.") for name in names)  # no norm more


def test_cycle_vectors_are_the_states_that_dgcl_compares(encoder: MacroEncoder) -> None:
    micro, valid, length = nights(25, 9)
    output = encoder(micro, valid, length)
    vectors = encoder.night_vectors(micro, valid, length, cycle_epochs=10)
    assert vectors.cycle_BCD.shape == (2, 2, 32)
    assert vectors.present_BC.tolist() == [[True, True], [False, False]]
    expected = torch.cat([output.forward_BLD[0, 19], output.backward_BLD[0, 19]])
    assert torch.equal(vectors.cycle_BCD[0, 1], expected)


def test_with_partial_cycles_the_last_state_is_one_of_them(encoder: MacroEncoder) -> None:
    micro, valid, length = nights(25)
    vectors = encoder.night_vectors(micro, valid, length, cycle_epochs=10, partial_cycle="last")
    output = encoder(micro, valid, length)
    assert torch.equal(vectors.cycle_BCD[0, :, :16], output.forward_BLD[0, [9, 19, 24]])


def test_a_batch_shorter_than_a_cycle_has_none() -> None:
    index, present = cycle_ends(torch.tensor([100, 179]), 179, 180)
    assert index.shape == present.shape == (2, 0)


def test_night_vector_is_the_mean_over_valid_epochs(encoder: MacroEncoder) -> None:
    micro, valid, length = nights(25, 19)
    valid[0, 3:8] = False
    valid[1, 4, 1:] = False  # one modality makes an epoch valid
    valid[1, 19:] = True  # of padding
    macro, night = encoder.embed(micro, valid, length)
    kept = torch.cat([macro[0, :3], macro[0, 8:]])
    assert torch.allclose(night[0], kept.mean(0), rtol=0, atol=1e-6)
    assert torch.allclose(night[1], macro[1, :19].mean(0), rtol=0, atol=1e-6)


def test_night_without_a_valid_epoch_is_its_last_state(encoder: MacroEncoder) -> None:
    micro, valid, length = nights(25, 9)
    valid[1] = False
    output = encoder(micro, valid, length)
    _, night = encoder.embed(micro, valid, length)
    assert torch.allclose(night[1, :16], output.forward_BLD[1, 8])
    assert torch.allclose(night[1, 16:], output.backward_BLD[1, 8])


def test_embedding_is_in_the_order_of_time_in_both_halves(encoder: MacroEncoder) -> None:
    micro, valid, length = nights(20, 12)
    output = encoder(micro, valid, length)
    macro, _ = encoder.embed(micro, valid, length)
    assert macro.shape == (2, 20, 32)
    assert torch.equal(macro[1, 0, 16:], output.backward_BLD[1, 11])
    assert torch.equal(macro[1, :12, :16], output.forward_BLD[1, :12])


def test_states_at_picks_one_state_per_cycle() -> None:
    hidden = torch.arange(12.0).view(2, 3, 2)
    picked = states_at(hidden, torch.tensor([[2, 0], [1, 1]]))
    assert picked.tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]


def test_standardized_input_is_what_an_encoder_of_raw_input_reads_of_standardized_vectors(
    encoder: MacroEncoder,
) -> None:
    micro, valid, length = nights(30, 20)
    mean, deviation = torch.randn(6, 8), torch.rand(6, 8) + 0.5
    encoder.standardize(mean, deviation)
    raw = variant(input_scale="raw")
    raw.load_state_dict(
        {n: t for n, t in encoder.state_dict().items() if not n.startswith("input_")}
    )
    given, expected = encoder(micro, valid, length), raw((micro - mean) / deviation, valid, length)
    for one, other in zip(given, expected, strict=True):
        assert torch.allclose(one[0], other[0], rtol=0, atol=1e-6)


def test_what_input_is_standardized_by_travels_with_the_weights(encoder: MacroEncoder) -> None:
    encoder.standardize(torch.full((6, 8), 3.0), torch.full((6, 8), 2.0))
    again = MacroEncoder(SMALL, micro_dim=8)
    again.load_state_dict(encoder.state_dict())
    micro, valid, length = nights(20)
    assert torch.equal(encoder.embed(micro, valid, length)[1], again.embed(micro, valid, length)[1])


def test_raw_input_has_nothing_to_be_standardized_by() -> None:
    with pytest.raises(ValueError, match="input_scale='raw'"):
        variant(input_scale="raw").standardize(torch.zeros(6, 8), torch.ones(6, 8))

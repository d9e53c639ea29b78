"""The defaults are the paper's Tables 8 and 9, typed in here a second time."""

from dataclasses import replace

import pytest

from sleepmami.config import MacroPretrainConfig, MicroPretrainConfig, ProbeConfig
from sleepmami.config_edit import replace_at
from sleepmami.evaluation.targets import apnea_question, staging_question
from sleepmami.presets import paper, paper_literal
from sleepmami.psg import EPOCH_S, MODALITIES, MODEL_RATE_HZ, PATCH_SAMPLES, SEGMENT_SAMPLES

TABLE_8_MICRO = {
    "patch_channels": (32, 64, 128),  # Conv blocks, dim
    "patch_kernels": (10, 5, 1),  # Conv blocks, kernel and stride
    "lower_dim": 128,
    "lower_depth": 2,
    "num_heads": 8,
    "merge_kernel": 10,
    "merge_stride": 5,
    "higher_dim": 384,
    "higher_depth": 2,
    "shared_depth": 4,  # MoE Transformer blocks
    "num_experts": 4,
    "num_active_experts": 2,
    "fusion_depth": 4,  # Transformer blocks with cross-attention
    "upsample_dim": 128,
    "decoder_dim": 64,
    "decoder_depth": 2,
    "decoder_heads": 4,
}
TABLE_8_MACRO = {"dim": 512, "forward_depth": 2, "backward_depth": 2}


def test_micro_architecture_is_table_8() -> None:
    model = MicroPretrainConfig().model
    assert {name: getattr(model, name) for name in TABLE_8_MICRO} == TABLE_8_MICRO


def test_macro_architecture_is_table_8() -> None:
    model = MacroPretrainConfig().model
    assert {name: getattr(model, name) for name in TABLE_8_MACRO} == TABLE_8_MACRO


def test_micro_pretraining_is_table_9() -> None:
    config = MicroPretrainConfig()
    assert config.batch_size == 512
    assert config.loop.num_passes == 3
    optimizer = config.optimizer
    assert (optimizer.beta1, optimizer.beta2, optimizer.weight_decay) == (0.9, 0.99, 0.05)
    assert (optimizer.learning_rate, optimizer.final_learning_rate) == (5e-4, 1e-8)
    loss = config.loss
    assert (loss.tau, loss.lambda_cl, loss.lambda_koleo) == (0.07, 0.1, 0.01)
    assert loss.smoothing_points == 11  # Appendix C


def test_eq_2_as_it_is_written_is_a_preset_and_the_default_differs_in_that_alone() -> None:
    literal, default = paper_literal(), paper()
    loss = literal.micro.loss
    assert (loss.slot_negatives, loss.temporal_negatives) == ("all", "equation")
    assert literal.micro.contrastive_view == "same"
    assert (default.micro.loss.slot_negatives, default.micro.contrastive_view) == (
        "same_place",
        "blocked",
    )
    settings = {"loss.slot_negatives": "same_place", "loss.contrastive_view": "auto"}
    assert replace_at(literal.micro, settings) == default.micro
    assert replace(literal, micro=default.micro) == default


def test_half_of_the_patches_are_masked_in_runs_of_one_and_four() -> None:
    masking = MicroPretrainConfig().masking  # section 3.1: 500 ms and 2 s
    assert (masking.fast_run * PATCH_SAMPLES, masking.slow_run * PATCH_SAMPLES) == (50, 200)


def test_macro_pretraining_is_table_9() -> None:
    config = MacroPretrainConfig()
    assert (config.batch_subjects, config.max_epochs, config.loop.num_passes) == (40, 1080, 4)
    optimizer = config.optimizer
    assert (optimizer.beta1, optimizer.beta2, optimizer.weight_decay) == (0.9, 0.99, 0.05)
    assert (optimizer.learning_rate, optimizer.final_learning_rate) == (1e-4, 1e-8)
    assert optimizer.warmup_fraction > 0  # "Cosine annealing with warmup"
    dgcl = config.dgcl
    assert (dgcl.rho, dgcl.v, dgcl.lambda_sex, dgcl.cycle_epochs) == (0.1, 0.5, 1.0, 180)
    assert dgcl.factors == ("age", "sex", "bmi")  # section 3.2; Table 12, row 5
    assert dgcl.missing == "exclude"  # Appendix C
    assert dgcl.reads == "state"  # eq. 4: at the end of the cycle


def test_probes_are_those_of_section_4_and_table_10() -> None:
    config = ProbeConfig()
    assert config.outcomes == ("angina", "cvd_death", "chf", "chd_death", "mi", "stroke")  # Table 3
    assert config.few_shot.num_subjects == (1, 5, 10, 20, 30, 50, 90)  # section 4.2
    assert config.wake_min == 30  # section 4.1.1
    assert config.class_weights == "table_10"
    assert staging_question().weighting == "log_5"
    assert apnea_question(config.apnea).weighting == "inverse"


def test_units_are_those_of_table_9() -> None:
    assert pytest.approx(0.5) == PATCH_SAMPLES / MODEL_RATE_HZ
    assert SEGMENT_SAMPLES / MODEL_RATE_HZ == 60
    assert (EPOCH_S, len(MODALITIES)) == (30, 6)


def test_preprocessing_is_section_3_3() -> None:
    config = paper().ingest.preprocess
    assert config.eeg_eog_band_hz == (0.3, 40.0)
    assert config.ecg_band_hz == (0.3, 60.0)
    assert (config.emg_highpass_hz, config.resp_lowpass_hz, config.notch_hz) == (10.0, 15.0, 60.0)


def test_the_paper_preset_is_the_defaults() -> None:
    assert paper().micro == MicroPretrainConfig()
    assert paper().macro == MacroPretrainConfig()

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sleepmami import storage
from sleepmami.config import MacroPretrainConfig, MicroPretrainConfig, PreprocessConfig
from sleepmami.errors import CheckpointError
from sleepmami.presets import tiny
from sleepmami.tables.demographics import DemographicStatistics
from sleepmami.training import checkpoint
from sleepmami.training.checkpoint import Bundle, bundle_exists, load_bundle, save_bundle

STATISTICS = DemographicStatistics(age_mean=60.5, age_std=11.0, bmi_mean=28.1, bmi_std=5.2)


def bundle(*, macro: bool = True) -> Bundle:
    state = {"a.weight": torch.arange(6.0).view(2, 3), "counts": torch.tensor([3, 4])}
    return Bundle(
        micro=tiny().micro,
        micro_state=state,
        preprocess=PreprocessConfig(notch_hz=50.0),
        macro=tiny().macro if macro else None,
        macro_state={"b": torch.tensor([0.5], dtype=torch.bfloat16)} if macro else None,
        demographics=STATISTICS if macro else None,
        lineage={"segments": 7},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_bundle(str(tmp_path / "bundle"), bundle())
    return tmp_path / "bundle"


def test_a_bundle_comes_back_as_it_went(folder: Path) -> None:
    loaded, original = load_bundle(str(folder)), bundle()
    assert (loaded.micro, loaded.macro) == (original.micro, original.macro)
    assert loaded.preprocess == original.preprocess
    assert loaded.demographics == STATISTICS
    assert loaded.lineage == {"segments": 7}
    assert loaded.micro_state["a.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert loaded.micro_state["counts"].dtype == torch.int64
    assert loaded.macro_state is not None
    assert loaded.macro_state["b"].dtype == torch.bfloat16
    assert loaded.model_id == original.model_id


def test_a_bundle_without_macro_comes_back_without(tmp_path: Path) -> None:
    save_bundle(str(tmp_path), bundle(macro=False))
    loaded = load_bundle(str(tmp_path))
    assert loaded.macro is None
    assert loaded.macro_state is None
    assert loaded.demographics is None


def test_a_bundle_from_before_there_were_choices_keeps_what_it_was_trained_with(
    tmp_path: Path,
) -> None:
    folder = str(tmp_path)
    save_bundle(folder, bundle())
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["macro"].pop("crop") == "ends"
    assert config["macro"]["dgcl"].pop("reads") == "state"
    assert config["macro"]["model"].pop("input_scale") == "standardized"
    assert config["micro"]["loss"].pop("contrastive_view") == "auto"
    assert config["micro"]["loss"].pop("slot_negatives") == "same_place"
    data = json.dumps(config).encode()
    (tmp_path / "config.json").write_bytes(data)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["files"]["config.json"] = {
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    loaded = load_bundle(folder)
    macro = loaded.macro
    assert loaded.micro.contrastive_view == "same"
    assert loaded.micro.loss.slot_negatives == "all"
    assert macro is not None
    assert macro.crop == "start"
    assert macro.dgcl.reads == "state"
    assert macro.model.input_scale == "raw"


def test_the_manifest_says_what_sha256sum_says(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sorted(manifest["files"]) == ["config.json", "macro.safetensors", "micro.safetensors"]
    for name, entry in manifest["files"].items():
        data = (folder / name).read_bytes()
        assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    weights = (folder / "micro.safetensors").read_bytes() + (
        folder / "macro.safetensors"
    ).read_bytes()
    assert manifest["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert manifest["model_id"] == f"sleepmami-{manifest['weights_sha256'][:12]}"


def test_the_id_follows_the_weights_and_not_the_lineage() -> None:
    original = bundle()
    assert replace(original, lineage={}).model_id == original.model_id
    other = {"b": torch.tensor([0.25], dtype=torch.bfloat16)}
    assert replace(original, macro_state=other).model_id != original.model_id


def test_the_id_does_not_depend_on_the_order_or_place_of_the_tensors() -> None:
    original = bundle()
    state = dict(reversed(original.micro_state.items()))
    state["a.weight"] = state["a.weight"].T.contiguous().T
    assert replace(original, micro_state=state).model_id == original.model_id


@pytest.mark.parametrize("name", ["config.json", "micro.safetensors", "macro.safetensors"])
def test_an_altered_file_is_named(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[-2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"{name}: found sha256 '\w+', expected '\w+'"):
        load_bundle(str(folder))


def test_a_cut_file_is_named_with_both_lengths(folder: Path) -> None:
    file = folder / "micro.safetensors"
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(
        CheckpointError, match=f"micro.safetensors: found bytes {size - 8}, expected {size}"
    ):
        load_bundle(str(folder))


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "macro.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"macro\.safetensors: found no such file"):
        load_bundle(str(folder))


def test_a_folder_without_manifest_is_unfinished(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="found an unfinished bundle"):
        load_bundle(str(folder))


def test_a_bundle_exists_once_its_manifest_does(folder: Path) -> None:
    assert bundle_exists(str(folder))
    (folder / "manifest.json").unlink()
    assert not bundle_exists(str(folder))


def test_no_folder_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="found nothing"):
        load_bundle(str(tmp_path / "nowhere"))


def test_a_manifest_that_is_not_json_is_said(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"files": ')
    with pytest.raises(CheckpointError, match=r"manifest\.json: found .*expected JSON"):
        load_bundle(str(folder))


def test_a_manifest_of_another_format_is_refused(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format_version": 3}))
    with pytest.raises(CheckpointError, match="found format_version 3, expected 2"):
        load_bundle(str(folder))


def test_a_bundle_from_before_the_shared_encoders_input_could_be_chosen_keeps_the_one_it_had(
    folder: Path,
) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["micro"]["model"].pop("shared_input") == "merged"
    data = json.dumps(config).encode()
    (folder / "config.json").write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text()) | {"format_version": 1}
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest["files"]["config.json"] = entry
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert load_bundle(str(folder)).micro.model.shared_input == "private"


def resign(folder: Path, name: str, data: bytes) -> None:
    """Replace a file and make the manifest agree: what only the content's own checks can catch."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / name).write_bytes(data)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_an_unknown_setting_is_refused_by_name(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["micro"]["model"]["depth"] = 3
    resign(folder, "config.json", json.dumps(config).encode())
    with pytest.raises(
        CheckpointError, match=r"config\.json: found unknown setting 'model\.depth'"
    ):
        load_bundle(str(folder))


def test_a_missing_group_of_settings_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["preprocess"]
    resign(folder, "config.json", json.dumps(config).encode())
    with pytest.raises(CheckpointError, match=r"config\.json: found 'preprocess'"):
        load_bundle(str(folder))


def other_layout(data: bytes) -> bytes:
    """The same tensors as a safetensors file with a longer header."""
    size = int.from_bytes(data[:8], "little")
    return (size + 8).to_bytes(8, "little") + data[8 : 8 + size] + b" " * 8 + data[8 + size :]


def test_weights_that_another_safetensors_laid_out_are_intact(folder: Path) -> None:
    micro = other_layout((folder / "micro.safetensors").read_bytes())
    resign(folder, "micro.safetensors", micro)
    manifest = json.loads((folder / "manifest.json").read_text())
    weights = hashlib.sha256(micro + (folder / "macro.safetensors").read_bytes()).hexdigest()
    manifest["weights_sha256"] = weights
    (folder / "manifest.json").write_text(json.dumps(manifest))
    loaded = load_bundle(str(folder))
    assert loaded.weights_sha256 == weights
    assert loaded.micro_state["a.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_weights_that_are_not_the_manifests_are_refused(folder: Path) -> None:
    resign(folder, "micro.safetensors", other_layout((folder / "micro.safetensors").read_bytes()))
    with pytest.raises(CheckpointError, match=r"manifest\.json: found weights_sha256"):
        load_bundle(str(folder))


def test_weights_are_serialised_once_to_save_and_never_to_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(tensors: dict[str, torch.Tensor]) -> bytes:
        calls.append(sorted(tensors))
        return serialise(tensors)

    serialise = checkpoint.tensors_to_bytes
    monkeypatch.setattr(checkpoint, "tensors_to_bytes", counted)
    save_bundle(str(tmp_path), bundle())
    loaded = load_bundle(str(tmp_path))
    assert loaded.model_id.startswith("sleepmami-")
    assert calls == [["a.weight", "counts"], ["b"]]


def test_a_loaded_bundle_with_other_weights_has_another_id(folder: Path) -> None:
    loaded = load_bundle(str(folder))
    other = {"b": torch.tensor([0.25], dtype=torch.bfloat16)}
    assert replace(loaded, macro_state=other).model_id != loaded.model_id


def test_weights_that_are_not_safetensors_are_refused(folder: Path) -> None:
    resign(folder, "micro.safetensors", b"not tensors at all")
    with pytest.raises(CheckpointError, match=r"micro\.safetensors: found .* expected safetensors"):
        load_bundle(str(folder))


def test_saving_over_a_bundle_replaces_it(folder: Path) -> None:
    save_bundle(str(folder), bundle(macro=False))
    assert load_bundle(str(folder)).macro is None


def test_an_interrupted_save_leaves_no_bundle(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = storage.write_bytes

    def full_disk(uri: str, data: bytes) -> None:
        if uri.endswith("macro.safetensors"):
            raise OSError("No space left on device")
        write(uri, data)

    monkeypatch.setattr(storage, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_bundle(str(folder), bundle())
    with pytest.raises(CheckpointError, match="unfinished"):
        load_bundle(str(folder))


def test_half_a_macro_encoder_is_refused() -> None:
    with pytest.raises(CheckpointError, match="found only its config"):
        Bundle(
            micro=MicroPretrainConfig(),
            micro_state={},
            preprocess=PreprocessConfig(),
            macro=MacroPretrainConfig(),
        )

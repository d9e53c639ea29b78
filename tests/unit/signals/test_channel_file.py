from pathlib import Path

import pytest

from sleepmami.config import PreprocessConfig
from sleepmami.errors import ConfigError
from sleepmami.signals.channel_file import read_channel_file


def test_a_file_gives_its_pairs_in_order(tmp_path: Path) -> None:
    path = tmp_path / "channels.yaml"
    path.write_text('Aux 3: ignore\nPG1: EOG left\n"C3(1)": C3-M2\n"Nas*": nasal  flow # ours\n')
    rules = read_channel_file(path)
    assert rules == (("Aux 3", "ignore"), ("PG1", "EOG left"), ("C3(1)", "C3-M2"), ("Nas*", "nasal flow"))  # fmt: skip
    assert PreprocessConfig(channels=rules).channels == rules


def test_words_that_yaml_would_make_something_else_of_stay_words() -> None:
    assert read_channel_file(b"1: SpO2\nno: ignore\n") == (("1", "SpO2"), ("no", "ignore"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Aux 3: ignore\nAux 4: the usual\n", "c.yaml, line 2: label 'Aux 4': found 'the usual'"),
        ("Aux 4:\n", "c.yaml, line 1: label 'Aux 4': found ''"),
        ("Aux 4: no\n", "found 'no'"),
        ("Aux 4: [EEG]\n", "line 1: label 'Aux 4': found a list"),
        ("a: ECG\n[b]: ECG\n", "line 2: found a list for a label"),
        ("AUX: ECG\n\naux : ignore\n", "line 3: found label 'aux' a second time"),
        ("- EEG\n", "line 1: found a list; expected a mapping"),
        ("EEG\n", "found no text; expected a mapping"),
        ("", "found an empty file"),
        ("a: 'ECG\n", "line 2: found"),
        ("a: *unknown\n", "line 1: found"),
        ("[" * 600, "c.yaml"),
        ("a: " + "x" * 1_000_001, "found more than 1000000 bytes"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_line_and_label(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_channel_file(text.encode(), "c.yaml")
    assert says in str(caught.value)
    assert "expected" in str(caught.value)


@pytest.mark.parametrize("raw", [b"\xff\xfe\x00", b"a: \x00\x01\n", b"\xc3\x28: ECG\n"])
def test_bytes_that_are_no_text_are_refused(raw: bytes) -> None:
    with pytest.raises(ConfigError, match="expected YAML"):
        read_channel_file(raw, "c.yaml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: found no such file"):
        read_channel_file(tmp_path / "none.yaml")

"""Which file belongs to which recording."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepmami.signals.pairing import (
    ANNOTATION_SUFFIXES,
    find_annotation,
    pair_annotations,
    second_annotations,
)


@pytest.mark.parametrize(
    ("recording", "annotation"),
    [
        ("d/night.edf", "d/night.xml"),
        ("d/shhs1-200001.edf", "d/shhs1-200001-nsrr.xml"),
        ("d/shhs1-200001.edf", "d/shhs1-200001-profusion.xml"),
        ("d/night.edf", "d/night_hypnogram.edf"),
        ("d/NIGHT.EDF", "d/Night-Hypnogram.EDF"),
        ("d/SC4001E0-PSG.edf", "d/SC4001EC-Hypnogram.edf"),
        ("d/ST7011J0-PSG.edf", "d/ST7011JP-Hypnogram.edf"),
        ("d/SN001.edf", "d/SN001_sleepscoring.edf"),
        ("d/01-01-0001 PSG.edf", "d/01-01-0001 Base.edf"),
        ("s3://b/edfs/shhs1-200001.edf", "s3://b/annotations/shhs1-200001-nsrr.xml"),
        ("d/night.edf", "d/night.edf.XML"),
        ("1/1.rec", "1/1_1.txt"),
        ("d/subject1.edf", "d/HypnogramR&K_subject1.txt"),
        ("d/excerpt1.edf", "d/Hypnogram_excerpt1.txt"),
        ("d/night.edf", "d/night_Schlafprofil.txt"),
        ("d/night.edf", "d/night.annot"),
        ("d/night.edf", "d/night-annot.annot"),
        ("d/night.edf", "d/night.eannot"),
        ("d/SN001.edf", "d/SN001_sleepscoring.txt"),
        ("d/ucddb002.rec", "d/ucddb002_stage.txt"),
        ("d/ucddb002.rec", "d/ucddb002_respevt.txt"),
        ("d/n1.edf", "d/n1.txt"),
        ("d/slp01a.edf", "d/slp01a.an"),
        ("d/night.edf", "d/night_stages.csv"),
        ("d/night.edf", "d/night_hypnogram.csv"),
        ("d/sub-1_task-Sleep_acq-psg_eeg.edf", "d/sub-1_task-Sleep_acq-psg_events.tsv"),
        ("d/sub-1_task-Sleep_acq-psg.edf", "d/sub-1_task-Sleep_acq-psg_events.tsv"),
    ],
)
def test_naming_schemes_of_public_cohorts(recording: str, annotation: str) -> None:
    others = [recording, "d/night2.xml", "d/._night.xml", "d/SC4002EC-Hypnogram.edf", "d/SN0011_sleepscoring.edf", "d/sub-1_task-Sleep_acq-headband_events.tsv"]  # fmt: skip
    assert find_annotation(recording, [*others, annotation]) == annotation


def test_nsrr_is_preferred_to_profusion_and_plain_xml() -> None:
    candidates = ["d/a.xml", "d/a-profusion.xml", "d/a-nsrr.xml"]
    assert find_annotation("d/a.edf", candidates) == "d/a-nsrr.xml"


@pytest.mark.parametrize(
    "table",
    ["participants.tsv", "README.txt", "x_channels.tsv", "x_scans.tsv", "x_electrodes.tsv", "x.json", "x_events.json", "metadata.csv", "subjects.csv", "._x.xml", "._x.txt"],
)  # fmt: skip
def test_tables_of_other_things_are_nobodys_scoring(table: str) -> None:
    own_name = f"d/{table.rpartition('.')[0]}.edf"
    for recording in (own_name, "d/x.edf", "d/x_eeg.edf"):
        assert find_annotation(recording, [f"d/{table}"]) is None


def test_a_stage_list_is_preferred_to_the_respiratory_events_beside_it() -> None:
    files = ["d/ucddb002_respevt.txt", "d/ucddb002_stage.txt"]
    assert find_annotation("d/ucddb002.rec", files) == "d/ucddb002_stage.txt"


def test_every_suffix_that_pairs_is_one_that_is_listed() -> None:
    assert {"." + suffix.rpartition(".")[2] for suffix in SUFFIXES} == set(ANNOTATION_SUFFIXES)


def test_the_own_folder_comes_before_a_better_name_elsewhere() -> None:
    assert find_annotation("d/a.edf", ["e/a-nsrr.xml", "d/a.xml"]) == "d/a.xml"


def test_another_recordings_annotation_is_not_taken() -> None:
    files = ["sub-1/night.edf", "sub-1/night.xml", "sub-2/night.edf"]
    assert find_annotation("sub-1/night.edf", files) == "sub-1/night.xml"
    assert find_annotation("sub-2/night.edf", files) is None


def test_two_equal_matches_elsewhere_are_no_match() -> None:
    assert find_annotation("edf/a.edf", ["x/a.xml", "y/a.xml"]) is None


def test_one_file_elsewhere_is_not_given_to_nights_of_two_folders() -> None:
    nights = ["v1/night.edf", "v2/night.edf"]
    assert pair_annotations(nights, ["scored/night.xml"]) == dict.fromkeys(nights)


def test_two_formats_of_one_night_share_its_annotation() -> None:
    nights = ["edf/night.edf", "edf/night.bdf"]
    paired = pair_annotations(nights, ["scored/night.xml"])
    assert paired == dict.fromkeys(nights, "scored/night.xml")


# Every pair is looked at, and the rules are written out one after another.
WORDS = ["events", "hypnogram", "stage", "stages", "staging", "sleepscoring", "sleepscore", "sleepstage", "sleepstages", "scoring", "scores", "hypno", "annotation", "annotations", "annot", "epochs", "labels", "respevt"]  # fmt: skip
SUFFIXES = [
    "-nsrr.xml", "-profusion.xml", ".xml", "-hypnogram.edf", "-sleepscoring.edf", "-base.edf",
    "-annotations.edf", "-hypnogram.bdf", ".annot", "-annot.annot", ".eannot",
    *(f"-{word}.{ending}" for word in WORDS for ending in ("tsv", "csv", "txt")),
    ".an", ".tsv", ".csv", ".txt",
]  # fmt: skip


def plain(path: str) -> tuple[str, str]:
    folder, _, file = path.rpartition("/")
    return folder, file.lower().replace("_", "-").replace(" ", "-")


def names_of(recording: str) -> set[str]:
    """The stem, and for Sleep-EDF all but the scorer's letter."""
    stem = plain(recording)[1].rpartition(".")[0]
    sleep_edf = stem[:2] in ("sc", "st") and stem[2:6].isdecimal() and stem[6:7].isalpha()
    more = {stem[:7] + "?"} if sleep_edf and stem[8:] == "-psg" else set()
    short = next((stem[:-4] for end in ("-psg", "-eeg") if stem.endswith(end)), stem)
    return {stem, short, *more}


def rank_of(recording: str, annotation: str) -> int | None:
    file = plain(annotation)[1]
    for rank, suffix in enumerate(SUFFIXES):
        if any(file == name + suffix for name in names_of(recording)):
            return rank
    fits = file[:7] + "?" in names_of(recording) and file[8:] == "-hypnogram.edf"
    return len(SUFFIXES) if fits else None


def slow_pairs(recordings: Sequence[str], candidates: Sequence[str]) -> dict[str, str | None]:
    pairs: dict[str, str | None] = {}
    for recording in recordings:
        folder, _, file = recording.rpartition("/")
        namesakes = [r for r in recordings if names_of(r) & names_of(recording)]
        in_one_folder = len({plain(r)[0] for r in namesakes}) == 1
        ranked = []
        for candidate in set(candidates):
            theirs = plain(candidate)[0]
            alone = f"{theirs}/{file}" not in [*recordings, *candidates]
            rank = rank_of(recording, candidate)
            if rank is not None and (theirs == folder or (alone and in_one_folder)):
                ranked.append((theirs != folder, rank, candidate))
        best = [r for r in ranked if r[:2] == min(ranked)[:2]]
        pairs[recording] = best[0][2] if len(best) == 1 else None
    return pairs


folders = st.sampled_from(["a", "b", "b/c"])
stems = st.sampled_from(["n", "N", "n_psg", "n-PSG", "n_eeg", "m", "sc4001e0-psg", "SC4001E0_PSG", "st4001e0-psg"])  # fmt: skip
scorers = st.sampled_from(["n", "N", "m", "n-hypnogram", "SC4001EC", "sc4001eh", "sc4001e0", "sc4001e"])  # fmt: skip
endings = st.sampled_from([*SUFFIXES[:12], "_Hypnogram.edf", " base.EDF", ".edf", ".txt", "_eeg.xml", "_Stages.CSV", ".an"])  # fmt: skip
recording_paths = st.builds("{}/{}.{}".format, folders, stems, st.sampled_from(["edf", "bdf"]))
candidate_paths = st.builds("{}/{}{}".format, folders, scorers, endings)


@settings(max_examples=40)
@given(st.lists(recording_paths, unique=True, max_size=4), st.lists(candidate_paths, max_size=6))
def test_pairs_are_those_of_the_rules_one_after_another(
    recordings: list[str], candidates: list[str]
) -> None:
    for files in (candidates, [*candidates, *recordings]):
        assert pair_annotations(recordings, files) == slow_pairs(recordings, files)
    for recording in recordings:
        assert find_annotation(recording, candidates) == slow_pairs([recording], candidates)[recording]  # fmt: skip


@pytest.mark.parametrize("path", ["edf/night{:05}.edf", "{:05}/night.edf"])
def test_every_night_of_a_cohort_gets_its_own_file(path: str) -> None:
    nights = [path.format(number) for number in range(2000)]
    scored = [night.removesuffix(".edf") + suffix for night in nights for suffix in (".xml", "-nsrr.xml")]  # fmt: skip
    pairs = pair_annotations(nights, scored)
    assert pairs == {night: night.removesuffix(".edf") + "-nsrr.xml" for night in nights}


def test_a_hypnogram_is_not_its_own_annotation() -> None:
    name = "d/SC4001EC-Hypnogram.edf"
    assert find_annotation(name, [name]) is None


def test_the_second_file_is_the_next_best_beside_the_recording_and_no_recording() -> None:
    beside = ["c/a_stage.txt", "c/a_respevt.txt", "c/a.edf", "d/a_respevt.txt", "c/b-nsrr.xml"]
    assert second_annotations(["c/a.rec", "c/b.edf"], beside) == {
        "c/a.rec": "c/a_respevt.txt",
        "c/b.edf": None,
    }


def test_of_two_experts_and_two_rules_the_first_is_taken() -> None:
    files = ["1/1_1.txt", "1/1_2.txt"]
    assert pair_annotations(["1/1.rec"], files) == {"1/1.rec": "1/1_1.txt"}
    files = ["d/HypnogramR&K_subject1.txt", "d/HypnogramAASM_subject1.txt"]
    assert find_annotation("d/subject1.edf", files) == "d/HypnogramAASM_subject1.txt"


def test_a_numbered_text_is_of_the_recording_of_its_whole_name() -> None:
    recordings = ["d/1.edf", "d/1_1.edf"]
    assert pair_annotations(recordings, ["d/1_1.txt"]) == {
        "d/1.edf": None,
        "d/1_1.edf": "d/1_1.txt",
    }


def test_a_scoring_that_is_an_edf_is_found_among_the_recordings() -> None:
    files = [
        "d/SN001.edf",
        "d/SN001_sleepscoring.edf",
        "d/SC4001E0-PSG.edf",
        "d/SC4001EC-Hypnogram.edf",
    ]
    found = pair_annotations(files, files)
    assert found["d/SN001.edf"] == "d/SN001_sleepscoring.edf"
    assert found["d/SC4001E0-PSG.edf"] == "d/SC4001EC-Hypnogram.edf"

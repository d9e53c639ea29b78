"""Which scorer's file belongs to which recording; names decide.

`night.edf` goes with `night-nsrr.xml`, `night.annot`, `night_stages.csv` and the like,
`SC4001E0-PSG.edf` with `SC4001EC-Hypnogram.edf`, `x_acq-psg_eeg.edf` with `x_acq-psg_events.tsv`,
`night.edf` with `night.edf.xml` of Profusion, `1.rec` of ISRUC with its first expert's `1_1.txt`,
`subject1.edf` of DREAMS with `HypnogramAASM_subject1.txt`.
"""

import re
from collections.abc import Iterator, Sequence

ANNOTATION_SUFFIXES = (
    ".xml",
    ".edf",
    ".bdf",
    ".annot",
    ".eannot",
    ".tsv",
    ".csv",
    ".txt",
    ".an",
)

# A scorer's file next to night.edf, best first: what follows the recording's name.
_TEXT_WORDS = (
    "events hypnogram stage stages staging sleepscoring sleepscore sleepstage sleepstages "
    "scoring scores hypno annotation annotations annot epochs labels respevt "
    "hypnogramm hypnogramme hipnograma ipnogramma schlafprofil stg"
)
_SUFFIXES = (
    "-nsrr.xml",
    "-profusion.xml",
    ".xml",
    "-hypnogram.edf",
    "-sleepscoring.edf",
    "-base.edf",
    "-annotations.edf",
    "-hypnogram.bdf",
    ".annot",
    "-annot.annot",
    ".eannot",
    *(f"-{word}{ending}" for word in _TEXT_WORDS.split() for ending in (".tsv", ".csv", ".txt")),
    ".an",
    ".tsv",
    ".csv",
    ".txt",
)
_RANKS = {suffix: rank for rank, suffix in enumerate(_SUFFIXES)}
_RANK_OF_ISRUC = len(_SUFFIXES) + 2
# tables about people, channels and folders, never a scoring
_NEVER = re.compile(
    r"(participants|subjects|readme|metadata|manifest|dataset-description|licen[cs]e|changes)\.\w+"
    r"|.*-(channels|electrodes|coordsystem|scans|sessions)\.tsv|\.-.*"
)
_SEPARATORS = str.maketrans("_ ", "--")
_RECORDING_SUFFIX = re.compile(r"-(psg|eeg)$")
_ENDING = re.compile(r"\.(edf|bdf|rec)$")
_DREAMS = re.compile(r"hypnogram(aasm|r&k)?-(.+)\.txt")
_ISRUC = re.compile(r"(\d{1,3})-1\.txt")  # the first of two experts
_SLEEP_EDF = re.compile(r"(s[ct]\d{4}[a-z]).-psg\.")  # the last letter is the scorer's


def find_annotation(edf_path: str, candidates: Sequence[str]) -> str | None:
    """The scorer's file of one recording among candidate paths, or None; see `pair_annotations`."""
    return pair_annotations([edf_path], candidates)[edf_path]


def pair_annotations(recordings: Sequence[str], candidates: Sequence[str]) -> dict[str, str | None]:
    """The scorer's file of each recording among candidate paths, or None.

    The same folder is preferred. Names like `night.xml` repeat, so a file in another folder is
    taken only if it is the only one of its kind, no recording of that name lies beside it, and all
    recordings of that name lie in one folder.
    """
    index = _AnnotationIndex(recordings, candidates)
    return {recording: index.find(recording) for recording in recordings}


def second_annotations(
    recordings: Sequence[str], candidates: Sequence[str]
) -> dict[str, str | None]:
    """The next best text or XML file beside each recording, or None.

    Some cohorts keep stages and events apart: `ucddb002_stage.txt` and `ucddb002_respevt.txt`.
    """
    texts = [file for file in candidates if not file.lower().endswith((".edf", ".bdf"))]
    index = _AnnotationIndex(recordings, texts)
    return {recording: index.second(recording) for recording in recordings}


class _AnnotationIndex:
    """Candidates by the names of the recordings they may belong to."""

    def __init__(self, recordings: Sequence[str], candidates: Sequence[str]) -> None:
        self._files = {*recordings, *candidates}
        # by a name of `_names` and `_own_names`: (rank, path) of candidates, folders of recordings
        self._in_folder: dict[tuple[str, str], list[tuple[int, str]]] = {}
        self._anywhere: dict[str, list[tuple[int, str]]] = {}
        self._folders: dict[str, set[str]] = {}
        self._elsewhere: dict[str, str | None] = {}  # by the file name of a recording
        for recording in recordings:
            folder, _, file = recording.rpartition("/")
            for name in _own_names(file):
                self._folders.setdefault(name, set()).add(folder)
        for candidate in dict.fromkeys(candidates):
            folder, _, file = candidate.rpartition("/")
            stem = file.lower().translate(_SEPARATORS).rpartition(".")[0]
            for rank, name in _names(file):
                if rank == _RANK_OF_ISRUC and folder in self._folders.get(stem, ()):
                    continue  # 1_1.txt beside 1_1.edf is not of 1.edf
                self._in_folder.setdefault((name, folder), []).append((rank, candidate))
                self._anywhere.setdefault(name, []).append((rank, candidate))

    def second(self, recording: str) -> str | None:
        beside = self._beside(recording)
        best = min((rank for rank, _ in beside), default=None)
        return _only_best([(rank, path) for rank, path in beside if rank != best])

    def _beside(self, recording: str) -> list[tuple[int, str]]:
        folder, _, file = recording.rpartition("/")
        names = _own_names(file)
        return [found for name in names for found in self._in_folder.get((name, folder), ())]

    def find(self, recording: str) -> str | None:
        file = recording.rpartition("/")[2]
        names = list(_own_names(file))
        beside = self._beside(recording)
        if beside:
            return _only_best(beside)
        if file not in self._elsewhere:
            self._elsewhere[file] = self._find_elsewhere(file, names)
        return self._elsewhere[file]

    def _find_elsewhere(self, file: str, names: Sequence[str]) -> str | None:
        if any(len(self._folders[name]) > 1 for name in names):
            return None
        return _only_best(
            [
                (rank, path)
                for name in names
                for rank, path in self._anywhere.get(name, ())
                if f"{path.rpartition('/')[0]}/{file}" not in self._files
            ]
        )


def _names(annotation: str) -> Iterator[tuple[int, str]]:
    """(rank, name) of the recordings that an annotation's file name may belong to, best rank 0."""
    normal = annotation.lower().translate(_SEPARATORS)
    if _NEVER.fullmatch(normal):
        return
    stem, dot, ending = normal.rpartition(".")
    name, _, word = stem.rpartition("-")
    for suffix, its in ((f"-{word}{dot}{ending}", name), (f"{dot}{ending}", stem)):
        rank = _RANKS.get(suffix)
        its = _ENDING.sub("", its)
        if rank is not None and its:
            yield rank, its
    dreams, isruc = _DREAMS.fullmatch(normal), _ISRUC.fullmatch(normal)
    if dreams:
        yield len(_SUFFIXES) + (dreams[1] != "aasm"), dreams[2]
    if isruc:
        yield _RANK_OF_ISRUC, isruc[1]
    if normal[8:] == "-hypnogram.edf":
        yield len(_SUFFIXES), f"{normal[:7]}/"  # no file name has a "/"; the next letter differs


def _own_names(recording: str) -> Iterator[str]:
    """The names under which a recording's annotation is found."""
    normal = recording.lower().translate(_SEPARATORS)
    stem = normal.rpartition(".")[0]
    yield stem
    short = _RECORDING_SUFFIX.sub("", stem)
    if short != stem:
        yield short
    sleep_edf = _SLEEP_EDF.match(normal)
    if sleep_edf:
        yield f"{sleep_edf[1]}/"


def _only_best(found: Sequence[tuple[int, str]]) -> str | None:
    """The path of the best rank; None where none or several have it."""
    best = min((rank for rank, _ in found), default=None)
    paths = [path for rank, path in found if rank == best]
    return paths[0] if len(paths) == 1 else None

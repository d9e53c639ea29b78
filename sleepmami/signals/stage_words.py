"""Names and codes of sleep stages: AASM, Rechtschaffen & Kales, and what cohorts made of them.

Names are sure: `REM`, `S2` and `Sleep stage 4` mean one thing. Bare numbers are not: REM is 5 for
the NSRR, 4 for BIDS tables and 1 for St. Vincent's. A list of numbers is believed only when every
code system that fits it gives the same stages, or when the file says which one it uses.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache

from sleepmami.psg import Stage

STAGE_NAMES: Mapping[str, Stage] = {
    name: stage
    for stage, names in {
        Stage.WAKE: "w wk wake awake wakefulness s0 n0 wach eveil veille vigilia veglia sveglio"
        " despierto acordado waak wakker czuwanie sdo:wakestate",
        Stage.N1: "n1 s1 nrem1 nonrem1 sdo:nonrapideyemovementsleep-n1",
        Stage.N2: "n2 s2 nrem2 nonrem2 sdo:nonrapideyemovementsleep-n2",
        Stage.N3: "n3 s3 nrem3 nonrem3 n4 s4 nrem4 nonrem4 sws n3/n4 s3/s4 s3+s4 slowwavesleep"
        " sdo:nonrapideyemovementsleep-n3 sdo:nonrapideyemovementsleep-n4",
        Stage.REM: "r rem paradoxal paradoxical sommeilparadoxal suenorem sonnorem"
        " sdo:rapideyemovementsleep",
    }.items()
    for name in names.split()
}
# in a list or column of stages; elsewhere an artifact is no stage
_UNSCORED = (
    "? ?? - u l a m mt movement movementtime bewegung unknown undefined unscored notscored unsure "
    "none n/a na nan nd ns artifact artefact artefakt disconnected"
)
UNSCORED_NAMES = frozenset(_UNSCORED.split())
_NUMBERED: Mapping[str, Stage] = {  # only after a word such as "stage"
    "0": Stage.WAKE,
    "1": Stage.N1,
    "2": Stage.N2,
    "3": Stage.N3,
    "4": Stage.N3,
    "5": Stage.REM,
}
_PREFIX = re.compile(
    r"(sleep[ _-]?|schlaf)?(?:stage|stadium|stade|stadio|estadio|estagio|etapa|fase|faza)"
    r"[ _:-]*(.*)"
)
_CAP = re.compile(r"sleep-(s[0-4]|n[1-3]|w|wake|r|rem|mt|unscored)")
_WORDY = re.compile(r"stage ([0-5]) sleep|(n[123]|rem) sleep")
_CODE = re.compile(r"\|\d$")  # of the NSRR: `Wake|0`
MAX_NAME = 40  # longer texts name no stage

CodeSystem = Mapping[int, Stage]
NSRR_CODES: CodeSystem = {int(code): stage for code, stage in _NUMBERED.items()}
BIDS_CODES: CodeSystem = dict(enumerate((Stage.WAKE, Stage.N1, Stage.N2, Stage.N3, Stage.REM)))
ST_VINCENT_CODES: CodeSystem = dict(
    enumerate((Stage.WAKE, Stage.REM, Stage.N1, Stage.N2, Stage.N3, Stage.N3))
)
DREAMS_CODES: CodeSystem = dict(
    enumerate((Stage.N3, Stage.N3, Stage.N2, Stage.N1, Stage.REM, Stage.WAKE))
)
CODES = range(6)  # every other number is movement, artifact or unscored in all of them


def plain_text(text: str) -> str:
    """Lower case without accents, for comparing words."""
    if text.isascii():
        return text.strip().lower()
    decomposed = unicodedata.normalize("NFKD", text.replace("\u0142", "l"))  # l with stroke
    return "".join(c for c in decomposed if not unicodedata.combining(c)).strip().lower()


@lru_cache(maxsize=4096)
def stage_of_text(text: str, *, bare: bool) -> Stage | None:
    """The stage a text names, UNKNOWN for movement and unscored, None for anything else.

    Args:
        text: as the scorer wrote it; what follows "@@" is a channel's name.
        bare: whether a name alone, such as "R", is one. Numbers alone never are.
    """
    if len(text) > MAX_NAME + 40:
        return None
    name = _CODE.sub("", plain_text(text.partition("@@")[0]))
    if len(name) > MAX_NAME:
        return None
    if name.startswith("movement time"):
        return Stage.UNKNOWN
    wordy = _WORDY.fullmatch(name)
    if wordy:
        return _NUMBERED[wordy[1]] if wordy[1] else STAGE_NAMES[wordy[2]]
    cap = _CAP.fullmatch(name)
    if cap:
        return STAGE_NAMES.get(cap[1], Stage.UNKNOWN)
    prefixed = _PREFIX.fullmatch(name)
    if prefixed:
        rest = _joined(prefixed[2])
        other = Stage.UNKNOWN if prefixed[1] else None  # "Sleep stage ?" is, "Stage shift" is not
        deep = Stage.N3 if rest == "3/4" else other
        return _NUMBERED.get(rest, STAGE_NAMES.get(rest, deep))
    joined = _joined(name)
    return STAGE_NAMES.get(joined) if bare or joined.startswith("sdo:") else None


def stage_in_list(text: str) -> Stage | None:
    """The stage that an entry of a stage list names, UNKNOWN for unscored, None for other texts."""
    stage = stage_of_text(text, bare=True)
    if stage is None and _joined(plain_text(text[:MAX_NAME])) in UNSCORED_NAMES:
        return Stage.UNKNOWN
    return stage


def _joined(name: str) -> str:
    """Without spaces, and without dashes except in ontology concepts."""
    joined = name.replace(" ", "")
    return joined if joined.startswith("sdo:") else joined.replace("-", "").replace("_", "")


def codes_that_fit(values: Iterable[int]) -> CodeSystem | None:
    """The code system of a list of bare numbers; None when several fit and disagree.

    A 5 rules the BIDS codes out, where REM is 4 and nothing 5. A 5 without a 4 rules St. Vincent's
    out, where it would be a night with S4 and no S3. DREAMS counts down and always says so.
    """
    found = {value for value in values if value in CODES}
    systems = [NSRR_CODES]
    if 5 not in found:
        systems.append(BIDS_CODES)
    if 5 not in found or 4 in found:
        systems.append(ST_VINCENT_CODES)
    agreed = all(len({system[value] for system in systems}) == 1 for value in found)
    return systems[0] if agreed else None


_KEY = re.compile(
    r"(?<![\w.])(-?\d{1,2})\s*[=:]\s*\"?((?:sleep )?(?:stage )?[a-z0-9/]{1,14})", re.IGNORECASE
)


def codes_by_key(comment: str) -> CodeSystem | None:
    """Codes that a comment explains, as in `# 0=W 1=N1 2=N2 3=N3 4=REM`; None without such."""
    key = {}
    for code, name in _KEY.findall(comment[:2000]):
        stage = stage_in_list(name)
        if stage is not None:
            key[int(code)] = stage
    return key if len(key) >= 3 else None


def code_hint(words: str) -> CodeSystem | None:
    """The code system that a file or column name stands for, or None."""
    words = words.lower()
    if re.search(r"ucddb\d{3}", words):
        return ST_VINCENT_CODES
    if re.fullmatch(r"stage_(hum|ai)|hypno_int|yasa.*", words):
        return BIDS_CODES
    if re.search(r"(^|_)(rk|r_k|nsrr|profusion)(_|$)|^(user|cast)_defined_stage$", words):
        return NSRR_CODES
    return None

"""The words of EDF labels: how a label is cut into words, and what each word stands for.

The vocabulary is closed: a word is known when it stands here, is put together of words that stand
here (`Brustgurt`, `lchin`), or is the beginning of one (labels end after 16 characters). What is
not known never leaves the program (`safe_label`), because a label may hold a person's name.
"""

from __future__ import annotations

import functools
import re
from enum import Enum, auto

from sleepmami.signals.units import readable


class Meaning(Enum):
    """What one word stands for; most words of a label name a sensor or the place of one."""

    ELECTRODE = auto()
    LINKED = auto()  # a computed reference
    LEFT = auto()
    RIGHT = auto()
    HORIZONTAL = auto()
    VERTICAL = auto()
    NUMBER = auto()
    LETTER = auto()  # of a lead or an axis; says nothing alone
    EEG = auto()
    EYE = auto()
    EMG = auto()
    CHIN = auto()
    ECG = auto()
    LIMB = auto()
    SATURATION = auto()
    OXYGEN = auto()
    FLOW = auto()
    NASAL = auto()
    THERMISTOR = auto()
    AIR = auto()
    PRESSURE = auto()
    DEVICE = auto()
    THORAX = auto()
    ABDOMEN = auto()
    EFFORT = auto()
    BREATHING = auto()
    INDUCTANCE = auto()
    SUM = auto()
    STATUS = auto()
    IMPEDANCE = auto()
    RATE = auto()
    EVENT = auto()
    HYPNOGRAM = auto()
    BOOKKEEPING = auto()
    SNORE = auto()
    PLETH = auto()
    POSITION = auto()
    GAS = auto()
    TEMPERATURE = auto()
    LIGHT = auto()
    MOVEMENT = auto()
    VENTILATOR = auto()
    PULSE = auto()
    CIRCULATION = auto()
    COMPUTED = auto()
    FILLER = auto()


_SCALP = r"(?:(?:fp|af|ft|fc|tp|cp|[fctpo])(?:z|10|[1-9])|po[z3478]|iz)"
_MASTOID = r"[am][12]"
_EYE = r"(?:e[12]|loc|roc|pg[12])"
ELECTRODE = re.compile(rf"{_SCALP}|{_MASTOID}|{_EYE}")

_WORDS: dict[Meaning, str] = {
    Meaning.LINKED: "cle ler le lm ar avg av ave average car mean mittel linked lma",
    Meaning.LEFT: (
        "l left li links linkes linker lks lt sx sin sinistro sinistra izq izquierdo izquierda"
        " izda gauche gau g esq esquerdo esquerda"
        " lewe lewy lewa"
    ),
    Meaning.RIGHT: (
        "r right re rechts rechtes rechter rt dx dex destro destra der derecho derecha dcho"
        " dcha droit droite d dir direito direita"
        " prawe prawy prawa"
    ),
    Meaning.HORIZONTAL: "h hor horiz horizontal horizontale hog",
    Meaning.VERTICAL: "v ver vert vertical vertikal vertic verticale vog upper lower",
    Meaning.EEG: (
        "eeg elektroenzephalogramm electroencefalograma elektroencephalogramm elettroencefalogramma"
    ),
    Meaning.EYE: (
        "eog oog oeil yeux eye eyes auge augen ojo ojos olho olhos occhio occhi ogen oculo"
        " ocular oculogram okulogramm elektrookulogramm"
        " oko oczu"
    ),
    Meaning.EMG: "emg elektromyogramm electromyogram muscle muskel musculo muscolo muskeltonus",
    Meaning.CHIN: (
        "chin subchin mental mentalis mentonian mentonniere menton mento mentoniano submental"
        " submentalis submentonian submentoniano submentoniere sottomentoniero subment subm kinn"
        " kin queixo barbilla mentum mylo mylohyoid milo milohioideo miloioideo genioglossus"
        " geniogloss suprahyoid"
        " mentoniera houppe broda brodka podbrodek"
    ),
    Meaning.ECG: (
        "ecg ekg mlii mli cardio electrocardiogram elektrokardiogramm cardiogram"
        " electrocardiograma electrocardiogramme elettrocardiogramma cardiac"
    ),
    Meaning.LIMB: (
        "leg legs leggs tib tibial tibialis tibia anterior ant ta lat rat plm plms bein beine"
        " beinen been benen jambe jambes pierna piernas perna pernas gamba gambe arm arms bras"
        " brazo braco braccio fds edb edc flex flexor ext extensor masseter massater masset"
        " deltoid delt deltoideus intercost intercostal intercostalis ric diaphragm diaphragma"
        " diafragma scalene scm biceps triceps temporalis trapezius foot feet fuss hand wrist"
        " limb limbs neck should shoulder quadriceps gastroc gastrocnemius massete armle armri"
        " tible tibri tibd tibg"
        " noga nogi piszczelowy wade unterschenkel mollet peroneus kiefer lips gesicht facial"
        " gluteus soleus parasternal interkostal zwerchfell bizeps"
    ),
    Meaning.SATURATION: (
        "spo2 sao2 so2 sp02 sa02 s02 spo sao sato2 sat02 o2sat 02sat satsp sat sato satur"
        " saturation saturacion saturacao saturazione saturatie sattigung saettigung satt osat"
        " tcspo2 ptspo2 hspo2 oxym oxim oxymetry oximetry oximeter oxymeter oxymetre oximetre"
        " oximetrie oxymetrie oximetro oximetria ossimetro ossimetria ossimetry pulsox pulsoxi"
        " pulsoxy pulsoxymetrie pulsoximetrie pulsoximeter pulsoxymeter oxysat oxisat sentecspo2"
        " tcsao2 spo2bb"
        " saturacja pulsoksymetr pulsoksymetria"
    ),
    Meaning.OXYGEN: (
        "oxygen oxygene oxigeno oxigenio ossigeno zuurstof sauerstoff sauerstoffsattigung"
        " sauerstoffsaettigung ox oxy oxi"
    ),
    Meaning.FLOW: (
        "flow flows flo fluss flux fluxo flujo flusso debit stroom stroming atemstrom pneumo"
        " pneumotach pneumotacho pneumotachograph pnt stromung stroemung altflow"
        " przeplyw"
    ),
    Meaning.NASAL: (
        "nasal nasale nasaler nasales nas nase nasen naso nariz neus nez cannula canula cannule"
        " cann cnla canule kanule kanuele cannulas canulas nasenkanule nasenkanuele nasenbrille"
        " neusbril lunettes gafas prong prongs ptaf np npre npress npt npaf npv pnasal"
        " nasenstaudruck staudruck cannul canul nasalp nasalac nasaldc nasp nspres"
        " kaniula"
    ),
    Meaning.THERMISTOR: (
        "therm thermo ther thermistor thermistors thermistance thermocouple thermoelement"
        " thermal thermisch thermic termistor termistore termistori termopar termocoppia termico"
        " termica termi termo oral orale oro oronasal buccal bucal boca bouche mund mond bocca"
        " mouth naf naf1 naf2 naf2p naf2n oralor nasor nasalor nasoral therms thermist oraltherm"
        " thermistanz tflow"
    ),
    Meaning.AIR: (
        "air airflow newair luft luftfluss luftstrom luchtstroom luchtstroming aire atemfluss"
    ),
    Meaning.PRESSURE: "press pres pressure druck druk presion pressao pressione pression",
    Meaning.DEVICE: (
        "cpap bipap bpap apap autopap xpap pcpap ppap pap ppc mask maske masque maschera device"
        " vent ventilator ventilation ipap epap beatmung beatmungs therapie therapy"
    ),
    Meaning.THORAX: (
        "thorax thoracic thoracique thorakal thoracal thor tho thx thrx thora thorac torax"
        " torac torace toracico toracica thoraco chest brust brustkorb thorx borst borstkas"
        " borstband rib ribcage rc vth pecho peito petto poitrine chestdc thoraxdc thordc"
        " thoracodc"
        " klatka piersiowa piersiowy"
    ),
    Meaning.ABDOMEN: (
        "abdomen abdominal abdominale abd abdm abdo abdom ab addome addominale abdomino bauch"
        " abdmn abdominell buik buikband ventre barriga belly vab pancia vientre addom abddc"
        " abdomendc abdodc"
        " brzuch brzuszny"
    ),
    Meaning.EFFORT: (
        "eff effort efforts belt belts gurt gurte gordel cinta banda fascia sangle sangles"
        " ceinture esforco esfuerzo sforzo anstrengung inspanning aufwand piezo strain band"
    ),
    Meaning.BREATHING: (
        "resp respi res respiration respiratory respiratoire respiracion respiracao"
        " respiratorio respiratoria respirazione respiro atem atmung adem ademhaling breath"
        " breathing ventilatory"
    ),
    Meaning.INDUCTANCE: "rip rips crip x xflow inductance inductive indukt plethysmography",
    Meaning.SUM: "sum summe somme suma soma somma som sums xsum ripsum",
    Meaning.STATUS: "off stat status qual quality qualitat qualitaet sqi artifact artefact oxstat",
    Meaning.IMPEDANCE: "imp imped impedance impedanz impedancia",
    Meaning.RATE: (
        "hr dhr hrate hrt rate rates bpm rr rri pr prr frequenz herzfrequenz atemfrequenz freq"
        " frequency frequence frecuencia frequencia frequenza pulsfrequenz hrv"
        " fc hf"
    ),
    Meaning.EVENT: (
        "event events evt evts marker marca trig trigger triggers annotation annotations stim"
        " ereignis button dtrig dig annots qrs"
    ),
    Meaning.HYPNOGRAM: "hypno hypnogram hypnogramm hypnogramme stage stages staging schlafstadien",
    Meaning.BOOKKEEPING: "crc date time battery bat batt batterie bateria akku video counter",
    Meaning.SNORE: (
        "snore snores snoring snor snorg schnarch schnarchen schnarc schnar ronquido ronquidos"
        " ronco ronflement ronflements russamento russare snurk snurken mic micro micr"
        " microphone mikro mikrofon mikrophon microfono microfone audio sound son phono voice"
        " noise nasalsn psnore"
        " chrapanie dzwiek suono sonido bruit gerausch geluid trachea tracheal larynx"
    ),
    Meaning.PLETH: (
        "pleth plet plethy plethys plethysmo plethysmogram plethysmogramm pletismografia ppg"
        " ptt pat pwa pwv pwf plethwv pletismo pulswelle tcppg sentecppg infra infrared"
        " plethysmograph"
    ),
    Meaning.POSITION: (
        "pos posn posit position positionsen posicion posicao posizione positie body lage"
        " korperlage koerperlage lagesensor ligging elevation angle posangle bodypos bpos"
    ),
    Meaning.GAS: (
        "co2 etco2 etco petco2 tcco2 tco2 tcpco2 ptcco2 ptco2 tcpo2 pco2 paco2 po2 pao2 fico2"
        " fio2 ptcpco2 ptcpo2 tcco tcpco capno capnography capnometry capnogram kapno"
        " kapnographie capnowave cap etco2w stco2 eto2 ptc endtidal co2et sco2 sto2 sentec tosca"
        " etpco2 oralco2"
        " rso2 scto2 ctso2 scvo2 svo2 nirs tsi toi cerebral"
    ),
    Meaning.TEMPERATURE: (
        "temp temperature temperatur temperatura temps rectal rektal humidity hum humid tube"
        " skin haut"
    ),
    Meaning.LIGHT: "light lights lux licht luz lumiere luce lumin ambient",
    Meaning.MOVEMENT: (
        "acc accel acceleration accelerometer acti activity actigraphy actigraph aktiv"
        " aktivitat aktivitaet gravity grav gravx gravy gravz imu axis gyro movement motion mvt"
        " bewegung beweg mouvement movimiento movimento beweging phase vibration"
    ),
    Meaning.VENTILATOR: (
        "leak leaks leck leckage fuite fuga epr tid tidal tvol vol volume volumen xvolume min max"
        " lim limit limitation flowlim mass ti te ie itime etime ratio mode ramp blow blower set"
        " tgt"
        " insp exp peak"
    ),
    Meaning.PULSE: (
        "pulse puls pulso pouls polso polsslag pols heart herz beat beats hartslag coeur cuore"
        " corazon coracao"
    ),
    Meaning.CIRCULATION: (
        "blood systolic diastolic arterial bp abp sv ph nibp"
        " arterielle arteriel arteriale esophagus esophageal oesophagus oesophageal esofageo eso"
        " esoph pes poes gastric pgas epiglottic epi pharyngeal intracranial icp cvp barometric atm"
    ),
    Meaning.COMPUTED: "alpha beta gamma delta theta sigma power envelope spectral psd sef",
    Meaning.FILLER: (
        "ref reference psg pol alt dif diff new old sec primary secondary channel chan ch kanal"
        " canal canale lead leads patient aux unfiltered filtered filt cal raw sensor signal bb"
        " sub nonin masimo finger main spare second first bipolar db ms hz sen wv dc cu dr pt"
        " level index wave fin p n s end th uv mv center centre ctr hires backup trach ac"
        " integral inter"
    ),
    Meaning.LETTER: "a b c e f i ii iii iv y z avf avl avr v1 v2 v3 v4 v5 v6 iihf",
}
_MEANING = {word: meaning for meaning, text in _WORDS.items() for word in text.split()}
# What glued words are put together of. Short words without much meaning are left out: with them,
# too many names would be words (`Polsen`); a side is glued to what has sides (`Leogr`, not `Carl`).
_NEVER_GLUED = {
    Meaning.FILLER,
    Meaning.LINKED,
    Meaning.LETTER,
    Meaning.HORIZONTAL,
    Meaning.VERTICAL,
    Meaning.VENTILATOR,
    Meaning.CIRCULATION,
    Meaning.COMPUTED,
}
_NAMES = ("flores", "reyes")  # no `flo res`, no `r eyes`: common family names
_SIDES = {Meaning.LEFT, Meaning.RIGHT}
_SIDED = {Meaning.EYE, Meaning.EMG, Meaning.ECG, Meaning.CHIN, Meaning.LIMB}
_PIECES_BY_START: dict[str, list[str]] = {}
for _word, _meaning in _MEANING.items():
    _shortest = 4 if _meaning in _SIDES else 3
    if len(_word) >= _shortest and _meaning not in _NEVER_GLUED:
        _PIECES_BY_START.setdefault(_word[0], []).append(_word)
_BEFORE = frozenset("lrchv")
_AFTER = frozenset(("l", "r", "c", "h", "v", "li", "re", "sx", "dx", "i", "ii", "iii"))
SPACED_ELECTRODE = re.compile(
    r"^((?:EEG|EOG|PSG)[ _])?([CEFOP])[ _]([1-4z])(?=[-:/])", re.IGNORECASE
)
_UNIT_OF_FLOW = re.compile(r"\bm?l/(?:min|s)\b", re.IGNORECASE)
_SIDE_THEN_NUMBER = re.compile(r"([lr])(\d+)")
_SHORTEST_BEGINNING = 4  # of a word cut short
_MAX_GLUED = 24
_DEVICE_LETTERS = {("c", "flow"), ("c", "press"), ("c", "pres"), ("c", "pressure")}
_GLUED_PAIR = re.compile(
    rf"({_SCALP}|{_EYE}|{_MASTOID})((?:{_SCALP}|{_EYE}|{_MASTOID}){{1,2}}|cle|ler|le|avg|av|ar|car|ref)"
)


@functools.lru_cache(maxsize=8192)
def meaning_of(word: str) -> Meaning | None:
    """What a lower-case word stands for; None when it is not known."""
    if word.isdigit():
        return Meaning.NUMBER
    if word in _MEANING:
        return _MEANING[word]
    if ELECTRODE.fullmatch(word):
        return Meaning.ELECTRODE
    if len(word) >= _SHORTEST_BEGINNING:
        begun = {
            m for known, m in _MEANING.items() if known[0] == word[0] and known.startswith(word)
        }
        if len(begun) == 1:
            return begun.pop()
    return None


def in_vocabulary(word: str) -> bool:
    """Whether the lower-case word stands in the vocabulary as it is."""
    return word in _MEANING or bool(ELECTRODE.fullmatch(word))


def words(label: str) -> list[str]:
    """The label's lower-case words: `EEG(sec)` -> eeg, sec; `C3M2` -> c3, m2."""
    text = re.sub(r"\b([A-Za-z])\.([A-Za-z])\b\.?", r"\1\2", readable(label))  # H.R. -> HR
    text = SPACED_ELECTRODE.sub(r"\1\2\3", _UNIT_OF_FLOW.sub(" ", text))
    return [word for run in re.findall(r"[A-Za-z0-9]+", text) for word in words_of_run(run)]


@functools.lru_cache(maxsize=8192)
def words_of_run(run: str) -> tuple[str, ...]:
    """The lower-case words of letters and digits that nothing separates."""
    whole = _split(run.lower())
    if whole is not None:
        return whole
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", run)  # LegL, RespRate
    spaced = re.sub(r"(?<=[A-Za-z0-9])(?=[A-Z][a-z]{2})", " ", spaced)  # RIPFlow, SpO2Status
    pieces = spaced.lower().split()
    split = [_split(piece) for piece in pieces]
    if len(pieces) == 1 or all(part is None for part in split):
        return (run.lower(),)
    if any(part is None for part in split) and any(
        part and all(ELECTRODE.fullmatch(word) for word in part) for part in split
    ):
        return (run.lower(),)  # an unknown word that happens to end like an electrode
    return tuple(
        word for piece, part in zip(pieces, split, strict=True) for word in (part or (piece,))
    )


def _split(word: str) -> tuple[str, ...] | None:
    """Known words that the word is, or is put together of; None when it is not known."""
    if any(name in word for name in _NAMES):
        return None
    if word in _MEANING or word.isdigit():
        return (word,)
    if electrodes := _electrodes(word):
        return electrodes
    if len(word) <= _MAX_GLUED and (glued := _unglue(word, None)):
        return glued
    return (word,) if meaning_of(word) else None


def _electrodes(word: str) -> tuple[str, ...] | None:
    """`c3`, or `c3m2` cut in two."""
    if ELECTRODE.fullmatch(word):
        return (word,)
    if pair := _GLUED_PAIR.fullmatch(word):
        return (pair[1], *re.findall(rf"{_SCALP}|{_EYE}|{_MASTOID}|[a-z]+", pair[2]))
    return None


def _unglue(word: str, before: Meaning | None) -> tuple[str, ...] | None:
    """The fewest known words in a row that `word` is, behind a word that means `before`."""
    if not word:
        return ()
    if before in (Meaning.EEG, Meaning.EYE) and (known := _electrodes(word)):
        return known
    if before in _SIDED:
        if word in _AFTER or (before is Meaning.EYE and word in ("d", "g")):
            return (word,)
        if sided := _SIDE_THEN_NUMBER.fullmatch(word):
            return (sided[1], sided[2])
    found: list[tuple[str, ...]] = []
    if before is not None and (digits := re.match(r"\d+", word)):
        rest = _unglue(word[digits.end() :], before)
        if rest is not None:
            found.append((digits[0], *rest))
    if before is None and word[0] in _BEFORE:
        rest = _unglue(word[1:], Meaning.LETTER)
        if rest and (_MEANING.get(rest[0]) in _SIDED or (word[0], rest[0]) in _DEVICE_LETTERS):
            found.append((word[0], *rest))
    for piece in _PIECES_BY_START.get(word[0], ()):
        if word.startswith(piece):
            rest = _unglue(word[len(piece) :], _MEANING[piece])
            if rest is not None:
                found.append((piece, *rest))
    return min(found, key=len, default=None)

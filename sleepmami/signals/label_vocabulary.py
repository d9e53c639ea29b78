"""The vocabulary of EDF labels: the words that are known, by what each of them stands for.

The list is closed: what is not known never leaves the program (`label_privacy.py`), because a label
may hold a person's name. How labels are cut into these words is in `label_words.py`.
"""

from __future__ import annotations

import re
from enum import Enum, auto


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
    UNUSED = auto()
    MAKER = auto()  # of the sensor
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


SCALP = r"(?:(?:fp|af|ft|fc|tp|cp|[fctpo])(?:z|10|[1-9])|po[z3478]|iz)"
MASTOID = r"[am][12]"
EYE = r"(?:e[12]|loc|roc|pg[12]|o[gd])"  # OG and OD: oeil gauche and droit
ELECTRODE = re.compile(rf"{SCALP}|{MASTOID}|{EYE}")

WORDS: dict[Meaning, str] = {
    Meaning.LINKED: "cle ler le lm ar avg av ave average car mean mittel linked lma ax mx",
    Meaning.LEFT: (
        "l left li links linkes linker lks lt sx sin sinistro sinistra izq izquierdo izquierda"
        " izda gauche gau g esq esquerdo esquerda"
        " lewe lewy lewa va vanster vasen venstre sol levy"
    ),
    Meaning.RIGHT: (
        "r right re rechts rechtes rechter rt dx dex destro destra der derecho derecha dcho"
        " dcha droit droite d dir direito direita"
        " prawe prawy prawa ho hoger oikea hojre hoyre sag pravy"
    ),
    Meaning.HORIZONTAL: "h hor horiz horizontal horizontale hog heo",
    Meaning.VERTICAL: "v ver vert vertical vertikal vertic verticale vog veo upper lower",
    Meaning.EEG: (
        "eeg elektroenzephalogramm electroencefalograma elektroencephalogramm elettroencefalogramma"
    ),
    Meaning.EYE: (
        "eog oog oeil yeux eye eyes auge augen ojo ojos olho olhos occhio occhi ogen oculo"
        " ocular oculogram okulogramm elektrookulogramm"
        " oko oczu oga ogat oje silma goz szem"
    ),
    Meaning.EMG: "emg elektromyogramm electromyogram muscle muskel musculo muscolo muskeltonus",
    Meaning.CHIN: (
        "chin subchin mental mentalis mentonian mentonniere menton mento mentoniano submental"
        " submentalis submentonian submentoniano submentoniere sottomentoniero subment subm kinn"
        " kin queixo barbilla mentum mylo mylohyoid milo milohioideo miloioideo genioglossus"
        " geniogloss suprahyoid"
        " mentoniera houppe broda brodka podbrodek brada haka hake leuka cene"
    ),
    Meaning.ECG: (
        "ecg ekg mlii mli cardio electrocardiogram elektrokardiogramm cardiogram"
        " dii diii einthoven electrocardiograma electrocardiogramme elettrocardiogramma cardiac"
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
        " atl atr lta rta tal tar alae ben jalka jalat noha nohy bacak"
        " gluteus soleus parasternal interkostal zwerchfell bizeps"
        " thigh calf shin ankle knee knie vastus thenar paraspinal back tongue zunge orbicularis"
        " apb edl oberschenkel cuisse muslo pantorrilla coscia polpaccio coxa panturrilha"
    ),
    Meaning.SATURATION: (
        "spo2 sao2 so2 sp02 sa02 s02 spo sao sato2 sat02 o2sat 02sat satsp sat sato satur"
        " saturation saturacion saturacao saturazione saturatie sattigung saettigung satt osat"
        " tcspo2 ptspo2 hspo2 oxym oxim oxymetry oximetry oximeter oxymeter oxymetre oximetre"
        " oximetrie oxymetrie oximetro oximetria ossimetro ossimetria ossimetry pulsox pulsoxi"
        " pulsoxy pulsoxymetrie pulsoximetrie pulsoximeter pulsoxymeter oxysat oxisat sentecspo2"
        " tcsao2 spo2bb"
        " satur happisaturaatio saturaatio mattnad saturace saturasyon saturasjon maetning"
        " saturacja pulsoksymetr pulsoksymetria"
    ),
    Meaning.OXYGEN: (
        "oxygen oxygene oxigeno oxigenio ossigeno zuurstof sauerstoff sauerstoffsattigung"
        " sauerstoffsaettigung ox oxy oxi"
    ),
    Meaning.FLOW: (
        "flow flows flo fluss flux fluxo flujo flusso debit stroom stroming atemstrom pneumo"
        " pneumotach pneumotacho pneumotachograph pnt stromung stroemung altflow"
        " przeplyw pneum flode akis prutok"
    ),
    Meaning.NASAL: (
        "nasal nasale nasaler nasales nas nase nasen naso nariz neus nez cannula canula cannule"
        " cann cnla canule kanule kanuele cannulas canulas nasenkanule nasenkanuele nasenbrille"
        " neusbril lunettes gafas prong prongs ptaf np npre npress npt npaf npv pnasal"
        " nasenstaudruck staudruck cannul canul nasalp nasalac nasaldc nasp nspres"
        " kaniula nazal nazalni ncpt can pflow pflo"
    ),
    Meaning.THERMISTOR: (
        "therm thermo ther thermistor thermistors thermistance thermocouple thermoelement"
        " thermal thermisch thermic termistor termistore termistori termopar termocoppia termico"
        " termica termi termo oral orale oro oronasal buccal bucal boca bouche mund mond bocca"
        " mouth naf naf1 naf2 naf2p naf2n oralor nasor nasalor nasoral therms thermist oraltherm"
        " thermistanz tflow ont"
    ),
    Meaning.AIR: (
        "air airflow newair luft luftfluss luftstrom luchtstroom luchtstroming aire atemfluss"
        " ilmavirta"
    ),
    Meaning.PRESSURE: "press pres pressure druck druk presion pressao pressione pression",
    Meaning.DEVICE: (
        "cpap bipap bpap apap resmed autopap xpap pcpap ppap pap ppc mask maske masque maschera"
        " device"
        " vent ventilator ventilation ipap epap beatmung beatmungs therapie therapy"
    ),
    Meaning.THORAX: (
        "thorax thoracic thoracique thorakal thoracal thor tho thx thrx thora thorac torax"
        " torac torace toracico toracica thoraco chest brust brustkorb thorx borst borstkas"
        " borstband rib ribcage rc vth pecho peito petto poitrine chestdc thoraxdc thordc"
        " thoracodc"
        " klatka piersiowa piersiowy torako brostkorg brost bryst rinta hrudnik gogus mellkas"
    ),
    Meaning.ABDOMEN: (
        "abdomen abdominal abdominale abd abdm abdo abdom ab addome addominale abdomino bauch"
        " abdmn abdominell buik buikband ventre barriga belly vab pancia vientre addom abddc"
        " abdomendc abdodc"
        " brzuch brzuszny buk mage mave vatsa bricho"
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
    Meaning.INDUCTANCE: "rip rips crip xflow inductance inductive indukt plethysmography",
    Meaning.SUM: "sum summe somme suma soma somma som sums xsum ripsum",
    Meaning.STATUS: (
        "off sta stat status qual quality qualitat qualitaet sqi artifact artefact oxstat"
    ),
    Meaning.IMPEDANCE: "imp imped impedance impedanz impedancia",
    Meaning.RATE: (
        "hr dhr hrate hrt rate rates bpm rr rri pr prr frequenz herzfrequenz atemfrequenz freq"
        " frequency frequence frecuencia frequencia frequenza pulsfrequenz hrv"
        " fc hf fr"
    ),
    Meaning.EVENT: (
        "event events evt evts marker marca trig trigger triggers annotation annotations stim"
        " ereignis button desat desaturation odi dtrig dig annots qrs arousal arousals photic sync"
    ),
    Meaning.HYPNOGRAM: "hypno hypnogram hypnogramm hypnogramme stage stages staging schlafstadien",
    Meaning.BOOKKEEPING: "crc date time battery bat batt batterie bateria akku video counter",
    Meaning.SNORE: (
        "snore snores snoring snor snorg schnarch schnarchen schnarc schnar ronquido ronquidos"
        " ronco ronflement ronflements russamento russare snurk snurken mic micro micr"
        " microphone mikro mikrofon mikrophon microfono microfone audio sound son phono voice"
        " noise nasalsn psnore"
        " chrapanie chrapani snarkning kuorsaus horlama dzwiek suono sonido bruit gerausch geluid"
        " trachea tracheal larynx"
    ),
    Meaning.PLETH: (
        "pleth plet plethy plethys plethysmo plethysmogram plethysmogramm pletismografia ppg"
        " ptt pat pwa pwv pwf plethwv pletismo pulswelle tcppg sentecppg infra infrared"
        " plethysmograph"
    ),
    Meaning.POSITION: (
        "pos posn posit position positionsen posicion posicao posizione positie body lage"
        " korperlage koerperlage lagesensor ligging asento poloha pozisyon elevation angle posangle"
        " bodypos bpos"
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
        " insp exp peak winx"
    ),
    Meaning.PULSE: (
        "pulse puls syke tep nabiz pulso pouls polso polsslag pols heart herz beat beats hartslag"
        " coeur cuore"
        " corazon coracao"
    ),
    Meaning.CIRCULATION: (
        "blood systolic diastolic arterial bp abp sv ph nibp"
        " arterielle arteriel arteriale esophagus esophageal oesophagus oesophageal esofageo eso"
        " esoph pes poes gastric pgas epiglottic epi pharyngeal intracranial icp cvp barometric atm"
        " penile tumescence rigidity tip base"
    ),
    Meaning.COMPUTED: (
        "alpha beta gamma delta theta sigma power envelope spectral psd sef"
        " edr bis rms amplitude period swing"
    ),
    Meaning.UNUSED: "spare unused notused",
    Meaning.MAKER: "nonin masimo nellcor",
    Meaning.FILLER: (
        "ref reference psg pol alt dif diff new old sec primary secondary channel chan ch kanal"
        " canal canale lead leads patient aux unfiltered filtered filt cal raw sensor signal bb"
        " sub finger main second first bipolar db ms hz sen wv dc cu dr pt"
        " level index wave fin p n s end th uv mv center centre ctr hires backup trach ac"
        " integral inter eg pds"
    ),
    Meaning.LETTER: "a b c e f i ii iii iv x y z avf avl avr v1 v2 v3 v4 v5 v6 iihf",
}

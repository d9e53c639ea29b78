"""Montages of public cohorts and of devices, with the channel that each modality should come from.

A channel is (label, unit, rate in Hz); a derivation is expected as "label - label".
"""

from sleepmami.psg import Modality

EEG, EOG, EMG, ECG, RESP, SPO2 = (
    Modality.EEG, Modality.EOG, Modality.EMG, Modality.ECG, Modality.RESP, Modality.SPO2,
)  # fmt: skip
Row = tuple[str, str, float]
Expected = dict[Modality, str]


def fast(rate_hz: float, *labels: str, unit: str = "uV") -> list[Row]:
    return [(label, unit, rate_hz) for label in labels]


def slow(rate_hz: float, *labels: str, unit: str = "") -> list[Row]:
    return [(label, unit, rate_hz) for label in labels]


MONTAGES: dict[str, tuple[list[Row], Expected]] = {
    "SHHS1": (
        [*slow(1, "SaO2", unit="%"), *slow(1, "H.R.", unit="BPM"), *fast(125, "EEG(sec)", "ECG", "EMG"),
         *fast(50, "EOG(L)", "EOG(R)"), *fast(125, "EEG"),
         *slow(10, "SOUND", "AIRFLOW", "THOR RES", "ABDO RES"), *slow(1, "POSITION", "LIGHT", "OX stat")],
        {EEG: "EEG", EOG: "EOG(L)", EMG: "EMG", ECG: "ECG", RESP: "AIRFLOW", SPO2: "SaO2"},
    ),
    "SHHS2": (
        [*slow(1, "SaO2", unit="%"), *slow(1, "PR", unit="BPM"), *fast(128, "EEG(sec)"), *fast(256, "ECG"),
         *fast(128, "EMG"), *fast(64, "EOG(L)", "EOG(R)"), *fast(128, "EEG"),
         *slow(8, "AIRFLOW", "THOR RES", "ABDO RES"), *slow(1, "POSITION", "LIGHT"), *slow(8, "NEW AIR"),
         *slow(1, "OX stat")],
        {EEG: "EEG", EOG: "EOG(L)", EMG: "EMG", ECG: "ECG", RESP: "NEW AIR", SPO2: "SaO2"},
    ),
    "MESA": (
        [*fast(256, "EKG", "EOG-L", "EOG-R", "EMG", "EEG1", "EEG2", "EEG3"),
         *slow(32, "Pres", "Flow", "Snore", "Thor", "Abdo", "Leg", "Therm", "Pos"),
         *slow(1, "EKG_Off", "EEG1_Off"), *slow(256, "Pleth"), *slow(1, "OxStatus"),
         *slow(1, "SpO2", unit="%"), *slow(1, "HR", "DHR", unit="bpm")],
        {EEG: "EEG3", EOG: "EOG-L", EMG: "EMG", ECG: "EKG", RESP: "Flow", SPO2: "SpO2"},
    ),
    "MrOS visit 1": (
        [*fast(256, "C3", "C4", "A1", "A2", "LOC", "ROC"), *fast(512, "ECG L", "ECG R"),
         *fast(256, "L Chin", "R Chin", "Leg L", "Leg R"), *slow(32, "Thoracic", "Abdominal"),
         *slow(64, "Cannula Flow", "Airflow"), *slow(1, "SaO2", unit="%"), *slow(1, "HR", "Position")],
        {EEG: "C4 - A1", EOG: "LOC - A2", EMG: "L Chin - R Chin", ECG: "ECG L - ECG R",
         RESP: "Cannula Flow", SPO2: "SaO2"},
    ),
    "MrOS visit 2": (
        [*fast(256, "C3", "C4", "M1", "M2", "E1", "E2", "LegL", "LegR"), *slow(32, "Chest", "ABD"),
         *slow(1, "SpO2", unit="%")],
        {EEG: "C4 - M1", EOG: "E1 - M2", RESP: "Chest", SPO2: "SpO2"},
    ),
    "MrOS in Table 7": (
        [*fast(256, "EMG (L)-EMG (R)", "ECG1-ECG2")], {EMG: "EMG (L)-EMG (R)", ECG: "ECG1-ECG2"},
    ),
    "KISS": (
        fast(200, "C3-M2", "C4-M1", "O1-M2", "E1-M2", "E2-M1", "LAT", "RAT", "Chin EMG", "ECG", "Thermistor", "Flow",
             "Thorax", "Abdomen", "Snore", "Saturation", "Pleth"),
        {EEG: "C4-M1", EOG: "E1-M2", EMG: "Chin EMG", ECG: "ECG", RESP: "Flow", SPO2: "Saturation"},
    ),
    "CinC 2018": (
        [*fast(200, "F3-M2", "F4-M1", "C3-M2", "C4-M1", "O1-M2", "O2-M1", "E1-M2", "Chin1-Chin2", "ABD", "CHEST",
               "AIRFLOW"), *fast(200, "SaO2", unit="%"), *fast(200, "ECG", unit="mV")],
        {EEG: "C4-M1", EOG: "E1-M2", EMG: "Chin1-Chin2", ECG: "ECG", RESP: "AIRFLOW", SPO2: "SaO2"},
    ),
    "Sleep-EDF": (
        [*fast(100, "EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal"), *slow(100, "Resp oro-nasal"),
         *fast(100, "EMG submental"), *slow(1, "Temp rectal", unit="DegC"), *slow(1, "Event marker")],
        {EEG: "EEG Fpz-Cz", EOG: "EOG horizontal", EMG: "EMG submental", RESP: "Resp oro-nasal"},
    ),
    "HMC": (
        fast(256, "EEG F4-M1", "EEG C4-M1", "EEG O2-M1", "EEG C3-M2", "EMG chin", "EOG E1-M2", "EOG E2-M2", "ECG"),
        {EEG: "EEG C4-M1", EOG: "EOG E1-M2", EMG: "EMG chin", ECG: "ECG"},
    ),
    "DOD": (
        fast(250, "F3_F4", "C3_M2", "F4_M1", "FP1_M2", "EOG2", "EOG1", "EMG", "ECG"),
        {EEG: "C3_M2", EOG: "EOG1", EMG: "EMG", ECG: "ECG"},
    ),
    "ISRUC": (
        [*fast(200, "LOC-A2", "ROC-A1", "F3-A2", "C3-A2", "O1-A2", "F4-A1", "C4-A1", "O2-A1", "X1", "X2", "X3", "X4",
               "X5", "X6", "DC3", "X7", "X8"), *slow(12.5, "SaO2", unit="%"), *slow(25, "DC8", unit="mV")],
        {EEG: "C4-A1", EOG: "LOC-A2", EMG: "X1", ECG: "X2", RESP: "X6", SPO2: "SaO2"},
    ),
    "MASS": (
        fast(256, "EOG Right Horiz", "EOG Left Horiz", "EEG F3-CLE", "EEG C3-CLE", "EEG A2-CLE", "EMG Chin1",
             "EMG Chin2", "EMG Ant Tibial L", "ECG ECGI", "Resp Belt Thor", "Resp Nasal", "SpO2"),
        {EEG: "EEG C3-CLE", EOG: "EOG Left Horiz", EMG: "EMG Chin1", ECG: "ECG ECGI", RESP: "Resp Nasal",
         SPO2: "SpO2"},
    ),
    "MASS LER": (fast(256, "EEG O1-LER", "EEG C3-LER"), {EEG: "EEG C3-LER"}),
    "St Vincent's (UCDDB)": (
        [*fast(128, "Lefteye", "RightEye", "EMG", "C3A2", "C4A1", "ECG"), *slow(8, "SpO2", unit="%"),
         *slow(8, "Sound", "Flow", "Sum", "ribcage", "abdo", "BodyPos"), *slow(8, "Pulse", unit="bpm")],
        {EEG: "C4A1", EOG: "Lefteye", EMG: "EMG", ECG: "ECG", RESP: "Flow", SPO2: "SpO2"},
    ),
    "CAP": (
        [*fast(512, "F2-F4", "F4-C4", "C4-P4", "P4-O2", "F1-F3", "F3-C3", "C3-P3", "P3-O1", "C4-A1", "ROC-LOC",
               "EMG1-EMG2", "ECG1-ECG2", "DX1-DX2", "SX1-SX2", "TERMISTORE", "TORACE", "ADDOME", "tib sin", "MIC"),
         *slow(128, "SAO2", unit="%"), *slow(1, "HR", unit="bpm"), *slow(128, "PLETH", "STAT")],
        {EEG: "C4-A1", EOG: "ROC-LOC", EMG: "EMG1-EMG2", ECG: "ECG1-ECG2", RESP: "TERMISTORE", SPO2: "SAO2"},
    ),
    "DREAMS": (
        fast(200, "ECG1-ECG2", "FP1-A1", "C3-A1", "O1-A1", "EOG1-A1", "EOG2-A1", "VTH", "VAB", "NAF1", "NAF2P-A1",
             "PHONO", "PCPAP", "SAO2", "POS", "PULS", "EMG1"),
        {EEG: "C3-A1", EOG: "EOG1-A1", EMG: "EMG1", ECG: "ECG1-ECG2", RESP: "NAF1", SPO2: "SAO2"},
    ),
    "STAGES": (
        fast(500, "C3M2", "C4M1", "E1M2", "Lchin", "Cchin", "LEMG", "EKG", "PTAF", "Therm", "Chest", "Abd", "PLMl",
             "Snore", "Heart Rate_CU", "SpO2"),
        {EEG: "C4M1", EOG: "E1M2", EMG: "Lchin - Cchin", ECG: "EKG", RESP: "PTAF", SPO2: "SpO2"},
    ),
    "STAGES, all against Cz": (
        fast(200, "C3-Cz", "C4-Cz", "M1-Cz", "M2-Cz", "E1-Cz", "E2-Cz", "Chin_L-Cz", "Chin_Ctr-Cz", "EKG_L-Cz",
             "EKG_R-Cz", "Flexor_L-Cz"),
        {EEG: "C3-Cz", EOG: "E1-Cz", EMG: "Chin_L-Cz - Chin_Ctr-Cz", ECG: "EKG_L-Cz - EKG_R-Cz"},
    ),
    "STAGES, reference first": (
        fast(500, "M1:C4", "M2:E1", "EOGr512:M1", "Chin:Chin2", "ECG IIHF", "Chin:RIC", "Nasal Therm"),
        {EEG: "M1:C4", EOG: "M2:E1", EMG: "Chin:Chin2", ECG: "ECG IIHF", RESP: "Nasal Therm"},
    ),
    "WSC": (
        [*fast(200, "F3_M2", "C3_M2", "O1_M2", "E1", "E2", "cchin_l", "rchin_l", "lleg_r", "ECG", "snore"),
         *slow(200, "flow", "nas_pres", "thorax", "abdomen", "sum", "position"), *slow(200, "spo2", unit="%")],
        {EEG: "C3_M2", EOG: "E1", EMG: "cchin_l", ECG: "ECG", RESP: "flow", SPO2: "spo2"},
    ),
    "CFS": (
        [*fast(128, "C3", "C4", "M1", "M2", "LOC", "ROC"), *fast(256, "ECG2", "ECG1", "EMG1", "EMG2", "EMG3"),
         *fast(64, "L Leg", "R Leg"), *slow(32, "AIRFLOW", "THOR EFFORT", "ABDO EFFORT", "SNORE", "SUM"),
         *slow(1, "POSITION", "OX STATUS", "PULSE"), *slow(1, "SpO2", unit="%"), *slow(128, "NASAL PRES", "PlethWV"),
         *slow(1, "Light", "HRate")],
        {EEG: "C4 - M1", EOG: "LOC - M2", EMG: "EMG1 - EMG2", ECG: "ECG1 - ECG2", RESP: "NASAL PRES", SPO2: "SpO2"},
    ),
    "CHAT": (
        [*fast(200, "C3", "C4", "M1", "M2", "E1", "E2", "ECG1", "ECG2", "ECG3", "Lchin", "Cchin", "Rchin"),
         *slow(200, "Cap", "EtCO2", unit="mmHg"), *slow(20, "CannulaFlow", "airflow", "chest", "abdomen", "snore"),
         *slow(2, "SAO2", unit="%"), *slow(200, "Pleth"), *slow(1, "OxStatus", "PositionSen", "Pulse")],
        {EEG: "C4 - M1", EOG: "E1 - M2", EMG: "Lchin - Rchin", ECG: "ECG1 - ECG2", RESP: "CannulaFlow", SPO2: "SAO2"},
    ),
    "APPLES": (
        fast(100, "C3_M2", "C4_M1", "O1_M2", "O2_M1", "LOC", "ROC", "EMG", "ECG", "LEG", "NASAL_PRES", "THERM",
             "THOR", "ABD", "SPO2", "PULSE", "POSITION", "SNORE"),
        {EEG: "C4_M1", EOG: "LOC", EMG: "EMG", ECG: "ECG", RESP: "NASAL_PRES", SPO2: "SPO2"},
    ),
    "NCH": (
        fast(256, "EEG C3-M2", "EEG C4-M1", "EOG LOC-M2", "EMG CHIN1-CHIN2", "ECG EKG2-EKG", "EMG LLEG-RLEG",
             "Resp Airflow-Ref", "Resp Thoracic-Ref", "Resp PTAF-Ref", "C-Flow", "Tidal Vol", "C-Pressure", "Rate",
             "EtCO2", "Capno", "OSAT", "Patient Event", "SNORE-Ref"),
        {EEG: "EEG C4-M1", EOG: "EOG LOC-M2", EMG: "EMG CHIN1-CHIN2", ECG: "ECG EKG2-EKG", RESP: "Resp PTAF-Ref",
         SPO2: "OSAT"},
    ),
    "MIT-BIH slpdb": (
        [*fast(250, "ECG", "BP", "EEG (C4-A1)", "EOG (right)", "EMG", unit="mV"),
         *slow(250, "Resp (sum)", "Resp (nasal)"), *slow(250, "SV", "SO2", unit="%")],
        {EEG: "EEG (C4-A1)", EOG: "EOG (right)", EMG: "EMG", ECG: "ECG", RESP: "Resp (nasal)", SPO2: "SO2"},
    ),
    "Nox": (
        [*fast(200, "E1-M2", "F4-M1", "Chin 1-Chin 2", "Left Leg", "Right Leg"), *slow(200, "Nasal Pressure"),
         *slow(20, "RIP Sum", "cRIP Flow", "Inductance Thora"), *slow(3, "SpO2 B-B", "SpO2", unit="%"),
         *slow(3, "Pulse"), *slow(10, "PosAngle", "Audio Volume", "X Axis")],
        {EEG: "F4-M1", EOG: "E1-M2", EMG: "Chin 1-Chin 2", RESP: "Nasal Pressure", SPO2: "SpO2"},
    ),
    "Alice": (
        [*fast(500, "EEG C3-A2", "EEG C3-A22", "EEG A1-A2", "EOG LOC-A2", "EMG Chin", "Leg 1", "Leg 12", "ECG II",
               "Snore"), *slow(100, "Flow Patient", "Effort THO", "Effort ABD"), *slow(1, "SpO2", unit="%"),
         *slow(1, "Body", "PulseRate"), *slow(10, "CPAP Press", unit="cmH2O")],
        {EEG: "EEG C3-A2", EOG: "EOG LOC-A2", EMG: "EMG Chin", ECG: "ECG II", RESP: "Flow Patient", SPO2: "SpO2"},
    ),
    "Embla": (
        [*fast(200, "C4-M1", "LOC", "Chin EMG", "ECG", "PLM1"), *slow(10, "XFlow", "XSum", "XVolume", "RIP Abdom",
         "RIP Thora", "Therm Flow"), *slow(3, "SpO2 B-B", unit="%"), *slow(3, "Activity", "Elevation")],
        {EEG: "C4-M1", EOG: "LOC", EMG: "Chin EMG", ECG: "ECG", RESP: "Therm Flow", SPO2: "SpO2 B-B"},
    ),
    "Natus": (
        fast(512, "EEG C3-Ref", "EEG C4-Ref", "EEG A1-Ref", "EEG A2-Ref", "EEG CHIN1-CHIN2", "ECG EKG2-EKG",
             "RESP PTAF", "POL X1", "OSAT", "ETCO2", "CAPNO", "TRIG"),
        {EEG: "EEG C4-Ref - EEG A1-Ref", EMG: "EEG CHIN1-CHIN2", ECG: "ECG EKG2-EKG", RESP: "RESP PTAF",
         SPO2: "OSAT"},
    ),
    "Nihon Kohden": (
        fast(200, "EEG C3-Ref", "EEG A2-Ref", "POL PG1", "POL PG2", "ECG ECG1", "ECG ECG2", "SaO2 X9", "POL DC01"),
        {EEG: "EEG C3-Ref - EEG A2-Ref", EOG: "POL PG1 - EEG A2-Ref", ECG: "ECG ECG1 - ECG ECG2", SPO2: "SaO2 X9"},
    ),
    "Profusion": (
        [*fast(256, "EEG C4-M1", "EOG Left", "EOG Right", "Chin EMG", "ECG", "Leg/L", "Leg/R"),
         *slow(32, "Thor Effort", "Abdo Effort", "Therm", "Nasal Press", "Snore"), *slow(1, "SpO2", unit="%"),
         *slow(1, "PTT", "Pulse", "Posn")],
        {EEG: "EEG C4-M1", EOG: "EOG Left", EMG: "Chin EMG", ECG: "ECG", RESP: "Nasal Press", SPO2: "SpO2"},
    ),
    "ResMed BRP": ([("Flow.40ms", "L/s", 25), ("Press.40ms", "cmH2O", 25), ("Crc16", "", 0.02)], {RESP: "Flow.40ms"}),
    "ResMed PLD": (
        [("MaskPress.2s", "cmH2O", 0.5), ("RespRate.2s", "bpm", 0.5), ("TidVol.2s", "L", 0.5), ("Leak.2s", "L/s", 0.5),
         ("FlowLim.2s", "", 0.5), ("Snore.2s", "", 0.5)],
        {},
    ),
    "ResMed SAD": ([("Pulse.1s", "bpm", 1), ("SpO2.1s", "%", 1)], {SPO2: "SpO2.1s"}),
    "SOMNOmedics (CPS)": (
        [*fast(256, "Akku", "Licht", "O2", "EMG", "C3:A2", "A2", "EOGr", "C3", "O2:A1", "A1", "C4:A1", "EOGl:A2",
               "C4", "EOGl:A1", "EMG+", "A1:O2", "EOGr:A1", "EOGl", "ECG 2", "EMG-", "PLMr", "PLMl"),
         *slow(128, "Druck Snore", "Pleth", "RIP.Thrx", "Summe RIPs", "Druck Flow", "RIP.Abdom", "Flow Th", "Beweg.",
               "Schnarc"), *slow(4, "SPO2", unit="%"), *slow(4, "Pulse", "Pos.")],
        {EEG: "C4:A1", EOG: "EOGl:A2", EMG: "EMG", ECG: "ECG 2", RESP: "Druck Flow", SPO2: "SPO2"},
    ),
    "German": (
        [*fast(200, "EEG C3:A2", "Auge li", "Auge re", "Kinn", "EKG", "Bein li"),
         *slow(25, "Nasenkan\u00fcle", "Brust", "Bauch"), *slow(1, "S\u00e4ttigung", unit="%"),
         *slow(1, "Schnarchen", "Lage", "Puls", "Atemfrequenz", "Licht")],
        {EEG: "EEG C3:A2", EOG: "Auge li", EMG: "Kinn", ECG: "EKG", RESP: "Nasenkan\u00fcle", SPO2: "S\u00e4ttigung"},
    ),
    "German, ASCII": (
        [*fast(200, "C4-A1", "EOG re", "EOG li", "EMG Kinn", "EKG"), *slow(25, "Brustgurt", "Bauchgurt", "Atmung"),
         *slow(1, "Sauerstoff", unit="%"), *slow(1, "Koerperlage", "Akku")],
        {EEG: "C4-A1", EOG: "EOG li", EMG: "EMG Kinn", ECG: "EKG", RESP: "Brustgurt", SPO2: "Sauerstoff"},
    ),
    "French": (
        [*fast(256, "C4-A1", "Oeil D", "Oeil G", "Menton", "ECG", "Jambe G"),
         *slow(32, "Sangle thorax", "Sangle abdo", "Pression nasale", "Ronflement"), *slow(1, "SaO2", unit="%"),
         *slow(1, "Pouls", "Lumi\u00e8re")],
        {EEG: "C4-A1", EOG: "Oeil G", EMG: "Menton", ECG: "ECG", RESP: "Pression nasale", SPO2: "SaO2"},
    ),
    "Spanish": (
        [*fast(256, "C3-A2", "Ojo der", "Ojo izq", "Ment\u00f3n", "ECG", "Pierna izq"),
         *slow(32, "Banda tor\u00e1cica", "Abdomen", "Flujo nasal", "Termistor", "Ronquido"),
         *slow(1, "Saturaci\u00f3n", unit="%"), *slow(1, "Posici\u00f3n", "Pulso", "Luz")],
        {EEG: "C3-A2", EOG: "Ojo izq", EMG: "Ment\u00f3n", ECG: "ECG", RESP: "Flujo nasal", SPO2: "Saturaci\u00f3n"},
    ),
    "Portuguese": (
        [*fast(256, "C3-A2", "Olho D", "Olho E", "Queixo", "ECG", "Perna E"),
         *slow(32, "C\u00e2nula", "T\u00f3rax", "Abd\u00f4men", "Ronco"), *slow(1, "SatO2", unit="%"),
         *slow(1, "Posi\u00e7\u00e3o")],
        {EEG: "C3-A2", EOG: "Olho E", EMG: "Queixo", ECG: "ECG", RESP: "C\u00e2nula", SPO2: "SatO2"},
    ),
    "Italian": (
        [*fast(256, "C4-A1", "Occhio dx", "Occhio sx", "Mento", "ECG", "Gamba sx"),
         *slow(32, "Cannula nasale", "Torace", "Addome", "Russamento"), *slow(1, "Saturazione", unit="%"),
         *slow(1, "Polso", "Posizione")],
        {EEG: "C4-A1", EOG: "Occhio sx", EMG: "Mento", ECG: "ECG", RESP: "Cannula nasale", SPO2: "Saturazione"},
    ),
    "Dutch": (
        [*fast(256, "C4-M1", "Oog R", "Oog L", "Kin", "ECG", "Been L"),
         *slow(32, "Neusdruk", "Borst", "Buik", "Snurken"), *slow(1, "Zuurstof", unit="%"), *slow(1, "Ligging")],
        {EEG: "C4-M1", EOG: "Oog L", EMG: "Kin", ECG: "ECG", RESP: "Neusdruk", SPO2: "Zuurstof"},
    ),
    "BIDS": (
        fast(256, "PSG_F4", "PSG_C3", "PSG_EOG", "PSG_EMG", "PSG_THER", "PSG_THOR", "PSG_ABD", "PSG_PULSE",
             "PSG_SPO2"),
        {EEG: "PSG_C3", EOG: "PSG_EOG", EMG: "PSG_EMG", RESP: "PSG_THER", SPO2: "PSG_SPO2"},
    ),
    "Apnea-ECG": (
        [*fast(100, "ECG"), *slow(100, "Resp C", "Resp A", "Resp N"), *slow(100, "SpO2", unit="%")],
        {ECG: "ECG", RESP: "Resp N", SPO2: "SpO2"},
    ),
    "HomePAP": (
        fast(200, "C3-M2", "C4-M1", "E_1-M2", "E_2-M1", "Cchin", "Lchin", "EKG1-EKG2", "NASAL_PRES", "CPAP_FLOW",
             "THORACIC", "ABDOMINAL"),
        {EEG: "C4-M1", EOG: "E_1-M2", EMG: "Cchin - Lchin", ECG: "EKG1-EKG2", RESP: "NASAL_PRES"},
    ),
    "STAGES, linked references": (
        fast(200, "F3:M1+M2", "O1:M1+M2", "C3:M1+M2", "E1:M1+M2", "Chin:Chin2", "EKG"),
        {EEG: "C3:M1+M2", EOG: "E1:M1+M2", EMG: "Chin:Chin2", ECG: "EKG"},
    ),
    "Japanese": (
        fast(200, "C3-A2", "C4-A1", "L-EOG", "R-EOG", "Chin-EMG", "ECG", "Flow-Th", "Flow-Pr", "Chest", "Abd"),
        {EEG: "C4-A1", EOG: "L-EOG", EMG: "Chin-EMG", ECG: "ECG", RESP: "Flow-Pr"},
    ),
    "Noxturnal": (
        fast(200, "C3", "C4", "E1", "M1", "M2", "1-2", "1-F", "2-F", "ECG", "Nasal Pressure", "RIP Thorax", "Left Leg"),
        {EEG: "C4 - M1", EOG: "E1 - M2", EMG: "1-2", ECG: "ECG", RESP: "Nasal Pressure"},
    ),
    "ZMax": (
        fast(256, "EEG L", "EEG R", "OXY IR AC", "OXY R DC", "BODY TEMP", "NOISE", "RSSI", "dX"), {EEG: "EEG L"},
    ),
    "lone pair": (fast(256, "EMG+", "EMG-", "EKG+", "EKG-"), {EMG: "EMG+ - EMG-", ECG: "EKG+ - EKG-"}),
    "a numbered grid": (
        fast(512, *(f"{row}{number}" for row in "ABC" for number in range(1, 17))), {},
    ),
}  # fmt: skip

# Spellings that occur among SHHS's recordings (its 8,444 files use 36 labels in 30 sets).
SHHS_LABELS: dict[Modality | None, tuple[str, ...]] = {
    EEG: ("EEG", "EEG(sec)", "EEG(SEC)", "EEG2", "EEG 2", "EEG sec", "EEG (sec)"),
    EOG: ("EOG(L)", "EOG(R)"),
    EMG: ("EMG",),
    ECG: ("ECG",),
    RESP: ("AIRFLOW", "THOR RES", "ABDO RES", "NEW AIR", "New Air", "NEWAIR", "New AIR", "new air", "New A/F",
           "NEW A/F", "NEWAIR FLOW"),
    SPO2: ("SaO2",),
    None: ("H.R.", "HR", "PR", "POSITION", "LIGHT", "SOUND", "OX stat", "OX STAT", "OXSTAT", "SNORE"),
}  # fmt: skip

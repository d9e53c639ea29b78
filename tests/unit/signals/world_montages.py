"""Whole montages of `world_labels.txt`'s sources, and the channel each modality should come from.

Rows as in `montages.py`; a derivation is expected as "label - label".
"""

from tests.unit.signals.montages import ECG, EEG, EMG, EOG, RESP, SPO2, Expected, Row, fast, slow

WORLD_MONTAGES: dict[str, tuple[list[Row], Expected]] = {
    "everything called EEG (Nihon Kohden, NCHSDB)": (
        fast(256, "EEG C3", "EEG C4", "EEG M1", "EEG M2", "EEG E1", "EEG E2", "EEG Chin1", "EEG Chin2", "EEG EKG1",
             "EEG EKG2", "EEG Chest", "EEG Abd", "EEG Snore", "EEG Therm", "EEG LLeg1", "EEG RLeg2", "EEG Spare",
             "EEG 21", "OSAT", "DC3"),
        {EEG: "EEG C4 - EEG M1", EOG: "EEG E1 - EEG M2", EMG: "EEG Chin1 - EEG Chin2", ECG: "EEG EKG1 - EEG EKG2",
         RESP: "EEG Therm", SPO2: "OSAT"},
    ),
    "everything against E1 (Challenge 2026)": (
        [*fast(200, "ABD-E1", "AIRFLOW-E1", "CHEST-E1", "LAT-E1", "RAT-E1", "EKG-E1", "F3-AVG", "C4-AVG", "E1-AVG",
               "E2-AVG", "CHIN1-CHIN2"), *slow(1, "SaO2", unit="%")],
        {EEG: "C4-AVG", EOG: "E1-AVG", EMG: "CHIN1-CHIN2", ECG: "EKG-E1", RESP: "AIRFLOW-E1", SPO2: "SaO2"},
    ),
    "SOMNOscreen, Belgian": (
        [*fast(256, "Snore", "Pressure Flow", "Flow Th.", "RIP Thora", "RIP Abdom", "Sum RIP", "PLMl", "PLMr", "EMG1",
               "C4:A1", "ECG II", "C3", "C4", "O1", "O2", "A1", "A2", "F3", "F4", "EOG1", "EOG2", "EOG1:A2"),
         *slow(4, "SpO2", unit="%"), *slow(4, "Pos.", "Pulse"), *fast(128, "Pleth")],
        {EEG: "C4:A1", EOG: "EOG1:A2", EMG: "EMG1", ECG: "ECG II", RESP: "Pressure Flow", SPO2: "SpO2"},
    ),
    "SOMNOscreen, German": (
        [*fast(256, "II", "EKG II", "EMG1", "Akku", "Akku Stan", "Lage", "Licht", "Aktivitaet", "Pleth", "RIP Abdom",
               "RIP Thora", "Summe RIP", "C4:M1", "C3:M2", "EOGl:M2", "EOGr:M2"), *slow(4, "SpO2", unit="%")],
        {EEG: "C4:M1", EOG: "EOGl:M2", EMG: "EMG1", ECG: "EKG II", RESP: "RIP Thora", SPO2: "SpO2"},
    ),
    "French clinic": (
        fast(256, "EEG F4", "EEG C4", "EEG O2", "EOG Droit", "EOG Gauche", "EMG menton", "Amp Abd", "Amp Thx", "Flux Nas",
             "Sao2", "ECG", "Frq.car.", "EMG jamb.1", "EMG jamb.2"),
        {EEG: "EEG C4", EOG: "EOG Gauche", EMG: "EMG menton", ECG: "ECG", RESP: "Flux Nas", SPO2: "Sao2"},
    ),
    "French eyes and leads": (
        fast(256, "C3", "A2", "OG", "OD", "Menton", "DII", "Jambe G", "ONT", "Thorax"),
        {EEG: "C3 - A2", EOG: "OG - A2", EMG: "Menton", ECG: "DII", RESP: "ONT"},
    ),
    "twelve leads": (
        fast(500, "I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"), {ECG: "II"},
    ),
    "a home recorder (HeartBEAT)": (
        [*slow(20, "Nasal", "Thermistor"), *slow(10, "Abdomen", "Thorax", "XFlow", "XSum", "Snore", "Gravity X", "Phase", "RMI"),
         *slow(3, "SpO2-BB", "SpO2", unit="%"), *slow(3, "SpO2-Quality", "Pulse"), *slow(75, "RD-Pleth"), *fast(200, "EKG")],
        {ECG: "EKG", RESP: "Nasal", SPO2: "SpO2"},
    ),
    "worn on the forehead (HCHS)": (
        [*slow(1, "A-Pulse"), *slow(1, "A-SpO2", unit="%"), *slow(10, "A-Snore", "A-Flow", "HMov"), *slow(1, "HPos")],
        {RESP: "A-Flow", SPO2: "A-SpO2"},
    ),
    "only the belts' sum": (slow(32, "XSum", "Snore"), {RESP: "XSum"}),
    "with a breathing device (STAGES)": (
        [*fast(200, "C4M1", "E1M2", "CHIN"), *slow(25, "ResMed_Flow", "ResMed_Pressure", "C-LEAK", "xPAP_IPAP", "PTAF",
                                                   "Tidal_Vol"), *slow(1, "SpO2Sta"), *slow(1, "SpO2", unit="%")],
        {EEG: "C4M1", EOG: "E1M2", EMG: "CHIN", RESP: "PTAF", SPO2: "SpO2"},
    ),
    "only a breathing device's flow": (slow(25, "C PRESS", "C-FLOW", "LEAK", "Mask"), {RESP: "C-FLOW"}),
    "oxygen is given": (
        [*fast(256, "C4-M1"), *slow(1, "O2", unit="l/min"), *slow(1, "O2 l/min"), *slow(1, "SpO2", unit="%")],
        {EEG: "C4-M1", SPO2: "SpO2"},
    ),
    "oxygen in percent beside the saturation": (slow(1, "O2", "SaO2", unit="%"), {SPO2: "SaO2"}),
    "eyes with a hyphen (HomePAP)": (
        fast(200, "C4-M1", "E-1", "E-2", "M1", "M2", "CannualFlow", "CHIN"),
        {EEG: "C4-M1", EOG: "E-1 - M2", EMG: "CHIN", RESP: "CannualFlow"},
    ),
    "contralateral mastoids by an x (FDCSR)": (
        fast(256, "C3 Ax", "C4 Ax", "Fz Mx", "LOC Ax", "ROC Ax", "EMG sm", "ECG", "Marker"),
        {EEG: "C3 Ax", EOG: "LOC Ax", EMG: "EMG sm", ECG: "ECG"},
    ),
    "average references (WSC)": (
        fast(200, "C3_AVG", "Fz_AVG", "Cz_AVG", "E1", "E2", "cchin_l", "lleg_r", "oralflow", "nasalflow", "nas_pres", "sum"),
        {EEG: "C3_AVG", EOG: "E1", EMG: "cchin_l", RESP: "nasalflow"},
    ),
    "legs are no chin": (fast(256, "LAT", "RAT", "EMG LAT", "EMG Tib", "PLM l", "L Leg", "Leg/L", "EMG LLEG+-LLEG-"), {}),
    "a headset with a numbered chin": (
        fast(200, "C3", "C4", "M1", "M2", "Chin-L", "Chin-Ctr", "Chin-R"), {EEG: "C4 - M1", EMG: "Chin-L - Chin-R"},
    ),
    "Swedish": (
        [*fast(256, "C4-M1", "\u00d6ga v\u00e4", "\u00d6ga h\u00f6", "Haka", "EKG", "Ben v\u00e4"),
         *slow(32, "N\u00e4sfl\u00f6de", "Br\u00f6stkorg", "Buk", "Snarkning", "L\u00e4ge"), *slow(1, "Saturation", unit="%")],
        {EEG: "C4-M1", EOG: "\u00d6ga v\u00e4", EMG: "Haka", ECG: "EKG", RESP: "N\u00e4sfl\u00f6de", SPO2: "Saturation"},
    ),
}  # fmt: skip

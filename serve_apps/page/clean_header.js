// The header written anew from what is known to name a signal or a number: no text is carried over
// because it looks harmless. The rules are those of sleepmami/signals/deidentify_header.py.

import { FIELDS, HEADER_BYTES, latin1, numberOf, printable } from "./edf_header.js";

export const PATIENT = "X X X X"; // EDF+: code, sex, birthdate and name, all withheld
export const RECORDING = "Startdate X X X X";
export const START_DATE = "01.01.85"; // what EDF+ gives to anonymous recordings
const MIDNIGHT = "00.00.00";
const CLOCK = /^([01][0-9]|2[0-3])[^0-9]([0-5][0-9])[^0-9]([0-5][0-9])$/;
const LIMITS = { 2: ["-32768", "32767"], 3: ["-8388608", "8388607"] };

/**
 * The bytes of the clean header.
 * @param header as readHeader gives it
 * @param rules LabelRules
 * @param keepClock whether the time of day of the start stays
 */
export function cleanHeader(header, rules, keepClock) {
  const { raw, signals, sampleBytes, numRecords } = header;
  const clock = keepClock && CLOCK.exec(latin1(raw.subarray(176, 184)));
  const count = String(numRecords);
  const parts = [
    sampleBytes === 3 ? "\xffBIOSEMI" : "0       ",
    field(PATIENT, 80),
    field(RECORDING, 80),
    START_DATE,
    clock ? clock.slice(1).join(".") : MIDNIGHT,
    field(String(HEADER_BYTES * (1 + signals.length)), 8),
    field(kindOf(raw.subarray(192, 236), sampleBytes, rules.words.kinds), 44),
    field(count.length <= 8 ? count : "-1", 8),
    field(numberText(raw.subarray(244, 252)), 8),
    field(String(signals.length), 4),
  ];
  const clean = signals.map((signal, index) =>
    header.annotations.includes(index)
      ? annotationFields(signal, sampleBytes)
      : signalFields(signal, header.texts.includes(index), rules),
  );
  for (const [name, width] of FIELDS) for (const signal of clean) parts.push(field(signal[name], width));
  return Uint8Array.from(parts.join(""), (sign) => sign.charCodeAt(0));
}

/** The filters that a prefilter field states in numbers: `HP:0.3Hz LP:35Hz N:50Hz`. */
export function cleanPrefilter(text, words) {
  const plain = text.toLowerCase().split(/\s+/u).filter(Boolean).join(" ");
  if (Object.hasOwn(words.whole_filters, plain)) return words.whole_filters[plain];
  const hertz = (value) => (value === "DC" ? "" : "Hz");
  const number = (value) => (value ?? "").toUpperCase().replaceAll(",", ".");
  const pieces = [...plain.matchAll(new RegExp(words.filters, "g"))].map(([, name, from, to]) => {
    const kind = name === "notch" ? "N" : name.toUpperCase();
    const [low, high] = [number(from), number(to)];
    return high ? `${kind}:${low}-${high}Hz` : `${kind}:${low}${hertz(low)}`;
  });
  return pieces.join(" ");
}

/** The words of a transducer field that name kinds of sensors, other words left out. */
export function cleanTransducer(text, words) {
  const found =
    text
      .toLowerCase()
      .replaceAll("agagcl", "agcl")
      .match(/[\p{L}\p{N}]+/gu) ?? [];
  const known = found.filter((word) => Object.hasOwn(words.sensors, word));
  return known.map((word) => words.sensors[word]).join(" ");
}

function annotationFields(signal, sampleBytes) {
  return {
    label: sampleBytes === 2 ? "EDF Annotations" : "BDF Annotations",
    transducer: "",
    unit: "",
    physical_min: "-1",
    physical_max: "1",
    digital_min: LIMITS[sampleBytes][0],
    digital_max: LIMITS[sampleBytes][1],
    prefilter: "",
    samples_per_record: numberText(signal.samples_per_record),
    reserved: "",
  };
}

function signalFields(signal, holdsText, rules) {
  const names = ["physical_min", "physical_max", "digital_min", "digital_max"];
  let limits = names.map((name) => numberText(signal[name]));
  // they give no scale, and one of them alone must not begin to give one
  if (!limits.every(Boolean)) limits = ["0", "0", "0", "0"];
  const label = printable(signal.label);
  return {
    label: holdsText ? rules.words.no_label : ascii(label && rules.safeLabel(label), rules),
    transducer: cleanTransducer(printable(signal.transducer), rules.words),
    unit: ascii(rules.safeUnit(printable(signal.unit)), rules),
    ...Object.fromEntries(names.map((name, place) => [name, limits[place]])),
    prefilter: cleanPrefilter(printable(signal.prefilter), rules.words),
    samples_per_record: numberText(signal.samples_per_record),
    reserved: "",
  };
}

function numberText(raw) {
  const text = printable(raw);
  return numberOf(text) === null ? "" : text.replaceAll(",", ".");
}

function ascii(text, rules) {
  return rules.readable(text.replace(/[\u00b5\u03bc]/g, "u").replaceAll("\u00b0", "deg"));
}

function kindOf(raw, sampleBytes, kinds) {
  const text = [...printable(raw)].slice(0, 5).join("").toUpperCase();
  return kinds.includes(text) ? text : sampleBytes === 3 ? "24BIT" : "";
}

function field(text, width) {
  return [...text]
    .map((sign) => (sign.codePointAt(0) < 128 ? sign : "?"))
    .join("")
    .slice(0, width)
    .padEnd(width);
}

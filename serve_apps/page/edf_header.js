// The header of an EDF or BDF file: fields, limits and the number of whole data records, from the
// bytes alone. The limits are those of sleepmami/signals/edf_header.py and edf_records.py, so that
// a file which the service would refuse is refused before it is sent.

export const HEADER_BYTES = 256;
const MAX_SIGNALS = 512;
const MAX_WHOLE = 2 ** 31;
const MAX_TEXT_BYTES = 16 * 2 ** 20; // of one annotation signal in one data record
const BLOCK_BYTES = 2 ** 20;
const ONSET_BYTES = 40;
const CHECKED_BYTES = 2 ** 16;
const MIN_TEXT_WIDTH = 16; // fewer bytes hold no more than an onset, and might be samples
const NUMBER = /^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$/;
const ONSET = /^[+-][0-9]+(?:[.,][0-9]*)?\x14\x14/;
const TEXT = /^[+-]\d+(?:[.,]\d*)?(?:\x15\d+(?:[.,]\d*)?)?\x14[\0\t\n\r\x14\x15\x20-\xff]*$/;
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu;
export const FIELDS = [
  ["label", 16],
  ["transducer", 80],
  ["unit", 8],
  ["physical_min", 8],
  ["physical_max", 8],
  ["digital_min", 8],
  ["digital_max", 8],
  ["prefilter", 80],
  ["samples_per_record", 8],
  ["reserved", 32],
];

/** A file that cannot be used; `code` is one of the service's. */
export class BadRecording extends Error {
  constructor(code, detail = "") {
    super(code);
    this.code = code;
    this.detail = detail;
  }
}

/** One character per byte. */
export function latin1(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) {
    text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return text;
}

/** A header field as printable text: UTF-8 where it is that, else Latin-1, which always is. */
export function printable(bytes) {
  const end = bytes.indexOf(0);
  const raw = end < 0 ? bytes : bytes.subarray(0, end);
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(raw);
  } catch {
    text = latin1(raw);
  }
  return text.replace(UNPRINTABLE, "?").trim();
}

/** A finite decimal number, with a point or a comma; null for anything else. */
export function numberOf(text) {
  const plain = text.replaceAll(",", ".");
  const value = NUMBER.test(plain) ? Number(plain) : NaN;
  return Number.isFinite(value) ? value : null;
}

function wholeOf(text) {
  const value = numberOf(text);
  return value !== null && Number.isInteger(value) && Math.abs(value) <= MAX_WHOLE ? value : null;
}

/** Bytes of a file from `start` to `stop`. */
export async function bytesOf(file, start, stop) {
  return new Uint8Array(await file.slice(start, stop).arrayBuffer());
}

/** The header of `file`, with its raw fields; throws BadRecording. */
export async function readHeader(file) {
  const start = await bytesOf(file, 0, HEADER_BYTES * (1 + MAX_SIGNALS));
  const sampleBytes = sampleBytesOf(start);
  if (start.length < HEADER_BYTES) throw new BadRecording("truncated_recording");
  const numSignals = wholeOf(printable(start.subarray(252, 256)));
  if (numSignals === null || numSignals < 1 || numSignals > MAX_SIGNALS) {
    throw new BadRecording("header_invalid", "the number of signals");
  }
  const numBytes = HEADER_BYTES * (1 + numSignals);
  if (start.length < numBytes) throw new BadRecording("truncated_recording");
  const raw = start.subarray(0, numBytes);
  const declaredRecords = wholeOf(printable(raw.subarray(236, 244)) || "-1");
  if (declaredRecords === null || declaredRecords < -1) {
    throw new BadRecording("header_invalid", "the number of data records");
  }
  const duration = numberOf(printable(raw.subarray(244, 252)));
  if (duration === null || (duration !== 0 && (duration < 1e-6 || duration > 1e9))) {
    throw new BadRecording("header_invalid", "the duration of a data record");
  }
  const signals = splitSignals(raw, numSignals);
  const spans = spansOf(signals, sampleBytes);
  const recordBytes = spans.at(-1)[1];
  if (recordBytes === 0) throw new BadRecording("header_invalid", "data records without samples");
  const annotations = [];
  signals.forEach((signal, index) => {
    const label = printable(signal.label).toLowerCase();
    if (label === "edf annotations" || label === "bdf annotations") annotations.push(index);
  });
  if (annotations.some((index) => spans[index][1] - spans[index][0] > MAX_TEXT_BYTES)) {
    throw new BadRecording("recording_too_large");
  }
  const declaredBytes = wholeOf(printable(raw.subarray(184, 192)));
  const header = {
    raw,
    sampleBytes,
    numBytes,
    declaredBytes,
    declaredRecords,
    duration,
    signals,
    spans,
    recordBytes,
    annotations,
  };
  header.numRecords = await countRecords(file, header);
  header.texts = await textSignals(file, header);
  return header;
}

function sampleBytesOf(start) {
  const magic = latin1(start.subarray(0, 8));
  if (magic === "\xffBIOSEMI") return 3;
  if (magic.length === 8 && magic.replace(/^[ \0]+|[ \0]+$/g, "") === "0") return 2;
  throw new BadRecording(start.length ? "not_an_edf" : "empty_body");
}

function splitSignals(raw, numSignals) {
  const signals = Array.from({ length: numSignals }, () => ({}));
  let at = HEADER_BYTES;
  for (const [name, width] of FIELDS) {
    for (const signal of signals) {
      signal[name] = raw.subarray(at, at + width);
      at += width;
    }
  }
  return signals;
}

function spansOf(signals, sampleBytes) {
  let end = 0;
  return signals.map((signal) => {
    const count = wholeOf(printable(signal.samples_per_record));
    if (count === null || count < 0) {
      throw new BadRecording("header_invalid", "the samples per data record");
    }
    const start = end;
    end += count * sampleBytes;
    return [start, end];
  });
}

/** Whole data records to use: the size decides where the header does not know the number. */
async function countRecords(file, header) {
  const { numBytes, recordBytes, declaredRecords } = header;
  const declaredSize = numBytes + declaredRecords * recordBytes;
  if (header.declaredBytes !== numBytes && file.size !== declaredSize) {
    throw new BadRecording("header_invalid", "the length of the header");
  }
  const available = Math.floor((file.size - numBytes) / recordBytes);
  const rest = (file.size - numBytes) % recordBytes;
  if (available <= 0) throw new BadRecording("truncated_recording");
  if (declaredRecords <= 0) return available - (await countUnwritten(file, header, available));
  if (available < declaredRecords) return available;
  const more = available > declaredRecords && rest === 0;
  return more && (await haveOnsets(file, header, available)) ? available : declaredRecords;
}

/** Records at the end that are all zeros; 0 when all of the file's are, or one is very long. */
async function countUnwritten(file, header, available) {
  const size = header.recordBytes;
  if (size > BLOCK_BYTES) return 0;
  for (let stop = available; stop > 0;) {
    const first = Math.max(0, stop - Math.floor(BLOCK_BYTES / size));
    const start = header.numBytes + first * size;
    const block = await bytesOf(file, start, start + (stop - first) * size);
    const last = block.findLastIndex((byte) => byte !== 0);
    if (last >= 0) return available - (first + Math.floor(last / size) + 1);
    stop = first;
  }
  return 0;
}

/** Whether all records beyond those declared open with an onset; true where there are none to be had. */
async function haveOnsets(file, header, available) {
  if (!header.annotations.length) return true;
  const [begin, end] = header.spans[header.annotations[0]];
  for (let record = header.declaredRecords; record < available; record++) {
    const start = header.numBytes + record * header.recordBytes + begin;
    const text = await bytesOf(file, start, Math.min(start + end - begin, start + ONSET_BYTES));
    if (!ONSET.test(latin1(text))) return false;
  }
  return true;
}

/** Annotation signals, and ordinary ones whose first two records are such text and no samples. */
async function textSignals(file, header) {
  const found = [...header.annotations];
  for (let index = 0; index < header.spans.length; index++) {
    if (header.annotations.includes(index)) continue;
    const [begin, end] = header.spans[index];
    const size = Math.min(end - begin, CHECKED_BYTES);
    if (size < MIN_TEXT_WIDTH) continue;
    const first = header.numBytes + begin;
    const text = await bytesOf(file, first, first + size);
    if (!TEXT.test(latin1(text))) continue;
    if (header.numRecords > 1) {
      const second = await bytesOf(file, first + header.recordBytes, first + header.recordBytes + size);
      if (second.some((byte) => byte !== 0) && !TEXT.test(latin1(second))) continue;
    }
    found.push(index);
  }
  return found.sort((a, b) => a - b);
}

// A recording as it is sent: its header written anew, the texts of its annotations removed, its
// samples bit for bit, and nothing after the last whole data record. It is read piece by piece, so
// memory does not grow with the file, and the same piece is the same bytes whenever it is asked for.
//
// Annotation texts are free words of a scorer, and the model does not hear them: all of them are
// left out, also those that `sleepmami deid` would keep. The onset of each data record stays.

import { cleanHeader } from "./clean_header.js";
import { BadRecording, bytesOf, latin1, readHeader } from "./edf_header.js";

const OPENING = /^([+-][0-9]+(?:[.,][0-9]*)?)\x14\x14/;

/** One annotation signal of one data record: the record's own onset alone, as many bytes as before. */
export function withoutTexts(raw, keepsTime) {
  const clean = new Uint8Array(raw.length);
  const opening = keepsTime && OPENING.exec(latin1(raw.subarray(0, 4096)));
  if (opening) {
    const when = `${opening[1].replace(",", ".")}\x14\x14`;
    for (let at = 0; at < when.length; at++) clean[at] = when.charCodeAt(at);
  }
  return clean;
}

export class CleanRecording {
  /** Read what is needed of `file`; throws BadRecording. */
  static async of(file, rules, keepClock) {
    const header = await readHeader(file);
    return new CleanRecording(file, header, cleanHeader(header, rules, keepClock));
  }

  constructor(file, header, clean) {
    this.file = file;
    this.header = header;
    this.clean = clean;
    this.size = header.numBytes + header.numRecords * header.recordBytes;
  }

  /** Seconds of data. */
  get seconds() {
    return this.header.numRecords * this.header.duration;
  }

  /** Data records that the header announces and that are not there. */
  get missingRecords() {
    return Math.max(0, this.header.declaredRecords - this.header.numRecords);
  }

  /** The bytes to send from `start` to `stop`. */
  async slice(start, stop) {
    const end = Math.min(stop, this.size);
    const piece = await bytesOf(this.file, start, end);
    if (piece.length !== end - start) throw new BadRecording("file_unreadable");
    if (start < this.clean.length) piece.set(this.clean.subarray(start, end));
    for (const index of this.header.texts) await this.removeTexts(piece, start, end, index);
    return piece;
  }

  async removeTexts(piece, start, end, index) {
    const { numBytes, recordBytes, spans, annotations } = this.header;
    const [begin, past] = spans[index];
    const first = Math.max(0, Math.floor((start - numBytes) / recordBytes));
    for (let record = first; numBytes + record * recordBytes + begin < end; record++) {
      if (record >= this.header.numRecords) return;
      const at = numBytes + record * recordBytes + begin;
      const until = at + past - begin;
      if (until <= start) continue;
      const inside = at >= start && until <= end;
      const raw = inside ? piece.subarray(at - start, until - start) : await bytesOf(this.file, at, until);
      const clean = withoutTexts(raw, index === annotations[0]);
      const from = Math.max(at, start);
      piece.set(clean.subarray(from - at, Math.min(until, end) - at), from - start);
    }
  }
}

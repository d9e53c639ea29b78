// What may be told of a label and a unit: their known words, because the rest may be a person's
// name. The rules are those of sleepmami/signals/label_privacy.py, label_words.py and units.py in
// this language; the words themselves come from the service. A test holds both equal.

const LETTER_OR_DIGIT = /[\p{L}\p{N}]/gu;
const DIGITS = /^[\p{Nd}\u00b2\u00b3\u00b9\u2070\u2074-\u2079\u2080-\u2089]+$/u;
const RUN = /(?<![\p{L}\p{N}_])[A-Za-z]\.[A-Za-z](?![\p{L}\p{N}_])\.?|[\p{L}\p{N}]+/gu;
const SEPARATORS = "-_ ./:+()#,&%";
const OPENING = "(#";
const CLOSING = "()+-%.";

const whole = (pattern) => new RegExp(`^(?:${pattern})$`);
const isDigits = (text) => DIGITS.test(text);
const only = (text, allowed) => [...text].filter((sign) => allowed.includes(sign)).join("");
const oneSpace = (text) => text.split(/\s+/u).filter(Boolean).join(" ");
const countAlnum = (text) => (text.match(LETTER_OR_DIGIT) ?? []).length;

/** Composed text; UTF-8 bytes that were read as Latin-1 are read again. */
export function repaired(text) {
  if ([...text].every((sign) => sign.codePointAt(0) < 256)) {
    const bytes = Uint8Array.from(text, (sign) => sign.charCodeAt(0));
    try {
      text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      // it was Latin-1 in the first place
    }
  }
  return text.normalize("NFC");
}

/** The rules with one set of words, as /page/words.json gives them. */
export class LabelRules {
  constructor(words) {
    this.words = words;
    this.meanings = new Map(Object.entries(words.meanings));
    this.electrode = whole(words.electrode);
    this.gluedPair = whole(words.glued_pair);
    this.electrodesOrLetters = new RegExp(`${words.electrode}|[a-z]+`, "g");
    this.spacedElectrode = new RegExp(words.spaced_electrode, "i");
    this.numbered = whole(words.numbered);
    this.unitPatterns = words.unit_patterns.map(whole);
    this.neverGlued = new Set(words.never_glued);
    this.sided = new Set(words.sided);
    this.notTold = new Set(words.not_told);
    this.pieces = [...this.meanings].filter(([word, meaning]) => {
      const shortest = words.sides.includes(meaning) ? 4 : 3;
      return word.length >= shortest && !this.neverGlued.has(meaning);
    });
  }

  /** The label's known words, spelled and ordered as they are; `channel` when none is known. */
  safeLabel(label) {
    const text = repaired(label).replace(this.spacedElectrode, "$1$2$3");
    const runs = [...text.matchAll(RUN)];
    const known = runs.map((run) => this.isKnown(run[0]));
    const end = (run) => run.index + run[0].length;
    let kept = "";
    let last = 0;
    runs.forEach((run, place) => {
      const before = place > 0 && known[place - 1];
      const after = place + 1 < runs.length && known[place + 1];
      if (!known[place] && !this.isKnownBeside(run[0], before, after)) return;
      known[place] ||= !isDigits(run[0]); // `NEW A/F`; no dates
      const skipped = place > 0 && last < end(runs[place - 1]);
      const between = skipped ? "" : only(text.slice(last, run.index), SEPARATORS);
      kept += kept ? between || " " : only(text.slice(0, run.index), OPENING);
      kept += run[0];
      last = end(run);
    });
    if (!kept) return this.words.no_label;
    if (last === end(runs.at(-1))) kept += only(text.slice(last), CLOSING);
    return oneSpace(kept);
  }

  /** The unit when it is a known one, empty when there is none, else `?`. */
  safeUnit(unit) {
    const text = unit.trim();
    if (!text) return "";
    const plain = this.plainUnit(text);
    const known = this.words.volts.includes(plain) || this.unitPatterns.some((p) => p.test(plain));
    const ascii = /^[\x00-\x7f]*$/.test(spelledOut(text));
    return known && ascii ? repaired(text) : "?";
  }

  /** Text as ASCII, accents dropped. */
  readable(text) {
    const spelled = [...repaired(text)].map((sign) => this.words.spelled[sign] ?? sign).join("");
    return spelled.normalize("NFKD").replace(/[^\x00-\x7f]/gu, "");
  }

  plainUnit(unit) {
    const plain = this.readable(spelledOut(unit))
      .toLowerCase()
      .replace(/^[ .[\]()]+|[ .[\]()]+$/g, "");
    const singular = plain.endsWith("s") ? plain.slice(0, -1) : plain;
    return this.words.volt_words[singular] ?? plain;
  }

  isKnown(run) {
    const plain = this.readable(run);
    if (countAlnum(plain) !== countAlnum(run)) return false; // letters that are not Latin
    const found = this.wordsOfRun(plain.replaceAll(".", ""));
    if (!found.length) return false;
    if (found.length === 1 && (isDigits(found[0]) || found[0].length === 1)) return false;
    return found.every((word) => this.isSafeWord(word));
  }

  isKnownBeside(run, before, after) {
    const plain = this.readable(run).toLowerCase();
    if (isDigits(plain)) return before && plain.length <= this.words.max_safe_digits;
    if (plain.length !== 1) return false;
    return (before && this.inVocabulary(plain)) || (after && this.words.lone_letters.includes(plain));
  }

  isSafeWord(word) {
    if (isDigits(word)) return word.length <= this.words.max_safe_digits;
    if (this.notTold.has(word)) return false;
    if (this.inVocabulary(word) || this.numbered.test(word)) return true;
    return word.length >= this.words.shortest_safe_beginning && this.meaningOf(word) !== null;
  }

  inVocabulary(word) {
    return this.meanings.has(word) || this.electrode.test(word);
  }

  meaningOf(word) {
    if (isDigits(word)) return "NUMBER";
    if (this.meanings.has(word)) return this.meanings.get(word);
    if (this.electrode.test(word)) return "ELECTRODE";
    if (word.length < this.words.shortest_beginning) return null;
    const begun = new Set();
    for (const [known, meaning] of this.meanings) if (known.startsWith(word)) begun.add(meaning);
    return begun.size === 1 ? [...begun][0] : null;
  }

  wordsOfRun(run) {
    const found = this.split(run.toLowerCase());
    if (found) return found;
    const spaced = run
      .replace(/(?<=[a-z])(?=[A-Z])/g, " ") // LegL, RespRate
      .replace(/(?<=[A-Za-z0-9])(?=[A-Z][a-z]{2})/g, " "); // RIPFlow, SpO2Status
    const pieces = spaced.toLowerCase().split(/\s+/).filter(Boolean);
    const parts = pieces.map((piece) => this.split(piece));
    const alone = [run.toLowerCase()];
    if (pieces.length === 1 || parts.every((part) => part === null)) return alone;
    const electrodes = (part) => part?.length && part.every((word) => this.electrode.test(word));
    if (parts.includes(null) && parts.some(electrodes)) return alone;
    return pieces.flatMap((piece, place) => (parts[place]?.length ? parts[place] : [piece]));
  }

  split(word) {
    if (this.words.names.some((name) => word.includes(name))) return null;
    if (this.meanings.has(word) || isDigits(word)) return [word];
    const electrodes = this.electrodes(word);
    if (electrodes) return electrodes;
    if (word.length <= this.words.max_glued) {
      const glued = this.unglue(word, null);
      if (glued?.length) return glued;
    }
    return this.meaningOf(word) ? [word] : null;
  }

  electrodes(word) {
    if (this.electrode.test(word)) return [word];
    const pair = this.gluedPair.exec(word);
    return pair && [pair[1], ...pair[2].match(this.electrodesOrLetters)];
  }

  /** The fewest known words in a row that `word` is, behind a word that means `before`. */
  unglue(word, before) {
    if (!word) return [];
    if (before === "EEG" || before === "EYE") {
      const known = this.electrodes(word);
      if (known) return known;
    }
    if (this.sided.has(before)) {
      if (this.words.after.includes(word)) return [word];
      if (before === "EYE" && (word === "d" || word === "g")) return [word];
      const numbered = /^([lr])(\d+)$/.exec(word);
      if (numbered) return [numbered[1], numbered[2]];
    }
    let best = null;
    const offer = (first, rest) => {
      if (rest && (best === null || rest.length + 1 < best.length)) best = [first, ...rest];
    };
    const digits = before !== null && /^\d+/.exec(word);
    if (digits) offer(digits[0], this.unglue(word.slice(digits[0].length), before));
    if (before === null && this.words.before.includes(word[0])) {
      const rest = this.unglue(word.slice(1), "LETTER");
      const device = this.words.device_letters.some(([a, b]) => a === word[0] && b === rest?.[0]);
      if (rest?.length && (this.sided.has(this.meanings.get(rest[0])) || device)) offer(word[0], rest);
    }
    for (const [piece, meaning] of this.pieces) {
      if (word.startsWith(piece)) offer(piece, this.unglue(word.slice(piece.length), meaning));
    }
    return best;
  }
}

/** The unit with `u` for micro and `deg` for the degree sign. */
function spelledOut(unit) {
  let text = unit.trim();
  for (const micro of ["\u00c2\u00b5", "\u00ce\u00bc", "\u00b5", "\u03bc", "\u00e6", "\ufffd", "?"]) {
    text = text.replaceAll(micro, "u");
  }
  return repaired(text).replaceAll("\u00b0", "deg").replaceAll("\u00ba", "deg");
}

// What is shown of a recording before it is embedded: what the cleaning took away, and what the
// service would use.

import { PATIENT, RECORDING, START_DATE } from "./clean_header.js";
import { at, bytesText, durationText, fillTable, make } from "./dom.js";
import { latin1, printable } from "./edf_header.js";
import { DECISIONS, REASONS, explain } from "./messages.js";

/** Tables of the step "Clean". */
export function showCleaning(recording, rules) {
  const { header, clean } = recording;
  const { raw } = header;
  const told = (from, to) => (printable(raw.subarray(from, to)) ? "filled in" : "empty");
  const count = (name) => header.signals.filter((signal) => printable(signal[name])).length;
  const texts = header.texts.length;
  const clock = latin1(clean.subarray(176, 184));
  fillTable(at("clean-table"), [
    ["Patient", told(8, 88), PATIENT],
    ["Recording", told(88, 168), RECORDING],
    ["Start date", told(168, 176), START_DATE],
    ["Start time", told(176, 184), clock === "00.00.00" ? clock : `${clock} (kept)`],
    ["Labels and units", `of ${header.signals.length} signals`, "known words alone"],
    [
      "Sensors, filters, reserved",
      `${count("transducer")}, ${count("prefilter")}, ${count("reserved")} filled in`,
      "known sensors, filters as numbers, empty",
    ],
    [
      "Annotations",
      texts ? `${texts} ${texts === 1 ? "signal" : "signals"} of text` : "none",
      texts ? "times of the data records; all texts removed" : "none",
    ],
    ["Samples", `${header.numRecords} data records`, "unchanged, bit for bit"],
    ["File name", "filled in", "not sent"],
  ]);
  const rows = header.signals.map((signal, index) => [
    printable(signal.label) || "(empty)",
    labelOf(clean, header, index),
    rules.safeUnit(printable(signal.unit)) || "(none)",
  ]);
  const changed = rows.filter(([before, after]) => before !== after).length;
  fillTable(at("labels-table"), rows);
  at("labels-summary").textContent = `Labels, one by one: ${changed} of ${rows.length} changed`;
  const parts = [`${recording.file.name}: ${bytesText(recording.size)}`];
  if (recording.seconds) parts.push(durationText(recording.seconds));
  parts.push(`${header.signals.length} signals`);
  let summary = `${parts.join(", ")}. The header was cleaned here, in your browser.`;
  if (recording.missingRecords) {
    summary += ` The file was cut short: ${recording.missingRecords} of ${header.declaredRecords} data records are missing, and the others are used.`;
  }
  at("clean-summary").textContent = summary;
}

function labelOf(clean, header, index) {
  return latin1(clean.subarray(256 + 16 * index, 256 + 16 * (index + 1))).trim() || "(empty)";
}

/** The channel table of /v1/inspect; returns whether the recording can be embedded. */
export function showInspection(found) {
  const used = found.channels.filter((channel) => channel.decision === "used").length;
  const gaps = found.gaps.length ? ` It has ${found.gaps.length} gaps.` : "";
  const length = found.duration_s === null ? "" : ` It lasts ${durationText(found.duration_s)}.`;
  const problem = found.ok ? null : explain({ code: found.code });
  at("look-summary").textContent = problem
    ? `This recording cannot be embedded. ${problem.title} ${problem.advice}`
    : `${used} of ${found.channels.length} channels would be used.${length}${gaps} The signals themselves are read when you embed the night.`;
  at("look-summary").className = problem ? "wrong" : "";
  at("modalities").replaceChildren(
    ...found.modalities.map((name) => make("li", { text: `${name}: found` })),
    ...found.modalities_missing.map((name) => make("li", { class: "missing", text: `${name}: missing` })),
  );
  fillTable(
    at("channels"),
    found.channels.map((channel, index) => [
      channel.label ?? `channel ${index + 1}`,
      channel.modality ?? "-",
      channel.unit || "-",
      `${Number(channel.sample_rate_hz.toPrecision(6))} Hz`,
      { text: DECISIONS[channel.decision] ?? channel.decision, kind: channel.decision },
      (REASONS[channel.reason] ?? channel.reason) +
        (channel.confidence && channel.confidence !== "certain" ? ` (label ${channel.confidence})` : ""),
    ]),
  );
  at("embed").disabled = !found.ok;
  return found.ok;
}

// Pictures along the night that share one time axis: hypnogram, its confidence, and the channels.

import { draw, durationText, make } from "./dom.js";

const RAMP = [
  [43, 16, 85],
  [64, 67, 135],
  [41, 120, 142],
  [34, 168, 132],
  [122, 209, 81],
  [253, 231, 37],
];
const ORDER = ["WAKE", "W", "REM", "R", "N1", "N2", "N3"];

/** A colour of the ramp from dark blue to yellow, 0 to 1. */
export function rampColour(share) {
  const place = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1);
  const first = Math.min(Math.floor(place), RAMP.length - 2);
  return RAMP[first].map((low, i) => Math.round(low + (place - first) * (RAMP[first + 1][i] - low)));
}

function track(names, plot) {
  return make("div", { class: "track" }, make("div", { class: "names" }, ...names), plot);
}

/** Hours, or minutes of a short recording, under the tracks. */
export function timeAxis(numEpochs, epochS) {
  const seconds = numEpochs * epochS;
  const steps = [60, 300, 600, 1800, 3600, 7200, 14400];
  const step = steps.find((size) => seconds / size <= 7) ?? 28800;
  const [unit, name] = step < 3600 ? [60, "min"] : [3600, "h"];
  const marks = [];
  for (let at = 0; at <= seconds; at += step) {
    const mark = make("span", {
      text: `${at / unit} ${name}`,
      class: at === seconds ? "last" : (at / step) % 2 ? "between" : "",
    });
    mark.style.left = `${(100 * at) / seconds}%`;
    marks.push(mark);
  }
  return track([make("span", { text: "from start" })], make("div", { class: "hours" }, ...marks));
}

const stretched = (width, height, ...children) =>
  draw(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    ...children,
  );

/** Runs of equal values: [value, first, one past last]. */
function runs(values) {
  const found = [];
  values.forEach((value, place) => {
    if (found.length && found.at(-1)[0] === value) found.at(-1)[2] = place + 1;
    else found.push([value, place, place + 1]);
  });
  return found;
}

/** The hypnogram with its confidence. */
export function hypnogram(container, data) {
  const { stages, classes, confidence, epoch_s: epochS } = data;
  const rows = [...classes].sort((a, b) => rank(a, classes) - rank(b, classes));
  const shapes = rows
    .slice(1)
    .map((_, row) => draw("line", { class: "row-line", x1: 0, x2: stages.length, y1: row + 1, y2: row + 1 }));
  let last = null;
  let path = "";
  for (const [stage, from, to] of runs(stages)) {
    const row = rows.indexOf(stage);
    if (row < 0) {
      shapes.push(draw("rect", { class: "unknown", x: from, y: 0, width: to - from, height: rows.length }));
    } else {
      const kind = /^R(EM)?$/i.test(stage) ? "stage rem" : "stage";
      shapes.push(draw("rect", { class: kind, x: from, y: row + 0.25, width: to - from, height: 0.5 }));
      path += `${last === null ? "M" : "L"}${from} ${row + 0.5}L${to} ${row + 0.5}`;
    }
    last = row < 0 ? null : row;
  }
  shapes.push(draw("path", { class: "line", d: path || "M0 0" }));
  const summary = stageSummary(data, rows);
  const stagesPlot = make(
    "div",
    { class: "plot stages", role: "img", "aria-label": `Sleep stages over the night. ${summary}` },
    stretched(stages.length, rows.length, ...shapes),
  );
  const area = `M0 1${confidence.map((value, epoch) => `L${epoch} ${1 - value}L${epoch + 1} ${1 - value}`).join("")}L${stages.length} 1Z`;
  const scored = confidence.filter((_, epoch) => stages[epoch] !== "unknown");
  const mean = scored.reduce((sum, value) => sum + value, 0) / Math.max(1, scored.length);
  const confidencePlot = make(
    "div",
    {
      class: "plot confidence",
      role: "img",
      "aria-label": `Confidence from 0 to 1; mean ${mean.toFixed(2)}`,
    },
    stretched(stages.length, 1, draw("path", { class: "area", d: area })),
  );
  container.replaceChildren(
    track(
      rows.map((row) => make("b", { text: row === "WAKE" ? "Wake" : row })),
      stagesPlot,
    ),
    track(
      [make("span", { text: "1" }), make("b", { text: "Confidence" }), make("span", { text: "0" })],
      confidencePlot,
    ),
    timeAxis(stages.length, epochS),
    make("p", { text: summary }),
    make("p", {
      class: "soft small",
      text: `Mean confidence ${mean.toFixed(2)}. A probe's reading of the embedding, not a scorer's and not a diagnosis. Grey: no usable signal.`,
    }),
  );
}

function rank(name, classes) {
  const place = ORDER.indexOf(name.toUpperCase());
  return place < 0 ? ORDER.length + classes.indexOf(name) : place;
}

function stageSummary({ stages, epoch_s: epochS }, rows) {
  const time = (stage) => stages.filter((found) => found === stage).length * epochS;
  const parts = rows.map((stage) => `${stage === "WAKE" ? "Wake" : stage} ${durationText(time(stage))}`);
  if (time("unknown")) parts.push(`unknown ${durationText(time("unknown"))}`);
  return `${parts.join(", ")}.`;
}

/** Power by frequency and epoch of each channel that was used, SPO2 as a level. */
export function overview(container, data) {
  const tracks = data.channels.map((channel) => channelTrack(channel, data.num_epochs));
  container.replaceChildren(
    ...tracks,
    timeAxis(data.num_epochs, data.epoch_s),
    make("p", {
      class: "soft small",
      text: "Power of each channel by frequency, low frequencies below: dark is little, bright is much, on a scale of its own per channel. Oxygen saturation is drawn as its level. Hatched: no usable signal.",
    }),
  );
}

function channelTrack(channel, numEpochs) {
  const bytes = Uint8Array.from(atob(channel.data), (sign) => sign.charCodeAt(0));
  const usable = channel.usable.filter(Boolean).length;
  const share = Math.round((100 * usable) / Math.max(1, numEpochs));
  const bands = channel.bands_hz;
  const range = bands
    ? `${bands[0]} to ${bands.at(-1)} Hz`
    : `${channel.low.toFixed(0)} to ${channel.high.toFixed(0)} ${channel.unit}`;
  const label = `${channel.modality}, ${bands ? "power from" : "level from"} ${range}; usable in ${share} % of the epochs`;
  const plot = make("div", { class: "plot band", role: "img", "aria-label": label });
  plot.append(bands ? heatMap(bytes, channel) : level(bytes, channel));
  return track(
    [
      make("b", { text: channel.modality }),
      make("span", { text: range }),
      share < 100 ? make("span", { text: `${share} % usable` }) : "",
    ],
    plot,
  );
}

function heatMap(bytes, { shape: [epochs, bands], usable }) {
  const canvas = make("canvas", { width: epochs, height: bands, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  const image = context.createImageData(epochs, bands);
  for (let epoch = 0; epoch < epochs; epoch++) {
    for (let band = 0; band < bands; band++) {
      const place = 4 * ((bands - 1 - band) * epochs + epoch);
      const hatch = (epoch + band) % 4 < 2 ? 150 : 190;
      const colour = usable[epoch] ? rampColour(bytes[epoch * bands + band] / 255) : [hatch, hatch, hatch];
      image.data.set([...colour, 255], place);
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

function level(bytes, { usable }) {
  let path = "";
  usable.forEach((fine, epoch) => {
    const y = 1 - bytes[epoch] / 255;
    if (fine) path += `M${epoch} 1L${epoch} ${y}L${epoch + 1} ${y}L${epoch + 1} 1Z`;
  });
  return stretched(usable.length, 1, draw("path", { class: "area", d: path || "M0 0" }));
}

// The night's vectors as two pictures: epochs on their first two principal components, and which
// stretches of the night are alike.

import { draw, make } from "./dom.js";
import { principal, selfSimilarity } from "./pca.js";
import { rampColour } from "./tracks.js";

const css = ([r, g, b]) => `rgb(${r},${g},${b})`;

/**
 * Draw both; returns a function that marks one epoch.
 * @param macro {shape: [L, D], data}, valid: bytes [L]
 */
export function embeddingMaps(container, macro, valid, epochS) {
  const [numEpochs, dim] = macro.shape;
  const usable = Array.from(valid, Boolean);
  const rows = usable.flatMap((fine, row) => (fine ? [row] : []));
  if (rows.length < 3) {
    container.replaceChildren(
      make("p", { text: `Only ${rows.length} epochs could be embedded: too few for a map.` }),
    );
    return () => {};
  }
  const found = principal(macro.data, dim, rows);
  const scatter = scatterOf(found, rows, numEpochs);
  const likeness = likenessOf(macro.data, dim, usable, numEpochs);
  const shares = found.shares.map((share) => `${Math.round(100 * share)} %`).join(" and ");
  const end = endText(numEpochs * epochS);
  container.replaceChildren(
    make(
      "div",
      { class: "maps" },
      make(
        "figure",
        {},
        scatter.svg,
        ramp(end, "time"),
        make("figcaption", {
          text: `Each epoch's macro vector on the first two principal components of this night (${shares} of its variance), joined in time from the triangle to the square.`,
        }),
      ),
      make(
        "figure",
        {},
        likeness,
        make("figcaption", {
          text: `Which stretches of the night are alike: both axes run from start (top left) to end (${end}); bright is alike, dark is opposite, by the cosine of macro vectors less the night's mean.`,
        }),
      ),
    ),
  );
  return scatter.mark;
}

function scatterOf({ scores: [x, y = new Float64Array(x.length)] }, rows, numEpochs) {
  const bounds = (values) =>
    values.reduce(
      ([low, high], value) => [Math.min(low, value), Math.max(high, value)],
      [Infinity, -Infinity],
    );
  const [xLow, xHigh] = bounds(x);
  const [yLow, yHigh] = bounds(y);
  const size = Math.max(xHigh - xLow, yHigh - yLow) || 1;
  const height = Math.max(60, 12 + (88 * (yHigh - yLow)) / size); // one scale for both axes
  const scale = (value, low, high) => (88 * (value - (low + high) / 2)) / size;
  const points = rows.map((row, place) =>
    [50 + scale(x[place], xLow, xHigh), height / 2 - scale(y[place], yLow, yHigh)].map((value) =>
      value.toFixed(2),
    ),
  );
  const dots = rows.map((row, place) =>
    draw("circle", {
      cx: points[place][0],
      cy: points[place][1],
      r: rows.length > 300 ? 0.8 : 1.2,
      fill: css(rampColour(row / Math.max(1, numEpochs - 1))),
    }),
  );
  const [sx, sy] = points[0].map(Number);
  const [ex, ey] = points.at(-1).map(Number);
  const here = draw("circle", { class: "here", cx: sx, cy: sy, r: 2.6, visibility: "hidden" });
  const svg = draw(
    "svg",
    {
      viewBox: `0 0 100 ${height}`,
      role: "img",
      "aria-label": `${rows.length} epochs of this night as points, coloured and joined by time`,
    },
    draw("path", { class: "path", d: `M${points.map((point) => point.join(" ")).join("L")}` }),
    ...dots,
    draw("path", { class: "mark", d: `M${sx - 2} ${sy + 1.6}L${sx} ${sy - 2.2}L${sx + 2} ${sy + 1.6}Z` }),
    draw("rect", { class: "mark", x: ex - 1.8, y: ey - 1.8, width: 3.6, height: 3.6 }),
    here,
  );
  const placeOf = new Map(rows.map((row, place) => [row, place]));
  const mark = (epoch) => {
    const place = placeOf.get(epoch);
    here.setAttribute("visibility", place === undefined ? "hidden" : "visible");
    if (place !== undefined) {
      here.setAttribute("cx", points[place][0]);
      here.setAttribute("cy", points[place][1]);
    }
  };
  return { svg, mark };
}

function likenessOf(data, dim, usable, numEpochs) {
  const { size, cosine } = selfSimilarity(data, dim, usable);
  const canvas = make("canvas", {
    width: size,
    height: size,
    role: "img",
    "aria-label": `Similarity of every stretch of the night with every other one, ${numEpochs} epochs`,
  });
  const context = canvas.getContext("2d");
  const image = context.createImageData(size, size);
  cosine.forEach((value, place) => {
    image.data.set(
      [...(Number.isNaN(value) ? [150, 150, 150] : rampColour((value + 1) / 2)), 255],
      4 * place,
    );
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

function ramp(end, name) {
  const stops = Array.from({ length: 11 }, (_, step) =>
    draw("rect", { x: step, y: 0, width: 1.05, height: 1, fill: css(rampColour(step / 10)) }),
  );
  const bar = draw(
    "svg",
    {
      viewBox: "0 0 11 1",
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": `Colours from dark to bright stand for ${name}`,
    },
    ...stops,
  );
  return make("div", { class: "ramp" }, make("span", { text: "start" }), bar, make("span", { text: end }));
}

function endText(seconds) {
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

// Small pieces of page, made from text alone: nothing that was read becomes markup.

const SVG = "http://www.w3.org/2000/svg";

export const at = (id) => document.getElementById(id);

/** An element with properties (`class`, `text`, or attributes) and children. */
export function make(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same in SVG. */
export function draw(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name === "text") element.textContent = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Rows of a table whose cells know the name of their column, for narrow screens. */
export function fillTable(table, rows) {
  const names = [...table.querySelectorAll("thead th")].map((head) => head.textContent);
  const cells = (row) =>
    row.map((cell, place) => {
      const { text, kind } = typeof cell === "object" ? cell : { text: cell };
      return make(
        "td",
        { "data-name": names[place], ...(kind ? { class: kind } : {}) },
        make("span", { text: String(text) }),
      );
    });
  table.querySelector("tbody").replaceChildren(...rows.map((row) => make("tr", {}, ...cells(row))));
}

export function bytesText(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  const [value, unit] =
    bytes < 1e6 ? [bytes / 1e3, "kB"] : bytes < 1e9 ? [bytes / 1e6, "MB"] : [bytes / 1e9, "GB"];
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

export function durationText(seconds) {
  const minutes = Math.round(seconds / 60);
  if (seconds > 0 && seconds < 120) return `${Math.round(seconds)} s`;
  return minutes < 60
    ? `${minutes} min`
    : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

/** Time since the start: 1:02:30. */
export function clockText(seconds) {
  const two = (value) => String(value).padStart(2, "0");
  return `${Math.floor(seconds / 3600)}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
}

// Lines over a distance, as an SVG: for the eye; the table beside it holds the same numbers.

import { el } from "./text";

export interface Series {
  readonly name: string;
  readonly values: readonly (number | null)[];
}

const WIDTH = 460;
const HEIGHT = 150;
/** Room for half a line's width. */
const EDGE = 2;
const SVG = "http://www.w3.org/2000/svg";
/** Dashes tell lines apart where colours don't. */
const DASHES = ["", "6 3", "2 2", "8 3 2 3", "4 4", "1 3", "10 4"] as const;

/** Colour of a line, by its place; the style sheet knows them for either theme. */
export const colourOf = (at: number): string => `var(--em-line-${at % 7})`;
export const dashOf = (at: number): string => DASHES[at % DASHES.length] ?? "";

/**
 * A chart of lines that share a unit.
 *
 * @param metres - From the beginning, per sample.
 */
export function chart(metres: readonly number[], series: readonly Series[], unit: string): HTMLElement {
  const known = series.flatMap((each) => each.values.filter((value) => value !== null));
  const [low, high] = span(known);
  const last = metres.at(-1) ?? 0;
  const x = (at: number): number => (at / (last || 1)) * WIDTH;
  const y = (at: number): number => EDGE + (1 - (at - low) / (high - low)) * (HEIGHT - 2 * EDGE);
  const root = node("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "em-chart", "aria-hidden": "true",
    preserveAspectRatio: "none",
  });
  const middle = (low + high) / 2;
  for (const at of [low, middle, high]) {
    root.append(node("line", { x1: 0, x2: WIDTH, y1: y(at), y2: y(at), class: "em-grid" }));
  }
  series.forEach((each, at) => {
    const path = node("path", { d: pathOf(metres, each.values, x, y), class: "em-series",
      "stroke-dasharray": dashOf(at) });
    (path as SVGElement & ElementCSSInlineStyle).style.stroke = colourOf(at);
    root.append(path);
  });
  const names = series.map((each) => each.name).join(", ");
  // Text is no part of the SVG: there its contrast could not be measured.
  const labels = (name: string, ...words: string[]): HTMLElement =>
    el("div", { class: name }, ...words.map((each) => el("span", {}, each)));
  return el("div", {
    role: "img", class: "em-plot",
    "aria-label": `${names} in ${unit} over ${last.toFixed(0)} m; the table holds the numbers`,
  }, labels("em-y", ...[high, middle, low].map((at) => number(at, high - low))), root,
  labels("em-x", ...[0, last / 2, last].map((at) => `${at.toFixed(0)} m`)));
}

/** Pen up where there is no data. */
function pathOf(
  metres: readonly number[], values: readonly (number | null)[], x: (at: number) => number,
  y: (at: number) => number,
): string {
  let down = false;
  return values.map((value, at) => {
    if (value === null) {
      down = false;
      return "";
    }
    const step = `${down ? "L" : "M"}${x(metres[at] ?? 0).toFixed(1)} ${y(value).toFixed(1)}`;
    down = true;
    return step;
  }).join("");
}

function span(values: readonly number[]): [number, number] {
  const low = Math.min(...values);
  const high = Math.max(...values);
  if (!Number.isFinite(low)) return [0, 1];
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

function number(value: number, range: number): string {
  const digits = Math.max(0, Math.min(4, 1 - Math.floor(Math.log10(range))));
  return value.toFixed(digits).replace("-", "−");
}

function node(tag: string, attributes: Record<string, string | number>): SVGElement {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  return made;
}

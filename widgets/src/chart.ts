// Lines over a distance, as an SVG: for the eye; the table beside it holds the same numbers.

import { el } from "./text";

export interface Series {
  readonly name: string;
  readonly values: readonly (number | null)[];
}

const WIDTH = 460;
const HEIGHT = 150;
const [LEFT, RIGHT, TOP, BOTTOM] = [52, 8, 8, 24];
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
  const x = (at: number): number => LEFT + (at / (last || 1)) * (WIDTH - LEFT - RIGHT);
  const y = (at: number): number =>
    TOP + (1 - (at - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const root = node("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "em-chart", "aria-hidden": "true",
  });
  for (const at of [low, (low + high) / 2, high]) {
    root.append(
      node("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(at), y2: y(at), class: "em-grid" }),
      node("text", { x: LEFT - 5, y: y(at) + 4, "text-anchor": "end" }, number(at, high - low)));
  }
  for (const [at, anchor] of [[0, "start"], [last / 2, "middle"], [last, "end"]] as const) {
    root.append(node("text", { x: x(at), y: HEIGHT - 8, "text-anchor": anchor },
      `${at.toFixed(0)} m`));
  }
  series.forEach((each, at) => {
    const path = node("path", { d: pathOf(metres, each.values, x, y), class: "em-series",
      "stroke-dasharray": dashOf(at) });
    (path as SVGElement & ElementCSSInlineStyle).style.stroke = colourOf(at);
    root.append(path);
  });
  const names = series.map((each) => each.name).join(", ");
  return el("div", {
    role: "img",
    "aria-label": `${names} in ${unit} over ${last.toFixed(0)} m; the table holds the numbers`,
  }, root);
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

function node(tag: string, attributes: Record<string, string | number>, text = ""): SVGElement {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  if (text !== "") made.textContent = text;
  return made;
}

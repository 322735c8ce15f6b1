// The picture of the timeline: two lanes over the days, a mark per scene, a line per pair.

import { type Candidates, fate, middle, partner, type Scene } from "./candidates";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 138;
const LANES = [34, 92] as const;
const AXIS = 118;
const [LEFT, RIGHT] = [62, 30];
const SIZE = 6;
const DAY = 86_400_000;
const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
/** Days or months between two ticks, whichever leaves them room. */
const DAYS = [1, 2, 5, 10];
const SPANS = [1, 3, 6, 12, 60, 120, 600];
const ROOM = 58;
/** Lines of pairs beyond these would be a blot. */
const LINES = 100;

export interface Look {
  width: number;
  chosen: number | null;
  selected: Scene | null;
  choose(rank: number): void;
}

export interface Drawing {
  readonly root: SVGSVGElement;
  /** Marks by the number of their scene. */
  readonly marks: ReadonlyMap<number, SVGGElement>;
}

export function draw(found: Candidates, look: Look): Drawing {
  const x = scale(found, look.width);
  const root = svg("svg", { width: look.width, height: HEIGHT, role: "group",
    viewBox: `0 0 ${look.width} ${HEIGHT}`, "aria-label": "Scenes by time" });
  root.append(svg("g", { "aria-hidden": "true" }, ...ticks(found, x), ...lanes(look.width)),
    svg("g", { "aria-hidden": "true" }, ...lines(found, look, x)));
  const marks = new Map<number, SVGGElement>();
  // Rejected ones first: what counts lies above them.
  const order = [...found.scenes].sort((one, other) => rank(other) - rank(one));
  for (const scene of order) {
    const made = mark(scene, look, x);
    if (made === null) continue;
    marks.set(scene.number, made);
    root.append(made);
  }
  return { root, marks };
}

type X = (time: number) => number;

function rank(scene: Scene): number {
  return scene.ranks[0] ?? Infinity;
}

/** From UTC in ms to px: the days searched, and whatever lies outside them. */
function scale(found: Candidates, width: number): X {
  const [first, last] = ends(found);
  const span = Math.max(last - first, DAY);
  return (time) => LEFT + ((time - first) / span) * (width - LEFT - RIGHT);
}

function ends(found: Candidates): readonly [number, number] {
  const times = found.scenes.flatMap((scene) => middle(scene) ?? []);
  const known = [found.first, found.last].filter((each) => each !== null);
  const all = [...times, ...known];
  return all.length === 0 ? [0, DAY]
    : [all.reduce((a, b) => Math.min(a, b)), all.reduce((a, b) => Math.max(a, b))];
}

function ticks(found: Candidates, x: X): SVGElement[] {
  const [first, last] = ends(found);
  const room = x(first + DAY) - x(first);
  const days = DAYS.find((each) => each * room >= ROOM);
  const times = days === undefined ? months(first, last, room) : every(days * DAY, first, last);
  return times.flatMap((time) => {
    const label = svg("text", { x: x(time), y: AXIS + 14, class: "em-tick" });
    const when = new Date(time);
    const month = MONTHS[when.getUTCMonth()] ?? "";
    label.textContent = days === undefined ? `${month} ${when.getUTCFullYear()}`
      : `${when.getUTCDate()} ${month}`;
    return [svg("line", { x1: x(time), x2: x(time), y1: 10, y2: AXIS, class: "em-grid" }), label];
  });
}

function every(step: number, first: number, last: number): number[] {
  const from = Math.ceil(first / step) * step;
  return Array.from({ length: Math.max(0, Math.floor((last - from) / step) + 1) }, (_, n) => from + n * step);
}

/** First days of months. */
function months(first: number, last: number, room: number): number[] {
  const span = SPANS.find((each) => each * 30 * room >= ROOM) ?? 1200;
  const begin = new Date(first);
  const made: number[] = [];
  for (let month = 0; ; month += 1) {
    const time = Date.UTC(begin.getUTCFullYear(), begin.getUTCMonth() + month, 1);
    if (time > last) return made;
    const number = 12 * new Date(time).getUTCFullYear() + new Date(time).getUTCMonth();
    if (time >= first && number % span === 0) made.push(time);
  }
}

function lanes(width: number): SVGElement[] {
  return LANES.flatMap((y, lane) => {
    const label = svg("text", { x: 4, y: y + 4, class: "em-lane" });
    label.textContent = lane === 0 ? "optical" : "SAR";
    return [svg("line", { x1: LEFT, x2: width - RIGHT, y1: y, y2: y, class: "em-rail" }), label];
  });
}

function lines(found: Candidates, look: Look, x: X): SVGElement[] {
  const made: SVGElement[] = [];
  const line = (from: Scene | null, to: Scene | null, kind: string): SVGElement | null => {
    const [a, b] = [from && middle(from), to && middle(to)];
    if (from === null || to === null || a === null || b === null) return null;
    return svg("line", { x1: x(a), y1: LANES[from.lane as 0 | 1], x2: x(b),
      y2: LANES[to.lane as 0 | 1], class: kind });
  };
  const add = (each: SVGElement | null): void => {
    if (each !== null) made.push(each);
  };
  const picked = look.selected;
  for (const each of picked?.rejected.slice(0, LINES) ?? []) {
    if (picked !== null) add(line(picked, partner(each.scenes, picked), "em-line em-refused"));
  }
  const shown = found.pairs.map((pair, at) => ({ pair, at }))
    .filter(({ pair, at }) => at < LINES || at === look.chosen || pair.includes(picked));
  // The chosen one last, so that it lies on top.
  shown.sort((one, other) => Number(one.at === look.chosen) - Number(other.at === look.chosen));
  for (const { pair: [optical = null, sar = null], at } of shown) {
    const kind = at === look.chosen ? "em-line em-taken" : "em-line";
    add(line(optical, sar, kind));
    const wide = line(optical, sar, "em-touch");
    if (wide === null) continue;
    const title = svg("title", {});
    title.textContent = at === look.chosen ? `Pair ${at + 1}, chosen` : `Choose pair ${at + 1}`;
    wide.append(title);
    wide.addEventListener("click", () => look.choose(at));
    made.push(wide);
  }
  return made;
}

function mark(scene: Scene, look: Look, x: X): SVGGElement | null {
  const at = middle(scene);
  if (at === null) return null;
  const y = LANES[scene.lane as 0 | 1];
  const out = scene.ranks.length === 0;
  const kinds = ["em-scene-mark", scene.lane === 1 ? "em-sar" : "em-optical"];
  if (out) kinds.push("em-out");
  if (scene === look.selected) kinds.push("em-picked");
  const made = svg("g", { class: kinds.join(" "), role: "button", tabindex: -1,
    transform: `translate(${x(at)} ${y})`, "data-scene": scene.number,
    "aria-pressed": String(scene === look.selected),
    "aria-label": label(scene, look.chosen) });
  const { start, end } = scene;
  if (start !== null && end !== null && end > start) {
    made.append(svg("line", { x1: x(start) - x(at), x2: x(end) - x(at), y1: 0, y2: 0, class: "em-while" }));
  }
  made.append(svg("circle", { r: 12, class: "em-touch" }), ...shape(scene));
  if (out) made.append(svg("path", { d: "M-4,-4L4,4M-4,4L4,-4", class: "em-cross" }));
  return made;
}

/** A scene in words, with what became of it. */
export function label(scene: Scene, chosen: number | null): string {
  const out = scene.ranks.length === 0;
  return `${scene.words}. ${out ? "Rejected: " : ""}${fate(scene, chosen)}`;
}

/** Optical: a disc, filled as far as it is clear. SAR: a square. */
function shape(scene: Scene): SVGElement[] {
  if (scene.lane === 1) {
    return [svg("rect", { x: -SIZE + 1, y: -SIZE + 1, width: 2 * SIZE - 2, height: 2 * SIZE - 2,
      class: "em-body" })];
  }
  const clear = scene.cloud === null ? 0 : Math.max(0, Math.min(1, 1 - scene.cloud / 100));
  const ring = svg("circle", { r: SIZE, class: scene.cloud === null ? "em-ring em-unknown" : "em-ring" });
  return [ring, svg("path", { d: segment(clear), class: "em-body" })];
}

/** The lower part of a disc up to a share of its height. */
function segment(share: number): string {
  const top = SIZE - 2 * SIZE * share;
  const half = Math.sqrt(Math.max(0, SIZE * SIZE - top * top));
  if (share >= 0.999) return `M0,${-SIZE}A${SIZE},${SIZE} 0 1 0 0.01,${-SIZE}Z`;
  const large = share > 0.5 ? 1 : 0;
  return `M${half},${top}A${SIZE},${SIZE} 0 ${large} 1 ${-half},${top}Z`;
}

function svg<K extends keyof SVGElementTagNameMap>(
  tag: K, attributes: Readonly<Record<string, string | number>>, ...children: readonly Element[]
): SVGElementTagNameMap[K] {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

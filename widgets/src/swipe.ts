// Two pictures of a map against each other: a line with one pane left of it and the other right of
// it, or both at one place, one after the other.
//
// Leaflet's own split control keeps the layers it was made with and breaks once a layer of the map
// changes; this one clips and hides panes by name, so layers may come and go while it is on.

import type { Model } from "./model";
import { button, el, say } from "./text";

// Both are styled by the sheet that ipyleaflet brings.
const DIVIDER = "leaflet-sbs-divider";
const RANGE = "leaflet-sbs-range";
const THUMB_PX = 42;
/** Each picture of a pair that blinks: slow enough for eyes that flashes harm. */
export const BLINK_MS = 900;
const STILL = "(prefers-reduced-motion: reduce)";
const SIDES = ["left", "right"] as const;
type Side = (typeof SIDES)[number];

/** The synced traits of this widget; the panels have none that the browser writes. */
interface Traits extends Model {
  set(name: string, value: unknown): void;
  save_changes(): void;
}

type Panes = Readonly<Record<Side, string>>;

/** Names of the two; those that are there when a comparison begins are those that it lets go of. */
function panesOf(model: Traits): Panes {
  const [left, right] = SIDES.map((side) => String(model.get(`${side}_pane`)));
  return { left: left ?? "", right: right ?? "" };
}

function paneOf(map: Element, pane: string): HTMLElement | null {
  const name = pane.replace("Pane", "");
  return map.querySelector<HTMLElement>(`.leaflet-${name}-pane`);
}

/** Take the pictures out of sight that would lie over the two, until the function is called. */
function hide(map: Element, model: Traits): () => void {
  const found = model.get("hidden_panes");
  const names = Array.isArray(found) ? found.map(String) : [];
  const see = (visibility: string) => {
    for (const name of names) {
      const pane = paneOf(map, name);
      if (pane !== null) pane.style.visibility = visibility;
    }
  };
  see("hidden");
  return () => see("");
}

const titleOf = (model: Traits, side: Side): string => String(model.get(`${side}_title`) ?? "");

/** The mouse is for this element, not for the map below it. */
function keepMouse(element: Element): void {
  for (const kind of ["mousedown", "touchstart", "pointerdown", "dblclick", "click"]) {
    element.addEventListener(kind, (event) => event.stopPropagation());
  }
}

const sign = (side: Side): HTMLElement =>
  el("span", { class: `earthmind-side earthmind-side-${side}`, "aria-hidden": "true" });

/** Clip the two panes of a map until the function that comes back is called. */
function swipe(map: Element, mapPane: Element, model: Traits): () => void {
  const panes = panesOf(model);
  const divider = el("div", { class: DIVIDER });
  const range = el("input", { type: "range", min: "0", max: "1", step: "any", class: RANGE });
  range.value = String(model.get("position"));
  // For eyes: the range says the same to a screen reader.
  const signs = { left: sign("left"), right: sign("right") };
  const box = el("div", { class: "earthmind-swipe" }, divider, signs.left, signs.right, range);
  map.append(box);

  const clip = (side: Side, rect: string) => {
    const pane = paneOf(map, panes[side]);
    if (pane !== null) pane.style.clip = rect;
  };
  const update = () => {
    const frame = map.getBoundingClientRect();
    const origin = mapPane.getBoundingClientRect();
    // The map pane is moved while the map is dragged; panes are clipped in its coordinates.
    const x0 = frame.left - origin.left;
    const y0 = frame.top - origin.top;
    const share = Number(range.value);
    const at = frame.width * share + (0.5 - share) * THUMB_PX;
    divider.style.left = `${at}px`;
    signs.left.style.right = `${frame.width - at}px`;
    signs.right.style.left = `${at}px`;
    const top = `${y0}px`;
    const bottom = `${y0 + frame.height}px`;
    clip("left", `rect(${top}, ${x0 + at}px, ${bottom}, ${x0}px)`);
    clip("right", `rect(${top}, ${x0 + frame.width}px, ${bottom}, ${x0 + at}px)`);
  };
  const name = () => {
    const [left, right] = SIDES.map((side) => titleOf(model, side));
    range.setAttribute("aria-label", `Swipe between ${left} and ${right}`);
    for (const side of SIDES) say(signs[side], titleOf(model, side));
  };
  const keep = () => {
    model.set("position", Number(range.value));
    model.save_changes();
  };
  const follow = () => {
    range.value = String(model.get("position"));
    update();
  };
  range.addEventListener("input", update);
  range.addEventListener("change", keep);
  keepMouse(range);
  model.on("change:position", follow);
  for (const side of SIDES) model.on(`change:${side}_title`, name);
  const moves = new MutationObserver(update);
  moves.observe(mapPane, { attributes: true, attributeFilter: ["style"] });
  const sizes = new ResizeObserver(update);
  sizes.observe(map);
  name();
  update();

  return () => {
    moves.disconnect();
    sizes.disconnect();
    model.off("change:position", follow);
    for (const side of SIDES) model.off(`change:${side}_title`, name);
    for (const side of SIDES) clip(side, "");
    box.remove();
  };
}

/** Show the two panes in turn until the function that comes back is called. */
function blink(map: Element, _: Element, model: Traits): () => void {
  const panes = panesOf(model);
  let shown: Side = "left";
  const title = el("strong", {});
  const other = button("Other picture", () => turn());
  const stop = button("Stop blinking", () => end());
  const box = el("div", { class: "earthmind-blink", role: "group", "aria-label": "Blink" },
    title, other, stop);
  map.append(box);
  keepMouse(box);

  const draw = () => {
    for (const side of SIDES) {
      const pane = paneOf(map, panes[side]);
      if (pane !== null) pane.style.visibility = side === shown ? "" : "hidden";
    }
    say(title, titleOf(model, shown));
  };
  const turn = () => {
    shown = shown === "left" ? "right" : "left";
    draw();
  };
  const end = () => {
    model.set("how", "");
    model.save_changes();
  };
  const escape = (event: KeyboardEvent) => {
    if (event.key === "Escape") end();
  };
  // Before the notebook takes the key.
  window.addEventListener("keydown", escape, true);
  // Whoever wants no motion changes the picture by the button.
  const still = window.matchMedia(STILL);
  let timer: ReturnType<typeof setInterval> | null = null;
  const pace = () => {
    if (timer !== null) clearInterval(timer);
    timer = still.matches ? null : setInterval(turn, BLINK_MS);
  };
  still.addEventListener("change", pace);
  for (const side of SIDES) model.on(`change:${side}_title`, draw);
  pace();
  draw();

  return () => {
    if (timer !== null) clearInterval(timer);
    still.removeEventListener("change", pace);
    window.removeEventListener("keydown", escape, true);
    for (const side of SIDES) {
      model.off(`change:${side}_title`, draw);
      const pane = paneOf(map, panes[side]);
      if (pane !== null) pane.style.visibility = "";
    }
    box.remove();
  };
}

/** Traits that begin it anew; titles change in place. */
const SHOWN = ["how", "left_pane", "right_pane", "hidden_panes"] as const;
const WAYS = new Map([["swipe", swipe], ["blink", blink]]);

function render({ model, el: root }: { model: Traits; el: HTMLElement }): () => void {
  let stop: (() => void) | null = null;
  let ended = false;
  const show = () => {
    if (ended) return;
    const map = root.closest(".leaflet-container");
    const mapPane = map?.querySelector(".leaflet-map-pane");
    if (!map || !mapPane) {
      requestAnimationFrame(show); // not on the map yet
      return;
    }
    stop?.();
    const way = WAYS.get(String(model.get("how")));
    const parts = way === undefined ? [] : [hide(map, model), way(map, mapPane, model)];
    stop = () => parts.forEach((end) => end());
  };
  for (const trait of SHOWN) model.on(`change:${trait}`, show);
  show();
  return () => {
    ended = true;
    for (const trait of SHOWN) model.off(`change:${trait}`, show);
    stop?.();
  };
}

export default { render };

// A line across the map: one pane shows left of it, the other right of it.
//
// Leaflet's own split control keeps the layers it was made with and breaks once a layer of the map
// changes; this one clips panes by name, so layers may come and go while it is on.

import type { Model } from "./model";

// Both are styled by the sheet that ipyleaflet brings.
const DIVIDER = "leaflet-sbs-divider";
const RANGE = "leaflet-sbs-range";
const THUMB_PX = 42;

/** The synced traits of this widget; the panels have none that the browser writes. */
interface Traits extends Model {
  set(name: string, value: unknown): void;
  save_changes(): void;
}

/** Clip the two panes of a map until the function that comes back is called. */
function start(map: Element, mapPane: Element, model: Traits): () => void {
  const divider = document.createElement("div");
  divider.className = DIVIDER;
  const range = document.createElement("input");
  Object.assign(range, { type: "range", min: "0", max: "1", step: "any", className: RANGE });
  range.setAttribute("aria-label", "Swipe between optical and SAR");
  range.value = String(model.get("position"));
  const box = document.createElement("div");
  box.className = "earthmind-swipe";
  box.append(divider, range);
  map.append(box);

  const clip = (trait: string, rect: string) => {
    const name = String(model.get(trait)).replace("Pane", "");
    const pane = map.querySelector<HTMLElement>(`.leaflet-${name}-pane`);
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
    const top = `${y0}px`;
    const bottom = `${y0 + frame.height}px`;
    clip("left_pane", `rect(${top}, ${x0 + at}px, ${bottom}, ${x0}px)`);
    clip("right_pane", `rect(${top}, ${x0 + frame.width}px, ${bottom}, ${x0 + at}px)`);
  };
  const keep = () => {
    model.set("position", Number(range.value));
    model.save_changes();
  };
  const follow = () => {
    range.value = String(model.get("position"));
    update();
  };
  // The mouse moves the line, not the map below it.
  const hold = (event: Event) => event.stopPropagation();
  range.addEventListener("input", update);
  range.addEventListener("change", keep);
  for (const kind of ["mousedown", "touchstart", "pointerdown", "dblclick"]) {
    range.addEventListener(kind, hold);
  }
  model.on("change:position", follow);
  const moves = new MutationObserver(update);
  moves.observe(mapPane, { attributes: true, attributeFilter: ["style"] });
  const sizes = new ResizeObserver(update);
  sizes.observe(map);
  update();

  return () => {
    moves.disconnect();
    sizes.disconnect();
    model.off("change:position", follow);
    clip("left_pane", "");
    clip("right_pane", "");
    box.remove();
  };
}

function render({ model, el }: { model: Traits; el: HTMLElement }): () => void {
  let stop: (() => void) | null = null;
  let ended = false;
  const show = () => {
    if (ended) return;
    const map = el.closest(".leaflet-container");
    const mapPane = map?.querySelector(".leaflet-map-pane");
    if (!map || !mapPane) {
      requestAnimationFrame(show); // not on the map yet
      return;
    }
    if (model.get("on")) {
      stop ??= start(map, mapPane, model);
    } else {
      stop?.();
      stop = null;
    }
  };
  model.on("change:on", show);
  show();
  return () => {
    ended = true;
    model.off("change:on", show);
    stop?.();
  };
}

export default { render };

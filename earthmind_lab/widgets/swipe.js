// A line across the map: one pane shows left of it, the other right of it.
//
// Leaflet's own split control keeps the layers it was made with and breaks once a layer of the map
// changes; this one clips panes by name, so layers may come and go while it is on.

const LEFT = "leaflet-sbs-divider";
const RANGE = "leaflet-sbs-range"; // both styled by the sheet that ipyleaflet brings

function paneOf(map, name) {
  return map.querySelector(`.leaflet-${name.replace("Pane", "")}-pane`);
}

function start(map, model) {
  const divider = document.createElement("div");
  divider.className = LEFT;
  const range = document.createElement("input");
  Object.assign(range, { type: "range", min: 0, max: 1, step: "any", className: RANGE });
  range.setAttribute("aria-label", "Swipe between optical and SAR");
  range.value = model.get("position");
  const box = document.createElement("div");
  box.className = "earthmind-swipe";
  box.append(divider, range);
  map.append(box);

  const clip = (name, rect) => {
    const pane = paneOf(map, name);
    if (pane) pane.style.clip = rect;
  };
  const update = () => {
    const pane = map.querySelector(".leaflet-map-pane");
    if (!pane) return;
    const frame = map.getBoundingClientRect();
    const origin = pane.getBoundingClientRect();
    // The map pane is moved while the map is dragged; panes are clipped in its coordinates.
    const x0 = frame.left - origin.left;
    const y0 = frame.top - origin.top;
    const thumb = 42;
    const at = frame.width * range.value + (0.5 - range.value) * thumb;
    divider.style.left = `${at}px`;
    const top = `${y0}px`;
    const bottom = `${y0 + frame.height}px`;
    clip(model.get("left_pane"), `rect(${top}, ${x0 + at}px, ${bottom}, ${x0}px)`);
    clip(model.get("right_pane"), `rect(${top}, ${x0 + frame.width}px, ${bottom}, ${x0 + at}px)`);
  };
  const keep = () => {
    model.set("position", Number(range.value));
    model.save_changes();
  };
  const follow = () => {
    range.value = model.get("position");
    update();
  };
  // The mouse moves the line, not the map below it.
  const hold = (event) => event.stopPropagation();
  range.addEventListener("input", update);
  range.addEventListener("change", keep);
  for (const kind of ["mousedown", "touchstart", "pointerdown", "dblclick"]) {
    range.addEventListener(kind, hold);
  }
  model.on("change:position", follow);
  const moves = new MutationObserver(update);
  moves.observe(map.querySelector(".leaflet-map-pane"), {
    attributes: true,
    attributeFilter: ["style"],
  });
  const sizes = new ResizeObserver(update);
  sizes.observe(map);
  update();

  return () => {
    moves.disconnect();
    sizes.disconnect();
    model.off("change:position", follow);
    clip(model.get("left_pane"), "");
    clip(model.get("right_pane"), "");
    box.remove();
  };
}

function render({ model, el }) {
  let stop = null;
  let ended = false;
  const show = () => {
    const map = el.closest(".leaflet-container");
    if (ended) return;
    if (!map || !map.querySelector(".leaflet-map-pane")) {
      requestAnimationFrame(show); // not on the map yet
      return;
    }
    if (model.get("on") && !stop) stop = start(map, model);
    if (!model.get("on") && stop) {
      stop();
      stop = null;
    }
  };
  model.on("change:on", show);
  show();
  return () => {
    ended = true;
    model.off("change:on", show);
    if (stop) stop();
  };
}

export default { render };

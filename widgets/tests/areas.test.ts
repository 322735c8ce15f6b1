import { afterEach, beforeEach, expect, test, vi } from "vitest";

import areas from "../src/areas";
import { FakeModel } from "./fake";

const HOSTILE = "<img src=x onerror=alert(1)>";
const PIECE = 4;

function area(name: string, changes: object = {}) {
  return {
    name, kind: "aoi", about: "8.76 km², 272 × 341 px at 10 m", hint: "", note: "", version: 1,
    versions: [{ version: 1, about: "8.76 km²", has: "outline only" }], ...changes,
  };
}

const TWO = {
  version: 2,
  versions: [
    { version: 1, about: "8.76 km²", has: "pair chosen, 2 turns" },
    { version: 2, about: "4 km²", has: "outline only" },
  ],
};

/** Keeps the buffers too. */
class Wire extends FakeModel {
  readonly bytes: ArrayBuffer[] = [];
  override send(content: unknown, _?: unknown, buffers: ArrayBuffer[] = []): void {
    super.send(content);
    this.bytes.push(...buffers);
  }
}

let root: HTMLElement;
let close: () => void;
let model: Wire;

function open(traits: Record<string, unknown> = {}): void {
  model = new Wire({
    areas: [], active: "", regions: [], mode: "area", choice: {}, fault: "",
    places: [{ name: "spain", title: "Orihuela, Spain", why: "Open water over fields." }],
    about: { map: true, formats: [".kml", ".gpkg"], most: 100, piece: PIECE }, ...traits,
  });
  root = document.createElement("div");
  document.body.append(root);
  close = areas.render({ model, el: root });
}

const last = (): unknown => model.sent.at(-1);
const status = (): string => root.querySelector("[role=status]")?.textContent ?? "";
function press(name: string): HTMLButtonElement {
  const found = [...root.querySelectorAll("button")].find((each) =>
    (each.getAttribute("aria-label") ?? each.textContent) === name);
  if (found === undefined) throw new Error(`no button ${name}`);
  found.click();
  return found;
}
function field(label: string): HTMLInputElement {
  const found = [...root.querySelectorAll("label")].find((each) =>
    each.textContent?.trim().startsWith(label) === true);
  const input = found?.querySelector<HTMLInputElement>("input, select, textarea");
  if (input === null || input === undefined) throw new Error(`no field ${label}`);
  return input;
}
function submit(of: HTMLElement): void {
  of.closest("form")?.dispatchEvent(new Event("submit", { bubbles: true, cancelable: true }));
}
const items = (): string[] =>
  [...root.querySelectorAll(".em-area .em-name")].map((each) => each.textContent ?? "");
function choose(file: File, input = field("File")): void {
  Object.defineProperty(input, "files", { value: [file], configurable: true });
  input.dispatchEvent(new Event("change"));
}

beforeEach(() => open());
afterEach(() => {
  close();
  root.remove();
});
function again(traits: Record<string, unknown>): void {
  close();
  root.remove();
  open(traits);
}

test("areas are listed, the active one is marked in words for a screen reader", () => {
  model.set("areas", [area("a"), area("b", { hint: "Larger than nano sees." })]);
  model.set("active", "b");
  expect(items()).toEqual(["a", "b"]);
  const current = [...root.querySelectorAll("button[aria-current=true]")];
  expect(current.map((each) => each.textContent)).toEqual(["b"]);
  expect(root.querySelector(".em-active .em-warn")?.textContent).toBe("Larger than nano sees.");
  press("a");
  expect(last()).toEqual({ kind: "select", name: "a" });
  press("Delete b");
  expect(last()).toEqual({ kind: "delete", name: "b" });
});

test("a row that is focused stays the same element through an update", () => {
  model.set("areas", [area("a"), area("b")]);
  const held = root.querySelectorAll<HTMLButtonElement>(".em-name")[1];
  held?.focus();
  model.set("areas", [area("new"), area("a"), area("b", { about: "1 km²" })]);
  model.set("active", "b");
  expect(document.activeElement).toBe(held);
  expect(items()).toEqual(["new", "a", "b"]);
});

test("the focus goes to the neighbour of a deleted area, at last to the places", () => {
  model.set("areas", [area("a"), area("b")]);
  const button = press("Delete b");
  button.focus();
  model.set("areas", [area("a")]);
  expect(document.activeElement?.textContent).toBe("a");
  model.set("areas", []);
  expect(document.activeElement).toBe(field("Sample place"));
});

test("rename in place: Enter saves, Escape does not, the focus comes back", () => {
  model.set("areas", [area("a"), area("b")]);
  press("Rename a");
  const input = field("New name");
  expect(document.activeElement).toBe(input);
  expect(input.value).toBe("a");
  input.value = "x";
  input.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
  expect(model.sent).toEqual([{ kind: "hello" }]);
  press("Rename a");
  input.value = " c ";
  input.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
  expect(last()).toEqual({ kind: "rename", name: "a", new: "c" });
  const button = document.activeElement;
  expect(button?.getAttribute("aria-label")).toBe("Rename a");
  model.set("areas", [area("c"), area("b")]);
  expect(document.activeElement).toBe(button);
  expect(button?.getAttribute("aria-label")).toBe("Rename c");
});

test("versions open, say what each has, and come back", () => {
  model.set("areas", [area("a", TWO)]);
  const list = root.querySelector<HTMLElement>(".em-versions");
  expect(list?.hidden).toBe(true);
  const button = press("Versions (2) of a");
  expect(button.getAttribute("aria-expanded")).toBe("true");
  expect(list?.textContent).toContain("Version 1: 8.76 km²; pair chosen, 2 turns.");
  press("Restore version 1").focus();
  expect(last()).toEqual({ kind: "restore", name: "a", version: 1 });
  model.set("areas", [area("a", { ...TWO, version: 1 })]);
  expect(document.activeElement).toBe(button);
  expect(list?.hidden).toBe(false);
});

test("a place is opened by its button, not by walking through the list", () => {
  const places = field("Sample place");
  places.value = "spain";
  places.dispatchEvent(new Event("change"));
  expect(root.textContent).toContain("Open water over fields.");
  expect(model.sent).toEqual([{ kind: "hello" }]);
  submit(places);
  expect(last()).toEqual({ kind: "place", place: "spain" });
});

test("the box form sends numbers; what lacks is said, not sent", () => {
  for (const [name, value] of [["West", "-0.775"], ["South", "38.09"], ["East", "-0.745"]]) {
    field(name ?? "").value = value ?? "";
  }
  submit(field("West"));
  expect(model.sent).toEqual([{ kind: "hello" }]);
  expect(status()).toContain("all four edges");
  field("North").value = "38.12";
  submit(field("North"));
  expect(last()).toEqual({
    kind: "box", west: -0.775, south: 38.09, east: -0.745, north: 38.12, replace: false,
  });
});

test("centre and side, the view and a text; each may replace the active area", () => {
  for (const [name, value] of [["Latitude", "38.1"], ["Longitude", "-0.76"], ["Side", "3"]]) {
    field(name ?? "").value = value ?? "";
  }
  const replace = field("replace the outline");
  expect(replace.closest("label")?.hidden).toBe(true);
  replace.checked = true; // of no account while nothing is active
  submit(field("Side"));
  expect(last()).toEqual({ kind: "square", lat: 38.1, lon: -0.76, km: 3, replace: false });
  model.set("areas", [area("a")]);
  model.set("active", "a");
  press("Use the map's view");
  expect(last()).toEqual({ kind: "view", replace: true });
  field("Text").value = "1,2,3,4";
  submit(field("Text"));
  expect(last()).toEqual({ kind: "paste", text: "1,2,3,4", replace: true });
});

test("without a map there is no view to take and nothing to draw", () => {
  again({ about: { map: false, formats: [], most: 1, piece: 1 } });
  expect(root.querySelector<HTMLElement>(".em-modes")?.hidden).toBe(true);
  const view = [...root.querySelectorAll("button")].find((b) => b.textContent?.includes("view"));
  expect(view?.hidden).toBe(true);
});

test("the switch says what drawing makes; regions need an area", () => {
  const [areaMode, regionMode] = [...root.querySelectorAll<HTMLInputElement>("[type=radio]")];
  expect(regionMode?.disabled).toBe(true);
  model.set("areas", [area("a")]);
  model.set("active", "a");
  expect(regionMode?.disabled).toBe(false);
  regionMode?.dispatchEvent(new Event("change"));
  expect(last()).toEqual({ kind: "mode", mode: "region" });
  model.set("mode", "region");
  expect([areaMode?.checked, regionMode?.checked]).toEqual([false, true]);
});

test("marked regions are listed and can be removed", () => {
  model.set("regions", [{ id: "region-1", label: HOSTILE, about: "0.12 km²" }]);
  expect(root.textContent).toContain("Marked regions");
  press(`Remove ${HOSTILE}`);
  expect(last()).toEqual({ kind: "unmark", region: "region-1" });
});

test("a file goes in pieces, each when the one before was taken", async () => {
  choose(new File(["0123456789"], "fields.kml"));
  const start = last() as { upload: string };
  expect(start).toMatchObject({ kind: "upload", name: "fields.kml", size: 10 });
  const { upload } = start;
  const sizes = [];
  for (const size of [0, 4, 8, 10]) {
    const before = model.sent.length;
    model.say({ kind: "received", upload, size });
    if (size < 10) await vi.waitFor(() => expect(model.sent.length).toBe(before + 1));
    sizes.push(model.bytes.at(-1)?.byteLength);
    if (size < 10) expect(last()).toEqual({ kind: "piece", upload, at: size });
  }
  expect(sizes).toEqual([4, 4, 2, 2]);
  const text = model.bytes.map((each) => new TextDecoder().decode(each)).join("");
  expect(text).toBe("0123456789");
  expect(root.querySelector<HTMLElement>("progress")?.closest("div")?.hidden).toBe(false);
  model.say({ kind: "settled", upload });
  expect(root.querySelector<HTMLElement>("progress")?.closest("div")?.hidden).toBe(true);
});

test("an upload can be cancelled; words about it then go nowhere", async () => {
  choose(new File(["0123456789"], "fields.kml"));
  const { upload } = last() as { upload: string };
  press("Cancel upload");
  expect(last()).toEqual({ kind: "drop", upload });
  const count = model.sent.length;
  model.say({ kind: "received", upload, size: 0 });
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(model.sent.length).toBe(count);
});

test("a file that is too large is not sent", () => {
  choose(new File(["x".repeat(101)], "big.kml"));
  expect(model.sent).toEqual([{ kind: "hello" }]);
  expect(status()).toContain("big.kml is too large");
});

test("a long text goes as a file", () => {
  again({ about: { map: true, formats: [], most: 1e6, piece: 1e6 } });
  field("Text").value = `{"type": "FeatureCollection", "x": "${"y".repeat(20_001)}"}`;
  submit(field("Text"));
  expect(last()).toMatchObject({ kind: "upload", name: "pasted.geojson" });
});

test("a file can be dropped anywhere on the panel", () => {
  const drop = new Event("drop", { bubbles: true, cancelable: true });
  Object.defineProperty(drop, "dataTransfer", { value: { files: [new File(["abc"], "a.kml")] } });
  root.querySelector(".em-area, .em-title")?.dispatchEvent(drop);
  expect(last()).toMatchObject({ kind: "upload", name: "a.kml" });
  expect(drop.defaultPrevented).toBe(true);
});

test("the areas of a file are chosen from; what can't be one says why", () => {
  const row = (name: string, changes: object = {}) =>
    ({ name, about: "1 km²", hint: "", refused: "", ...changes });
  model.set("choice", {
    upload: "u", file: "fields.kml", layer: "", layers: [],
    rows: [row("a"), row("spot", { refused: "The AOI has no area." }), row(HOSTILE),
      row("land", { hint: "Larger than nano sees." })],
  });
  const boxes = [...root.querySelectorAll<HTMLInputElement>(".em-choice [type=checkbox]")];
  expect(boxes.map((box) => [box.checked, box.disabled])).toEqual(
    [[true, false], [false, true], [true, false], [false, false]]);
  expect(root.textContent).toContain("4 areas in fields.kml: choose");
  press("Add chosen");
  expect(last()).toEqual({ kind: "take", upload: "u", features: [0, 2] });
  press("All or none");
  press("Add chosen");
  expect(last()).toEqual({ kind: "take", upload: "u", features: [0, 2, 3] });
  press("Put away");
  expect(last()).toEqual({ kind: "drop", upload: "u" });
  model.set("choice", {});
  expect(root.querySelector<HTMLElement>(".em-choice")?.hidden).toBe(true);
});

test("one of several layers is chosen by name", () => {
  model.set("choice", { upload: "u", file: "a.gpkg", layer: "b", layers: ["a", "b"], rows: [] });
  const select = field("Layer");
  expect(select.value).toBe("b");
  select.value = "a";
  select.dispatchEvent(new Event("change"));
  expect(last()).toEqual({ kind: "layer", upload: "u", layer: "a" });
});

test("without a kernel nothing can be clicked and it is said", () => {
  root.classList.add("jupyter-widgets-disconnected");
  model.fire("comm_live_update");
  expect(root.querySelector("fieldset")?.disabled).toBe(true);
  expect(root.querySelector("[role=alert]")?.textContent).toContain("lost its kernel");
});

test("an upload ends with the connection: what was on its way is lost", () => {
  choose(new File(["0123456789"], "fields.kml"));
  const online = vi.spyOn(navigator, "onLine", "get").mockReturnValue(false);
  window.dispatchEvent(new Event("offline"));
  expect(root.querySelector("progress")?.closest("div")?.hidden).toBe(true);
  expect(root.querySelector("fieldset")?.disabled).toBe(true);
  expect(root.querySelector("[role=alert]")?.textContent).toContain("connection");
  online.mockRestore();
  window.dispatchEvent(new Event("online"));
  expect(root.querySelector("fieldset")?.disabled).toBe(false);
});

test("every field, button and list has a name; hostile names stay text", () => {
  model.set("areas", [area(HOSTILE, { ...TWO, note: HOSTILE, hint: HOSTILE })]);
  model.set("regions", [{ id: HOSTILE, label: HOSTILE, about: HOSTILE }]);
  model.set("places", [{ name: HOSTILE, title: HOSTILE, why: HOSTILE }]);
  model.set("fault", HOSTILE);
  expect(root.querySelectorAll("img")).toHaveLength(0);
  for (const input of root.querySelectorAll("input, select, textarea")) {
    expect(input.closest("label")?.textContent?.trim()).toBeTruthy();
  }
  for (const each of root.querySelectorAll("button")) expect(each.textContent).toBeTruthy();
});

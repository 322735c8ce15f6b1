import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { REST_MS } from "../src/answers";
import layers from "../src/layers";
import { fromBrowser } from "../src/protocol";
import { WANTED_MS } from "../src/wanted";
import { FakeModel } from "./fake";

const HOSTILE = "<img src=x onerror=alert(1)>";
let root: HTMLElement;
let close: () => void;

const ramp = (name: string) => ({
  name, stops: ["#000000", "#ff0000"], low: "−25", high: "0", unit: "dB σ⁰",
});
const raster = (sensor: string, more: object = {}) => ({
  sensor, name: sensor === "sar" ? "SAR" : "Optical", title: "Sentinel-1, 17 Sep 2019",
  visible: true, opacity: 1, composite: "vv", words: "VV −25…0 dB", ramps: [ramp("VV")],
  composites: [{ name: "vv", title: "VV" }, { name: "vh", title: "VH" }], ...more,
});
const answer = (number: number, more: object = {}) => ({
  id: `ask-${number}`, title: `Answer ${number}`, colour: "#00aeff", question: "Segment the water.",
  dates: "", visible: true, stale: false, added: false, area: "30.1 ha", threshold: 0.5, reason: "",
  areas: Array.from({ length: 91 }, (_, at) => `${91 - at} ha`),
  overlays: [{ kind: "probability", title: "Probability", visible: false, ramp: ramp("sure") }],
  objects: [{ words: "water, 20 ha mapped", selected: false }, { words: "water, 10 ha", selected: false }],
  more: 0, ...more,
});
const about = (more: object = {}) => ({
  name: "spain", how: "", comparable: true, waits: false, busy: "", attribution: "by A.",
  message: "", tiles: false, asks: "Off: the map asks nobody.", least: 0.05, most: 0.95, step: 0.01, ...more,
});

function open(traits: Record<string, unknown> = {}): FakeModel {
  const model = new FakeModel({
    rasters: [raster("optical"), raster("sar")], answers: [], about: about(), origin: [],
    squares: [], fault: "", ...traits,
  });
  close = layers.render({ model, el: root });
  return model;
}

const control = (label: string): HTMLInputElement => {
  const named = root.querySelector<HTMLInputElement>(`[aria-label="${label}"]`);
  const within = Array.from(root.querySelectorAll("label"))
    .find((each) => each.textContent?.startsWith(label))
    ?.querySelector("input");
  const found = named ?? within;
  if (found == null) throw new Error(`no ${label}`);
  return found;
};
const press = (label: string): HTMLButtonElement => {
  const found = Array.from(root.querySelectorAll("button")).find((b) => b.textContent === label);
  if (found === undefined) throw new Error(`no button ${label}`);
  found.click();
  return found;
};
/** What was sent after the greeting; the kernel's own check reads it. */
const sent = (model: FakeModel): unknown[] => {
  const messages = model.sent.slice(1);
  for (const message of messages) expect(fromBrowser(message)).toEqual(message);
  return messages;
};
const move = (input: HTMLInputElement, value: number, ...events: string[]): void => {
  input.value = String(value);
  for (const event of events) input.dispatchEvent(new Event(event));
};

beforeEach(() => {
  vi.useFakeTimers();
  root = document.createElement("div");
  document.body.append(root);
});
afterEach(() => {
  close();
  root.remove();
  vi.useRealTimers();
});

test("every control has a name, and says what is wanted of its picture", () => {
  const model = open();
  for (const each of root.querySelectorAll("input, select")) {
    expect(each.getAttribute("aria-label") ?? each.closest("label")?.textContent).toBeTruthy();
  }
  move(control("Opacity of SAR"), 0.4, "input");
  const composite = control("Composite of Optical");
  move(composite, 0);
  composite.value = "vh";
  composite.dispatchEvent(new Event("change"));
  expect(sent(model)).toEqual([
    { kind: "raster", sensor: "sar", visible: true, opacity: 0.4, composite: "vv" },
    { kind: "raster", sensor: "optical", visible: true, opacity: 1, composite: "vh" },
  ]);
});

test("what is set stays set while the kernel speaks of what was before", () => {
  const model = open({ answers: [answer(1)] });
  const box = control("SAR");
  box.checked = false;
  box.dispatchEvent(new Event("change"));
  model.set("rasters", [raster("optical"), raster("sar", { opacity: 0.5 })]); // from before
  expect(box.checked).toBe(false);
  model.set("rasters", [raster("optical"), raster("sar", { visible: false })]);
  model.set("rasters", [raster("optical"), raster("sar")]); // set again elsewhere
  expect(box.checked).toBe(true);
  // What the kernel never takes over goes back.
  const layer = control("Probability");
  layer.checked = true;
  layer.dispatchEvent(new Event("change"));
  model.set("answers", [answer(1, { area: "1 ha" })]);
  expect(control("Probability").checked).toBe(true);
  vi.advanceTimersByTime(WANTED_MS);
  model.set("answers", [answer(1, { area: "2 ha" })]);
  expect(control("Probability").checked).toBe(false);
});

test("the legend shows colours, values and unit, and follows the picture", () => {
  const model = open();
  const legend = root.querySelector(".em-legend")!;
  expect(legend.getAttribute("aria-label")).toBe("Legend of Optical: VV −25…0 dB");
  expect(legend.textContent).toBe("VV−250dB σ⁰");
  const bar = legend.querySelector<HTMLElement>(".em-ramp")!;
  expect(bar.style.backgroundImage).toContain("#000000");
  model.set("rasters", [raster("optical", { ramps: [ramp("R red"), ramp("G green")] })]);
  expect(legend.querySelectorAll("li")).toHaveLength(2);
});

test("a colour that is none never becomes a style", () => {
  open({ rasters: [raster("sar", { ramps: [{ ...ramp("VV"), stops: ["url(//x)", "#000000"] }] })],
    answers: [answer(1, { colour: "red;background:url(//x)" })] });
  expect(root.innerHTML).not.toContain("url(//x");
});

test("compare needs both pictures, and a second click ends it", () => {
  const model = open({ about: about({ comparable: false }) });
  expect(press("Swipe").disabled).toBe(true);
  model.set("about", about());
  press("Swipe");
  model.set("about", about({ how: "swipe" }));
  expect(press("Swipe").getAttribute("aria-pressed")).toBe("true");
  press("Blink");
  expect(sent(model)).toEqual([
    { kind: "compare", how: "swipe" }, { kind: "compare", how: "" },
    { kind: "compare", how: "blink" },
  ]);
});

test("one movement of the threshold is one message; the area follows the hand", () => {
  const model = open({ answers: [answer(1)] });
  const slider = control("Masks from probability");
  const value = root.querySelector(".em-value")!;
  expect(value.textContent).toBe("0.50, 30.1 ha mapped");
  for (const at of [0.55, 0.6, 0.65]) {
    move(slider, at, "input", "change");
    vi.advanceTimersByTime(REST_MS / 2);
  }
  expect(value.textContent).toBe("0.65, 31 ha mapped");
  expect(sent(model)).toEqual([]);
  vi.advanceTimersByTime(REST_MS);
  expect(sent(model)).toEqual([{ kind: "cut", turn: "ask-1", probability: 0.65 }]);
  model.set("answers", [answer(1, { threshold: 0.65, area: "31.0 ha" })]);
  expect(value.textContent).toBe("0.65, 31.0 ha mapped");
  // Back where it was: nothing to cut.
  move(slider, 0.7, "input");
  move(slider, 0.65, "input", "change");
  vi.advanceTimersByTime(REST_MS);
  expect(sent(model)).toHaveLength(1);
});

test("without its probabilities an answer says why they can't be cut", () => {
  open({ answers: [answer(1, { reason: "Ask again.", overlays: [], areas: [] })] });
  expect(control("Masks from probability").disabled).toBe(true);
  expect(root.querySelector(".em-answer")?.textContent).toContain("Ask again.");
});

test("what an answer shows goes in one message; its ramp comes with the layer", () => {
  const model = open({ answers: [answer(1)] });
  const box = control("Probability");
  box.checked = true;
  box.dispatchEvent(new Event("change"));
  expect(sent(model)).toEqual([
    { kind: "switch", turn: "ask-1", visible: true, probability: true, weights: false },
  ]);
  expect(root.querySelector(".em-overlays .em-ramp")).toBeNull();
  const [overlay] = answer(1).overlays;
  model.set("answers", [answer(1, { overlays: [{ ...overlay, visible: true }] })]);
  expect(root.querySelector(".em-overlays .em-ramp")).not.toBeNull();
});

test("objects are buttons in order of the answers; the selected one says so and keeps the focus", () => {
  const model = open({ answers: [answer(2), answer(1)] });
  const titles = Array.from(root.querySelectorAll(".em-answer .em-name"), (e) => e.textContent);
  expect(titles.filter((t) => t?.startsWith("Answer"))).toEqual(["Answer 2", "Answer 1"]);
  const second = (): HTMLButtonElement =>
    root.querySelectorAll<HTMLButtonElement>(".em-object")[1]!;
  second().focus();
  second().click();
  const objects = answer(2).objects.map((each, at) => ({ ...each, selected: at === 1 }));
  model.set("answers", [answer(2, { objects }), answer(1)]);
  expect(second().getAttribute("aria-pressed")).toBe("true");
  expect(document.activeElement).toBe(second());
  second().click();
  expect(sent(model)).toEqual([
    { kind: "object", turn: "ask-2", number: 1 }, { kind: "object", turn: null, number: 1 },
  ]);
});

test("what is dotted on the map is said", () => {
  const model = open();
  const dates = "Dotted: 7 Jun 2020, the earlier date.";
  model.set("answers", [answer(1, { dates })]);
  expect(root.querySelector(".em-answer")!.textContent).toContain(dates);
  model.set("answers", [answer(1)]);
  expect(root.textContent).not.toContain("Dotted");
});

test("an answer from Python can be taken away", () => {
  const model = open({ answers: [answer(1, { added: true }), answer(2)] });
  const hidden = Array.from(root.querySelectorAll<HTMLElement>(".em-answer .em-head button"))
    .map((each) => each.hidden);
  expect(hidden).toEqual([false, true]);
  press("Remove");
  expect(sent(model)).toEqual([{ kind: "remove", turn: "ask-1" }]);
});

test("tiles are off until they are wanted, and what that means is said", () => {
  const model = open();
  const box = control("Background tiles (from the network)");
  expect(box.checked).toBe(false);
  expect(root.textContent).toContain("asks nobody");
  box.click();
  expect(sent(model)).toEqual([{ kind: "tiles", on: true }]);
  model.set("about", about({ tiles: true, asks: "On: it asks tile.example." }));
  expect(box.checked).toBe(true);
  expect(root.textContent).toContain("it asks tile.example");
});

test("origin and squares are text and pictures of the kernel's, nothing else", () => {
  open({
    origin: [{ title: HOSTILE, facts: [["Items", HOSTILE]],
      files: [{ band: "vv", item: HOSTILE, resampling: "average", checksum: HOSTILE }] }],
    squares: [{ title: HOSTILE, words: "", seen: "", squares: [
      { url: "https://elsewhere/x.png", size: "448 × 448 px", place: "the whole view" },
      { url: "data:image/jpeg;base64,AAAA", size: "448 × 448 px", place: "row 1" },
    ] }],
    answers: [answer(1, { question: HOSTILE, objects: [{ words: HOSTILE, selected: false }] })],
    about: about({ attribution: HOSTILE, message: HOSTILE, name: HOSTILE }),
  });
  expect(root.querySelectorAll("img")).toHaveLength(1);
  expect(root.querySelector("img")?.getAttribute("alt")).toContain("row 1");
  expect(root.querySelector("[onerror]")).toBeNull();
  expect(root.textContent).toContain(HOSTILE);
});

test("after a restart the pictures come by a button", () => {
  const model = open({ rasters: [raster("sar", { composites: [], ramps: [] })],
    about: about({ waits: true, comparable: false }) });
  press("Show the pictures");
  expect(sent(model)).toEqual([{ kind: "reload" }]);
});

test("keys stay in the panel, and a closed one hears nothing", () => {
  const model = open();
  const heard = vi.fn();
  document.body.addEventListener("keydown", heard);
  control("Opacity of SAR").dispatchEvent(
    new KeyboardEvent("keydown", { key: "a", bubbles: true }));
  expect(heard).not.toHaveBeenCalled();
  document.body.removeEventListener("keydown", heard);
  close();
  expect(model.listeners).toBe(0);
});

test("what is compared is said beside the switches", () => {
  const sides = ["Sentinel-1, 7 Jun 2020", "Sentinel-1, 3 Sep 2020"];
  const rasters = [raster("sar"), raster("sar_before", { name: "SAR, earlier" })];
  const model = open({ rasters, about: about({ sides }) });
  expect(root.textContent).not.toContain("Left:");
  model.set("about", about({ sides, how: "swipe" }));
  expect(root.textContent).toContain("Left: Sentinel-1, 7 Jun 2020. Right: Sentinel-1, 3 Sep 2020.");
  model.set("about", about({ sides, how: "blink" }));
  expect(root.textContent).toContain("Sentinel-1, 7 Jun 2020, then Sentinel-1, 3 Sep 2020.");
  const opacity = control("Opacity of SAR, earlier");
  opacity.value = "0.4";
  opacity.dispatchEvent(new Event("input"));
  expect(fromBrowser(model.sent.at(-1))).toMatchObject({ sensor: "sar_before", opacity: 0.4 });
});

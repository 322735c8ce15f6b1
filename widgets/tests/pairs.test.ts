import { afterEach, expect, test } from "vitest";

import pairs from "../src/pairs";
import { FakeModel } from "./fake";

const HOSTILE = "<img src=x onerror=alert(1)>";
const ABOUT = {
  name: "spain", kind: "aoi", busy: "", loaded: false, dates: "", place: true, hint: "",
};

function pair(rank: number, changes: object = {}) {
  return {
    rank, score: "81.8", gap: "SAR 16.6 h later", cloud: "0.1 %", overlap: "100 %",
    cost: "272 × 341 px, reads up to 5.2 MB", refused: "",
    scenes: [
      { id: `S2-${rank}`, modality: "optical", sensor: "Sentinel-2", observed: "18 Sep 2019 10:56 UTC" },
      { id: `S1-${rank}`, modality: "sar", sensor: "Sentinel-1", observed: "17 Sep 2019 17:55 UTC" },
    ],
    factors: [{ name: "V", meaning: "valid and clear", value: "1.00" }],
    reasons: ["99.9 % of the AOI is clear."],
    ...changes,
  };
}

let root: HTMLElement;
let close: () => void;

function open(traits: Record<string, unknown> = {}): FakeModel {
  const model = new FakeModel({ pairs: [], chosen: null, about: ABOUT, fault: "", ...traits });
  root = document.createElement("div");
  document.body.append(root);
  close = pairs.render({ model, el: root });
  return model;
}

const labelled = (label: string): HTMLButtonElement => {
  const found = root.querySelector<HTMLButtonElement>(`button[aria-label="${label}"]`);
  if (found === null) throw new Error(`no button ${label}`);
  return found;
};
const find = (): HTMLButtonElement => {
  const made = [...root.querySelectorAll("button")].find((b) => b.textContent === "Find pairs");
  if (made === undefined) throw new Error("no Find pairs");
  return made;
};
const inputs = (): HTMLInputElement[] => [...root.querySelectorAll("input")];

afterEach(() => {
  close();
  root.remove();
});

test("a row says score, times, gap, cloud, overlap and cost", () => {
  open({ pairs: [pair(0)] });
  const cells = [...root.querySelectorAll(".em-pair td")].map((cell) => cell.textContent);
  expect(cells.slice(1, 7)).toEqual([
    "81.8", "Sentinel-2 18 Sep 2019 10:56 UTCSentinel-1 17 Sep 2019 17:55 UTC",
    "SAR 16.6 h later", "0.1 %", "100 %", "272 × 341 px, reads up to 5.2 MB",
  ]);
});

test("Choose sends the rank; a pair that would be refused can't be chosen and says why", () => {
  const model = open({ pairs: [pair(0), pair(1, { refused: "Uncorrected SAR." })] });
  labelled("Choose pair 1").click();
  expect(model.sent.at(-1)).toEqual({ kind: "choose", rank: 0 });
  expect(labelled("Choose pair 2").disabled).toBe(true);
  expect(root.textContent).toContain("Uncorrected SAR.");
});

test("factors and reasons open, and stay open when the table is drawn again", () => {
  const model = open({ pairs: [pair(0)] });
  const more = () => root.querySelector<HTMLElement>(".em-more");
  expect(more()?.hidden).toBe(true);
  labelled("Factors and reasons of pair 1").click();
  expect(more()?.hidden).toBe(false);
  model.set("chosen", 0);
  expect(more()?.hidden).toBe(false);
  expect(more()?.textContent).toContain("99.9 % of the AOI is clear.");
});

test("the chosen row is marked, in words too", () => {
  const model = open({ pairs: [pair(0), pair(1)], chosen: 1, about: { ...ABOUT, loaded: true } });
  expect(root.querySelector(".em-chosen .em-mark")?.textContent).toBe("✓ chosen");
  model.set("about", { ...ABOUT, busy: "load" });
  expect(root.querySelector(".em-chosen .em-mark")?.textContent).toBe("loading…");
  expect(labelled("Choose pair 1").disabled).toBe(true);
});

test("the chosen row is the current one, and every column has a name", () => {
  open({ pairs: [pair(0), pair(1)], chosen: 1 });
  const current = [...root.querySelectorAll(".em-pair")].map((r) => r.getAttribute("aria-current"));
  expect(current).toEqual([null, "true"]);
  expect([...root.querySelectorAll("th")].every((each) => each.textContent !== "")).toBe(true);
});

test("from Choose to chosen the focus stays in its place", () => {
  const model = open({ pairs: [pair(0), pair(1)] });
  const choose = labelled("Choose pair 2");
  choose.focus();
  choose.click();
  model.set("about", { ...ABOUT, busy: "load" });
  model.set("chosen", 1);
  const mark = root.querySelector(".em-chosen .em-mark");
  expect(document.activeElement).toBe(mark);
  model.set("about", { ...ABOUT, loaded: true });
  expect(mark?.textContent).toBe("✓ chosen");
  expect(document.activeElement).toBe(mark);
  model.set("about", ABOUT); // its pixels are no longer in memory
  expect(document.activeElement).toBe(labelled("Load pair 2"));
});

test("Find pairs and Stop hand the focus to each other", () => {
  const model = open();
  find().focus();
  model.set("about", { ...ABOUT, busy: "search" });
  expect(document.activeElement?.textContent).toBe("Stop");
  model.set("about", ABOUT);
  expect(document.activeElement).toBe(find());
});

test("progress is said while it goes on; Stopped stays", () => {
  const model = open({ about: { ...ABOUT, busy: "load" } });
  const status = () => root.querySelector<HTMLElement>(".em-status")?.textContent;
  model.say({ kind: "status", ask: null, text: "loading the pixels" });
  expect(status()).toBe("loading the pixels");
  model.set("about", { ...ABOUT, loaded: true });
  expect(status()).toBe("");
  model.set("about", { ...ABOUT, busy: "search" });
  expect(status()).toBe("Searching for pairs…");
  [...root.querySelectorAll("button")].find((each) => each.textContent === "Stop")?.click();
  model.say({ kind: "status", ask: null, text: "Stopped." });
  model.set("about", ABOUT);
  expect(status()).toBe("Stopped.");
});

test("a search sends what was given, null where nothing was", () => {
  const model = open();
  find().click();
  expect(model.sent.at(-1)).toEqual({
    kind: "search", dates: null, max_gap: null, max_cloud: null,
  });
  for (const [i, value] of ["2019-09-15", "2019-09-20", "6", "20"].entries()) {
    const input = inputs()[i];
    if (input !== undefined) input.value = value;
  }
  find().click();
  expect(model.sent.at(-1)).toEqual({
    kind: "search", dates: "2019-09-15/2019-09-20", max_gap: "6 days", max_cloud: 20,
  });
});

test("one day without the other is said, not sent", () => {
  const model = open();
  const first = inputs()[0];
  if (first !== undefined) first.value = "2019-09-15";
  find().click();
  expect(model.sent).toEqual([{ kind: "hello" }]);
  expect(root.querySelector("[role=status]")?.textContent).toContain("both days");
});

test("what the user types stays through a redraw; another area brings its own days", () => {
  const model = open();
  const first = inputs()[0];
  if (first !== undefined) first.value = "2020-01-01";
  model.set("about", { ...ABOUT, busy: "search" });
  expect(inputs()[0]?.value).toBe("2020-01-01");
  model.set("about", { ...ABOUT, name: "chile", dates: "2021-02-01/2021-02-09" });
  expect(inputs().slice(0, 2).map((each) => each.value)).toEqual(["2021-02-01", "2021-02-09"]);
});

test("without pairs it says what to do, without a subject there is nothing to search", () => {
  const model = open({ about: { ...ABOUT, name: "", kind: "", hint: "Draw an area first." } });
  expect(root.querySelector(".em-hint")?.textContent).toBe("Draw an area first.");
  expect(root.querySelector<HTMLElement>(".em-form")?.hidden).toBe(true);
  model.set("about", ABOUT);
  expect(root.querySelector<HTMLElement>(".em-form")?.hidden).toBe(false);
});

test("Stop while it searches", () => {
  const model = open({ about: { ...ABOUT, busy: "search" } });
  const stop = [...root.querySelectorAll("button")].find((b) => b.textContent === "Stop");
  expect(stop?.hidden).toBe(false);
  stop?.click();
  expect(model.sent.at(-1)).toEqual({ kind: "cancel" });
});

test("hostile text of a catalog stays text", () => {
  open({
    pairs: [pair(0, {
      gap: HOSTILE, cost: HOSTILE, refused: HOSTILE, reasons: [HOSTILE],
      scenes: [{ id: HOSTILE, modality: HOSTILE, sensor: HOSTILE, observed: HOSTILE }],
      factors: [{ name: HOSTILE, meaning: HOSTILE, value: HOSTILE }],
    })],
    about: { ...ABOUT, name: HOSTILE }, fault: HOSTILE,
  });
  expect(root.querySelectorAll("img")).toHaveLength(0);
});

import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { chart } from "../src/chart";
import probe from "../src/probe";
import { fromBrowser } from "../src/protocol";
import { FakeModel } from "./fake";

const HOSTILE = "<img src=x onerror=alert(1)>";
let root: HTMLElement;
let close: () => void;

const columns = [
  { band: "red", unit: "reflectance", modality: "optical", source: "Sentinel-2, 18 Sep 2019",
    earlier: "" },
  { band: "vv", unit: "dB σ⁰", modality: "sar", source: "Sentinel-1, 17 Sep 2019",
    earlier: "" },
];
const profile = {
  title: "20 m, 3 samples every 10 m", columns, note: "",
  rows: [[0, 0.1, -12], [10, null, -13], [20, 0.3, -14]], csv: "distance (m),red\n0,0.1\n",
};

function open(traits: Record<string, unknown> = {}): FakeModel {
  const model = new FakeModel({
    mode: "", columns, here: {}, pinned: {}, line: [], profile: {}, fault: "", ...traits,
  });
  close = probe.render({ model, el: root });
  return model;
}

const sent = (model: FakeModel): unknown[] => {
  const messages = model.sent.slice(1);
  for (const message of messages) expect(fromBrowser(message)).toEqual(message);
  return messages;
};
const press = (label: string): HTMLButtonElement => {
  const found = Array.from(root.querySelectorAll("button")).find((b) => b.textContent === label);
  if (found === undefined) throw new Error(`no button ${label}`);
  found.click();
  return found;
};
const cells = (): (string | null)[][] =>
  Array.from(root.querySelectorAll(".em-values tbody tr"),
    (row) => Array.from(row.children, (cell) => cell.textContent));

beforeEach(() => {
  root = document.createElement("div");
  document.body.append(root);
});
afterEach(() => {
  close();
  root.remove();
  vi.unstubAllGlobals();
});

test("values stand beside each other with their units", () => {
  const model = open();
  model.set("here", { place: "38° N, 1° W", pixel: "row 1, column 2", values: ["0.0812", "−12.0"] });
  model.set("pinned", { place: "39° N, 1° W", pixel: "", values: ["no data", "no data"] });
  expect(cells()).toEqual([
    ["Place", "38° N, 1° W, row 1, column 2", "39° N, 1° W, outside the pictures"],
    ["Sentinel-2, 18 Sep 2019, reflectance"],
    ["red", "0.0812", "no data"],
    ["Sentinel-1, 17 Sep 2019, dB σ⁰"],
    ["VV", "−12.0", "no data"],
  ]);
  model.set("here", {});
  expect(cells()[2]).toEqual(["red", "–", "no data"]);
});

test("two dates stand beside each other, the earlier one first", () => {
  const [red, vv] = columns;
  const model = open({ columns: [red, { ...vv, earlier: "Sentinel-1, 7 Jun 2019" }] });
  model.set("here", {
    place: "38° N", pixel: "row 1", values: ["0.0812", "−12.0"], earlier: ["not read", "−15.0"],
  });
  const heads = Array.from(root.querySelectorAll(".em-values thead th"), (th) => th.textContent);
  expect(heads).toEqual(["Band", "Under the mouse, earlier date", "Under the mouse, later date",
    "Pinned, earlier date", "Pinned, later date"]);
  expect(cells().slice(1)).toEqual([
    ["Sentinel-2, 18 Sep 2019, reflectance"],
    ["red", "not read", "0.0812", "–", "–"],
    ["Sentinel-1, 7 Jun 2019 → Sentinel-1, 17 Sep 2019, dB σ⁰"],
    ["VV", "−15.0", "−12.0", "–", "–"],
  ]);
  // Every row is as wide as the head.
  for (const row of root.querySelectorAll<HTMLTableRowElement>(".em-values tr")) {
    expect(Array.from(row.cells).reduce((sum, cell) => sum + cell.colSpan, 0)).toBe(5);
  }
  model.set("columns", columns);
  expect(cells()[2]).toEqual(["red", "0.0812", "–"]);
});

test("a movement changes cells, not the table", () => {
  const model = open();
  const before = root.querySelector(".em-values tbody tr");
  model.set("here", { place: "x", pixel: "y", values: ["1", "2"] });
  expect(root.querySelector(".em-values tbody tr")).toBe(before);
});

test("the mouse is followed by a button that says whether it is", () => {
  const model = open();
  press("Read under the mouse");
  model.set("mode", "values");
  expect(press("Read under the mouse").getAttribute("aria-pressed")).toBe("true");
  press("Draw a line");
  press("Clear");
  expect(sent(model)).toEqual([
    { kind: "probe", mode: "values" }, { kind: "probe", mode: "" }, { kind: "probe", mode: "line" },
    { kind: "clear" },
  ]);
});

test("places and lines are typed, too", () => {
  const model = open();
  const [place, line] = Array.from(root.querySelectorAll("input"));
  place!.value = "-0.77, 38.1";
  place!.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
  line!.value = "-0.77, 38.1; -0.75, 38.1";
  press("Draw profile");
  expect(sent(model)).toEqual([
    { kind: "locate", text: "-0.77, 38.1" }, { kind: "along", text: "-0.77, 38.1; -0.75, 38.1" },
  ]);
});

test("a profile is a chart per sensor, a table, and CSV to copy", async () => {
  const copied = vi.fn((_: string) => Promise.resolve());
  vi.stubGlobal("navigator", { clipboard: { writeText: copied }, onLine: true });
  const model = open({ profile, line: ["a", "b"] });
  const charts = root.querySelectorAll("[role=img]");
  expect(Array.from(charts, (each) => each.getAttribute("aria-label"))).toEqual([
    "red in reflectance over 20 m; the table holds the numbers",
    "VV in dB σ⁰ over 20 m; the table holds the numbers",
  ]);
  const numbers = Array.from(root.querySelectorAll(".em-charts tbody tr"),
    (row) => Array.from(row.children, (cell) => cell.textContent));
  expect(numbers[1]).toEqual(["10", "no data", "−13.0"]);
  press("Copy as CSV");
  await vi.waitFor(() => expect(root.textContent).toContain("copied as CSV"));
  expect(copied).toHaveBeenCalledWith(profile.csv);
  model.set("profile", {});
  expect(root.querySelector("svg.em-chart")).toBeNull();
});

test("without a right to the clipboard the text is there", async () => {
  const refused = () => Promise.reject(new Error("no"));
  vi.stubGlobal("navigator", { clipboard: { writeText: refused }, onLine: true });
  open({ profile });
  press("Copy as CSV");
  await vi.waitFor(() => expect(root.querySelector("textarea")?.value).toBe(profile.csv));
});

test("a chart lifts its pen where there is no data", () => {
  const drawn = chart([0, 10, 20, 30], [{ name: "red", values: [0, null, 1, 0.5] }], "reflectance");
  const path = drawn.querySelector("path")?.getAttribute("d") ?? "";
  expect(path.match(/M/g)).toHaveLength(2);
  expect(path.match(/L/g)).toHaveLength(1);
  const flat = chart([0, 10], [{ name: "red", values: [2, 2] }], "x");
  expect(flat.querySelector("path")?.getAttribute("d")).not.toContain("NaN");
});

test("text of others stays text, and without pixels there is only a hint", () => {
  const model = open({
    columns: [{ ...columns[0], band: HOSTILE, unit: HOSTILE, source: HOSTILE }],
    here: { place: HOSTILE, pixel: HOSTILE, values: [HOSTILE] }, fault: HOSTILE, line: [HOSTILE],
    profile: { ...profile, title: HOSTILE, note: HOSTILE,
      columns: [{ ...columns[0], band: HOSTILE }, columns[1]] },
  });
  expect(root.querySelector("img")).toBeNull();
  expect(root.textContent).toContain(HOSTILE);
  model.set("columns", []);
  expect(root.textContent).toContain("choose a pair or open files");
  expect(root.querySelector<HTMLElement>(".em-controls")?.hidden).toBe(true);
  close();
  expect(model.listeners).toBe(0);
});

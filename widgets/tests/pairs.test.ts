import { afterEach, expect, test } from "vitest";

import pairs from "../src/pairs";
import { FakeModel } from "./fake";

const HOSTILE = "<img src=x onerror=alert(1)>";
const ABOUT = {
  name: "spain", kind: "aoi", busy: "", loaded: false, place: true, hint: "", terms: {},
  choices: [], looks: "none", network: false,
};
const OFFERS = {
  catalogs: [
    { name: "sample", title: "Sample scenes", state: "embedded, needs no network" },
    { name: "opera", title: "OPERA", state: "needs network and a key: EARTHDATA_TOKEN" },
  ],
  sensors: [{ key: "landsat-c2-l2", title: "Landsat" }],
  purposes: [{ name: "default", title: "any" }, { name: "flood", title: "flood" }],
};
const NOTHING = {
  kind: "search", dates: null, around: null, max_gap: null, max_cloud: null, purpose: null,
  sensors: null, catalog: null,
};
const JPEG = "data:image/jpeg;base64,AAAA";
const FACTS = {
  orbit: "descending, track 48", incidence: "—", level: "L2A", baseline: "02.14", cloud: "3 %",
  coverage: "100 %",
};

function pair(rank: number, changes: object = {}) {
  return {
    rank, score: "81.8", gap: "SAR 16.6 h later", clear: "99 %", cloud: "0.1 %", overlap: "100 %",
    cost: "272 × 341 px, reads up to 5.2 MB", refused: "",
    scenes: [
      { id: `S2-${rank}`, modality: "optical", sensor: "Sentinel-2", observed: "18 Sep 2019 10:56 UTC", ...FACTS },
      { id: `S1-${rank}`, modality: "sar", sensor: "Sentinel-1", observed: "17 Sep 2019 17:55 UTC", ...FACTS },
    ],
    factors: [{ name: "V", meaning: "valid and clear", value: "1.00" }],
    reasons: ["99.9 % of the AOI is clear."],
    sort: { score: -81.8 + rank, gap: 16.6, clear: -0.99, cloud: 0.1, overlap: -1, cost: 5e6 },
    ...changes,
  };
}

let root: HTMLElement;
let close: () => void;

function open(traits: Record<string, unknown> = {}): FakeModel {
  const model = new FakeModel({ pairs: [], chosen: null, about: ABOUT, offers: OFFERS, looks: {}, fault: "", ...traits });
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
const control = (label: string): HTMLInputElement => {
  const named = [...root.querySelectorAll("label")].find((each) => each.textContent === label);
  const found = root.querySelector<HTMLInputElement>(`#${named?.htmlFor ?? "none"}`);
  if (found === null) throw new Error(`no field ${label}`);
  return found;
};
const pickIn = (label: string, value: string): void => {
  control(label).value = value;
  control(label).dispatchEvent(new Event("change"));
};
const days = (first: string, last: string): void => {
  control("From").value = first;
  control("to").value = last;
  control("to").dispatchEvent(new Event("change"));
};
const inputs = (): HTMLInputElement[] => [...root.querySelectorAll("input")];

afterEach(() => {
  close();
  root.remove();
});

test("a row says score, times, gap, shares, cost, and what is known of each scene", () => {
  open({ pairs: [pair(0)] });
  const cells = [...root.querySelectorAll(".em-pair td")].map((cell) => cell.textContent);
  expect(cells.slice(1)).toEqual([
    "81.8",
    "Sentinel-2 18 Sep 2019 10:56 UTCPinExcludeSentinel-1 17 Sep 2019 17:55 UTCPinExclude",
    "SAR 16.6 h later", "99 %", "0.1 %", "100 %", "descending, track 48descending, track 48",
    "——", "L2AL2A", "02.1402.14", "272 × 341 px, reads up to 5.2 MB",
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

test("folded, one line says what is chosen, or what to do", () => {
  const model = open({ unfolded: false, about: { ...ABOUT, hint: "Find the pairs." } });
  const brief = root.querySelector<HTMLElement>(".em-brief");
  expect([brief?.textContent, brief?.hidden]).toEqual(["Find the pairs.", false]);
  expect(root.querySelector<HTMLElement>(".em-inside")?.hidden).toBe(true);
  model.set("pairs", [pair(0)]);
  model.set("chosen", 0);
  expect(brief?.textContent).toBe("Chosen: Sentinel-2 18 Sep 2019, Sentinel-1 17 Sep 2019");
  model.set("unfolded", true);
  expect(brief?.hidden).toBe(true);
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
  expect(model.sent.at(-1)).toEqual(NOTHING);
  days("2019-09-15", "2019-09-20");
  control("Days apart at most").value = "6";
  control("Cloud at most, %").value = "0";
  pickIn("Sensors", "optical");
  pickIn("Purpose", "flood");
  pickIn("Catalog", "opera");
  control("Near").value = " 2019-09-18 ";
  expect(root.textContent).toContain("needs network and a key: EARTHDATA_TOKEN");
  find().click();
  expect(model.sent.at(-1)).toEqual({
    kind: "search", dates: "2019-09-15/2019-09-20", around: "2019-09-18", max_gap: "6 days",
    max_cloud: 0, purpose: "flood", sensors: "optical", catalog: "opera",
  });
});

test("sensors by name, a catalog by path, and Enter searches", () => {
  const model = open();
  expect(control("Sensors by name").parentElement?.hidden).toBe(true);
  pickIn("Sensors", "other");
  pickIn("Catalog", "other");
  control("Sensors by name").value = "landsat-c2-l2";
  control("Path or address").value = "/data/catalog.json";
  const event = new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true });
  control("Path or address").dispatchEvent(event);
  expect(event.defaultPrevented).toBe(true);
  expect(model.sent.at(-1)).toEqual({
    ...NOTHING, sensors: "landsat-c2-l2", catalog: "/data/catalog.json",
  });
});

test("days in words and days picked are the same days", () => {
  open();
  days("2019-09-15", "2019-09-20");
  expect(control("Dates in words").value).toBe("2019-09-15/2019-09-20");
  control("Dates in words").value = "2020-01-02";
  control("Dates in words").dispatchEvent(new Event("input"));
  expect([control("From").value, control("to").value]).toEqual(["2020-01-02", "2020-01-02"]);
  control("Dates in words").value = "some day";
  control("Dates in words").dispatchEvent(new Event("input"));
  expect([control("From").value, control("to").value]).toEqual(["", ""]);
});

test("the form shows what was asked, be it a catalog that has no name", () => {
  const terms = {
    dates: "2021-02-01/2021-02-09", around: "2021-02-03", max_gap: "3", max_cloud: "0",
    purpose: "flood", sensors: "landsat-c2-l2", catalog: "=",
  };
  const model = open({ about: { ...ABOUT, terms } });
  find().click();
  expect(model.sent.at(-1)).toEqual({
    kind: "search", dates: "2021-02-01/2021-02-09", around: "2021-02-03", max_gap: "3 days",
    max_cloud: 0, purpose: "flood", sensors: "landsat-c2-l2", catalog: "=",
  });
  model.set("about", { ...ABOUT, terms: { ...terms, catalog: "/data/c.json" } });
  find().click();
  expect(model.sent.at(-1)).toMatchObject({ catalog: "/data/c.json" });
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
  model.set("about", { ...ABOUT, name: "chile", terms: { dates: "2021-02-01/2021-02-09" } });
  expect(inputs().slice(0, 2).map((each) => each.value)).toEqual(["2021-02-01", "2021-02-09"]);
});

test("plain keys are the panel's, those with Ctrl the notebook's", () => {
  open();
  const heard: string[] = [];
  const hear = (event: KeyboardEvent) => heard.push(event.key);
  document.addEventListener("keydown", hear);
  for (const [key, ctrlKey] of [["a", false], ["s", true]] as const) {
    control("Sensors").dispatchEvent(new KeyboardEvent("keydown", { key, ctrlKey, bubbles: true }));
  }
  document.removeEventListener("keydown", hear);
  expect(heard).toEqual(["s"]);
});

test("what was asked by a search that was stopped stays", () => {
  const model = open();
  days("2020-01-01", "2020-01-09");
  find().click();
  const terms = { dates: "2020-01-01/2020-01-09" };
  model.set("about", { ...ABOUT, busy: "search", terms });
  model.set("about", ABOUT);
  expect(control("Dates in words").value).toBe("2020-01-01/2020-01-09");
  model.set("about", { ...ABOUT, terms: { dates: "2020-01-02/2020-01-09" } });
  expect(control("From").value).toBe("2020-01-02");
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
      scenes: [{ ...FACTS, id: HOSTILE, modality: HOSTILE, sensor: HOSTILE, observed: HOSTILE,
        orbit: HOSTILE }],
      factors: [{ name: HOSTILE, meaning: HOSTILE, value: HOSTILE }],
    })],
    about: { ...ABOUT, name: HOSTILE, looks: "on",
      choices: [{ id: HOSTILE, how: "pin", words: HOSTILE }] },
    fault: HOSTILE, looks: { [HOSTILE]: "https://elsewhere.example/x.jpg" },
  });
  const looks = [...root.querySelectorAll("img")];
  expect(looks.map((each) => [each.hidden, each.getAttribute("src"), each.hasAttribute("onerror")]))
    .toEqual([[true, null, false]]);
});

test("sorted by a column, unknown last; the score again", () => {
  const sorts = [{ cloud: 9 }, { cloud: null }, { cloud: 1 }];
  open({ pairs: sorts.map((sort, rank) => pair(rank, { score: String(rank), sort: { score: rank, ...sort } })) });
  const order = () => [...root.querySelectorAll(".em-score")].map((each) => each.textContent);
  const head = (name: string) =>
    [...root.querySelectorAll<HTMLButtonElement>("th button")].find((b) => b.textContent === name);
  head("Cloud")?.click();
  expect(order()).toEqual(["2", "0", "1"]);
  expect(head("Cloud")?.closest("th")?.getAttribute("aria-sort")).toBe("ascending");
  expect(root.querySelector("caption")?.textContent).toBe("3 pairs, best cloud first");
  head("Score")?.click();
  expect(order()).toEqual(["0", "1", "2"]);
});

test("a scene is pinned and let go by one button, which keeps the focus", () => {
  const model = open({ pairs: [pair(0)] });
  labelled("Pin S2-0").focus();
  labelled("Pin S2-0").click();
  expect(model.sent.at(-1)).toEqual({ kind: "pick", scene: "S2-0", how: "pin" });
  model.set("about", { ...ABOUT, busy: "search" });
  model.set("pairs", []);
  expect(labelled("Pin S2-0").getAttribute("aria-disabled")).toBe("true");
  labelled("Pin S2-0").click();
  expect(model.sent).toHaveLength(2);
  model.set("pairs", [pair(0, { score: "90.0" })]);
  model.set("about", { ...ABOUT, choices: [{ id: "S2-0", how: "pin", words: "Pinned by you" }] });
  const pin = labelled("Pin S2-0");
  expect([pin.getAttribute("aria-pressed"), pin.textContent]).toEqual(["true", "✓ Pin"]);
  expect(document.activeElement).toBe(pin);
  pin.click();
  expect(model.sent.at(-1)).toEqual({ kind: "pick", scene: "S2-0", how: "free" });
  labelled("Take back: Pinned by you S2-0").click();
  expect(model.sent.at(-1)).toEqual({ kind: "pick", scene: "S2-0", how: "free" });
});

test("the pairs of another area don't stay while this one is searched", () => {
  const model = open({ pairs: [pair(0)] });
  model.set("about", { ...ABOUT, name: "chile", busy: "search" });
  model.set("pairs", []);
  expect(root.querySelectorAll(".em-pair")).toHaveLength(0);
});

test("quick-looks: on, off, and said where they would be read over the network", () => {
  const model = open({ pairs: [pair(0)], looks: { "S2-0": JPEG, "S1-0": "" },
    about: { ...ABOUT, looks: "on" } });
  const [optical, sar] = [...root.querySelectorAll("img")];
  expect(optical?.getAttribute("src")).toBe(JPEG);
  expect(optical?.getAttribute("alt")).toBe("Quick-look of Sentinel-2, 18 Sep 2019 10:56 UTC");
  expect([optical?.hidden, sar?.hidden]).toEqual([false, true]);
  const toggle = () => [...root.querySelectorAll("button")].find((b) => b.textContent?.includes("quick-looks"));
  toggle()?.click();
  expect(model.sent.at(-1)).toEqual({ kind: "looks", on: false });
  model.set("about", { ...ABOUT, looks: "off", network: true });
  expect(optical?.hidden).toBe(true);
  expect(toggle()?.textContent).toBe("Show quick-looks (reads over the network)");
});

test("progress is for eyes, a stall is said, and both go with the work", () => {
  const model = open({ about: { ...ABOUT, busy: "search" } });
  const stall = "The catalog has not answered for 10 s.";
  model.say({ kind: "progress", text: "reading cloud masks 12 of 40, 14 s of 120 s", stall });
  const progress = root.querySelector(".em-progress");
  expect(progress?.textContent).toBe("reading cloud masks 12 of 40, 14 s of 120 s");
  expect(progress?.hasAttribute("role")).toBe(false);
  expect(root.querySelector(".em-stall")?.textContent).toBe(stall);
  expect(root.querySelector(".em-stall")?.getAttribute("role")).toBe("status");
  model.set("about", ABOUT);
  model.say({ kind: "progress", text: "late", stall });
  expect([progress?.textContent, root.querySelector(".em-stall")?.textContent]).toEqual(["", ""]);
});

test("a hundred pairs are drawn once, and told what changes", () => {
  const model = open({ pairs: Array.from({ length: 100 }, (_, rank) => pair(rank)) });
  const first = root.querySelector(".em-pair");
  model.set("about", { ...ABOUT, busy: "load" });
  model.set("chosen", 99);
  expect(root.querySelectorAll(".em-pair")).toHaveLength(100);
  expect(root.querySelector(".em-pair")).toBe(first);
  expect(root.querySelectorAll("[aria-current]")).toHaveLength(1);
});

test("another pair is compared with the chosen one, and that ends where it began", () => {
  const model = open({ pairs: [pair(0), pair(1), pair(2, { refused: "Too large." })] });
  const against = (rank: number): HTMLButtonElement => {
    const found = root.querySelectorAll<HTMLButtonElement>(".em-against")[rank];
    if (found === undefined) throw new Error(`no row ${rank}`);
    return found;
  };
  expect([0, 1, 2].map((rank) => against(rank).hidden)).toEqual([true, true, true]);
  model.set("chosen", 0);
  expect([0, 1, 2].map((rank) => against(rank).hidden)).toEqual([true, false, false]);
  labelled("Compare with this: pair 2").click();
  expect(model.sent.at(-1)).toEqual({ kind: "dates", rank: 1 });
  model.set("before", 1);
  model.set("about", { ...ABOUT, compared: "Compared: 7 Jun 2020 → 3 Sep 2020, by SAR." });
  const status = root.querySelector(".em-compared");
  expect(status?.getAttribute("role")).toBe("status");
  expect(status?.textContent).toContain("7 Jun 2020 → 3 Sep 2020");
  expect([against(1).textContent, against(1).getAttribute("aria-pressed")]).toEqual(["✓ Before", "true"]);
  expect(against(2).getAttribute("aria-pressed")).toBe("false");
  labelled("Before: pair 2").focus();
  model.set("about", { ...ABOUT, busy: "load" });
  labelled("Before: pair 2").click();
  expect(document.activeElement).toBe(against(1));
  expect(model.sent.filter((each) => (each as { kind: string }).kind === "dates")).toHaveLength(1);
  model.set("about", ABOUT);
  labelled("Before: pair 2").click();
  expect(model.sent.at(-1)).toEqual({ kind: "dates", rank: null });
  labelled("Compare with this: pair 3").click(); // it can't be loaded
  expect(model.sent.at(-1)).toEqual({ kind: "dates", rank: null });
});

import { afterEach, expect, test } from "vitest";

import timeline from "../src/timeline";
import { FakeModel } from "./fake";

const HOSTILE = "<img src=x onerror=alert(1)>";
const DAY = 86_400_000;
const FIRST = Date.UTC(2020, 5, 1);
const GAP = "The gap is 9 days, beyond max_gap of 6 days.";
const CLOUD = "In S2-b, cloud is 80 % inside the AOI, beyond max_cloud of 20.";
const ABOUT = { name: "spain", busy: "", hint: "", missed: "" };
/** Two optical scenes and two SAR ones: one pair, three rejected. */
const SHOWN = {
  first: "2020-06-01", last: "2020-06-20",
  scenes: [
    ["S2-a", 0, FIRST + DAY, FIRST + DAY, 3, "Sentinel-2, 2 Jun 2020, cloud 3 %"],
    ["S1-a", 1, FIRST + 2 * DAY, FIRST + 3 * DAY, null, "Sentinel-1, 3 Jun 2020"],
    ["S2-b", 0, FIRST + 12 * DAY, FIRST + 12 * DAY, 80, "Sentinel-2, 13 Jun 2020, cloud 80 %"],
    ["S1-b", 1, FIRST + 11 * DAY, FIRST + 11 * DAY, null, "Sentinel-1, 12 Jun 2020"],
  ],
  pairs: [[0, 1]],
  rejected: [[0, 3, 0], [2, 1, 1], [2, 3, 1]],
  reasons: [GAP, CLOUD],
};

let root: HTMLElement;
let close: () => void;

function open(traits: Record<string, unknown> = {}): FakeModel {
  const model = new FakeModel({ shown: SHOWN, chosen: null, about: ABOUT, fault: "", ...traits });
  root = document.createElement("div");
  document.body.append(root);
  close = timeline.render({ model, el: root });
  return model;
}

const mark = (number: number): SVGGElement => {
  const found = root.querySelector<SVGGElement>(`[data-scene="${number}"]`);
  if (found === null) throw new Error(`no mark ${number}`);
  return found;
};
const press = (key: string): void => {
  document.activeElement?.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
};
const named = (label: string): HTMLButtonElement => {
  const found = root.querySelector<HTMLButtonElement>(`button[aria-label="${label}"]`);
  if (found === null) throw new Error(`no button ${label}`);
  return found;
};
const at = (): string | null => document.activeElement?.getAttribute("data-scene") ?? null;

afterEach(() => {
  close();
  root.remove();
});

test("what has no scenes says why, and an empty session what comes here", () => {
  const nothing = { shown: {}, about: { ...ABOUT, name: "", hint: "Files have no scenes." } };
  const model = open(nothing);
  expect(root.querySelector(".em-hint")?.textContent).toBe("Files have no scenes.");
  model.set("about", { ...nothing.about, hint: "" });
  expect(root.querySelector(".em-hint")?.textContent).toContain("Search first");
});

test("a mark per scene says what became of it: its pair, or the one reason", () => {
  open({ chosen: 0 });
  const labels = [0, 1, 2, 3].map((number) => mark(number).getAttribute("aria-label"));
  expect(labels).toEqual([
    "Sentinel-2, 2 Jun 2020, cloud 3 %. pair 1; pair 1 is chosen",
    "Sentinel-1, 3 Jun 2020. pair 1; pair 1 is chosen",
    `Sentinel-2, 13 Jun 2020, cloud 80 %. Rejected: ${CLOUD}`,
    // Of its two candidates the nearer one in time.
    `Sentinel-1, 12 Jun 2020. Rejected: ${CLOUD}`,
  ]);
  expect(root.querySelectorAll(".em-out .em-cross")).toHaveLength(2);
  expect(root.querySelector(".em-taken")).not.toBeNull();
  expect(root.textContent).toContain("4 scenes, 1 pair, 3 rejected");
});

test("ticks: days where there is room for them, else first days of months", () => {
  const words = () => [...root.querySelectorAll(".em-tick")].map((each) => each.textContent);
  const model = open();
  expect(words()).toEqual(["2 Jun", "7 Jun", "12 Jun", "17 Jun"]);
  model.set("shown", { ...SHOWN, last: "2021-05-31" });
  expect(words()).toEqual(["Jul 2020", "Oct 2020", "Jan 2021", "Apr 2021"]);
  model.set("shown", { ...SHOWN, first: "1990-01-01" });
  expect(words()).toEqual([
    "Jan 1990", "Jan 1995", "Jan 2000", "Jan 2005", "Jan 2010", "Jan 2015", "Jan 2020"]);
});

test("one stop for Tab; arrows go in time and between the lanes", () => {
  open();
  expect([...root.querySelectorAll("[data-scene][tabindex='0']")]).toEqual([mark(0)]);
  mark(0).focus();
  press("ArrowRight");
  expect(at()).toBe("2");
  press("ArrowDown");
  expect(at()).toBe("3");
  press("ArrowLeft");
  expect(at()).toBe("1");
  press("ArrowLeft");
  expect(at()).toBe("1");
  press("ArrowUp");
  expect(at()).toBe("0");
  press("End");
  expect(at()).toBe("2");
  expect([...root.querySelectorAll("[data-scene][tabindex='0']")]).toEqual([mark(2)]);
});

test("Enter shows a scene with its candidates; pin, exclude and choose are there", () => {
  const model = open();
  mark(0).focus();
  press("Enter");
  expect(at()).toBe("0");
  const detail = root.querySelector(".em-detail");
  expect(detail?.textContent).toContain(`With Sentinel-1, 12 Jun 2020: ${GAP}`);
  named("Choose pair 1").click();
  expect(model.sent.at(-1)).toEqual({ kind: "choose", rank: 0 });
  named("Pin S2-a").click();
  expect(model.sent.at(-1)).toEqual({ kind: "pick", scene: "S2-a", how: "pin" });
  named("Exclude S2-a").click();
  expect(model.sent.at(-1)).toEqual({ kind: "pick", scene: "S2-a", how: "exclude" });
  model.set("about", { ...ABOUT, busy: "search" });
  named("Pin S2-a").click();
  expect(model.sent).toHaveLength(4);
  mark(0).focus();
  press("Enter");
  expect(root.querySelector<HTMLElement>(".em-detail")?.hidden).toBe(true);
});

test("a rejected candidate's line is there while its scene is shown", () => {
  open();
  expect(root.querySelectorAll(".em-refused")).toHaveLength(0);
  mark(2).dispatchEvent(new MouseEvent("click", { bubbles: true }));
  expect(root.querySelectorAll(".em-refused")).toHaveLength(2);
});

test("the reason is there for the keyboard as for the pointer", () => {
  open();
  const tip = root.querySelector<HTMLElement>(".em-tip");
  mark(2).focus();
  mark(2).dispatchEvent(new FocusEvent("focusin", { bubbles: true }));
  expect(tip?.textContent).toContain(CLOUD);
  mark(1).dispatchEvent(new Event("pointerover", { bubbles: true }));
  expect(tip?.textContent).toContain("pair 1");
});

test("a click on a pair's line chooses it", () => {
  const model = open();
  root.querySelector("line.em-touch")?.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  expect(model.sent.at(-1)).toEqual({ kind: "choose", rank: 0 });
});

test("all candidates as a table, made when it is opened", () => {
  open();
  const all = root.querySelector("details");
  expect(root.querySelector("tbody")).toBeNull();
  if (all !== null) all.open = true;
  all?.dispatchEvent(new Event("toggle"));
  const rows = [...root.querySelectorAll("tbody tr")].map((row) =>
    [...row.children].map((cell) => cell.textContent));
  expect(rows).toHaveLength(4);
  expect(rows[0]).toEqual(["Sentinel-2, 2 Jun 2020, cloud 3 %", "Sentinel-1, 3 Jun 2020", "pair 1"]);
  expect(rows[1]?.[2]).toBe(GAP);
});

test("five hundred candidates are a mark per scene; a choice moves no data", () => {
  const scenes = Array.from({ length: 45 }, (_, n) =>
    [`s${n}`, n < 25 ? 0 : 1, FIRST + n * DAY, FIRST + n * DAY, n < 25 ? n : null, `scene ${n}`]);
  const both = Array.from({ length: 500 }, (_, n) => [n % 25, 25 + Math.floor(n / 25)]);
  const model = open({ shown: {
    first: "2020-06-01", last: "2020-07-15", scenes, pairs: both.slice(0, 10),
    rejected: both.slice(10).map((pair) => [...pair, 0]), reasons: [GAP],
  } });
  expect(root.querySelectorAll("[data-scene]")).toHaveLength(45);
  expect(root.textContent).toContain("45 scenes, 10 pairs, 490 rejected");
  mark(3).focus();
  model.set("chosen", 4);
  expect(root.querySelectorAll(".em-taken")).toHaveLength(1);
  expect(root.querySelectorAll("[data-scene][tabindex='0']")).toHaveLength(1);
});

test("a search without a pair says so beside what it looked at", () => {
  open({ shown: { ...SHOWN, pairs: [] }, about: { ...ABOUT, missed: "No pair. Try: max_cloud=80." } });
  expect(root.textContent).toContain("The last search found no pair. This is what it looked at:");
  expect(mark(0).getAttribute("aria-label")).toContain("Rejected");
});

test("what is no data of ours is an empty timeline", () => {
  for (const shown of [null, 3, { scenes: "x", pairs: [[0, 1]], rejected: [null, [7, 9, 5]] }]) {
    open({ shown });
    expect(root.querySelectorAll("[data-scene]")).toHaveLength(0);
    close();
    root.remove();
  }
  open();
});

test("a scene of an unknown time is in the table alone; hostile words stay words", () => {
  open({ shown: { ...SHOWN, reasons: [HOSTILE, HOSTILE],
    scenes: SHOWN.scenes.map((row, n) => [HOSTILE, row[1], n === 3 ? null : row[2], row[3], 1, HOSTILE]) },
    about: { ...ABOUT, name: HOSTILE, missed: HOSTILE }, fault: HOSTILE });
  expect(root.querySelectorAll("[data-scene]")).toHaveLength(3);
  mark(2).dispatchEvent(new MouseEvent("click", { bubbles: true }));
  expect(root.querySelectorAll("img")).toHaveLength(0);
});

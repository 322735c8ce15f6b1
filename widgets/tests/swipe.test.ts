import { afterEach, expect, test, vi } from "vitest";

import swipe, { BLINK_MS } from "../src/swipe";
import { FakeModel } from "./fake";

let map: HTMLElement;
let close: () => void;
let frame: (() => void) | null = null;

/** A map as Leaflet builds it: 642 x 400 px, its map pane moved by a drag. */
function leaflet(): HTMLElement {
  map = document.createElement("div");
  map.className = "leaflet-container";
  for (const name of ["map", "earthmind-optical", "earthmind-sar", "earthmind-sar-before"]) {
    const pane = document.createElement("div");
    pane.className = `leaflet-${name}-pane`;
    map.append(pane);
  }
  map.getBoundingClientRect = () => new DOMRect(100, 50, 642, 400);
  pane("map").getBoundingClientRect = () => new DOMRect(90, 70, 0, 0);
  document.body.append(map);
  return map;
}

function pane(name: string): HTMLElement {
  const found = map.querySelector<HTMLElement>(`.leaflet-${name}-pane`);
  if (found === null) throw new Error(`no pane ${name}`);
  return found;
}

function open(traits: Record<string, unknown> = {}, into: HTMLElement = leaflet()): FakeModel {
  const model = new FakeModel({
    how: "swipe", position: 0.5, left_pane: "earthmind-opticalPane",
    right_pane: "earthmind-sarPane", left_title: "Sentinel-2, 18 Sep 2019",
    right_title: "Sentinel-1, 17 Sep 2019",
    ...traits,
  });
  const el = document.createElement("div");
  into.append(el);
  close = swipe.render({ model, el });
  return model;
}

const range = (): HTMLInputElement | null => map.querySelector("input[type=range]");
const clips = (): string[] => ["earthmind-optical", "earthmind-sar"].map((n) => pane(n).style.clip);

afterEach(() => {
  close();
  map.remove();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

test("each pane shows on its side of the line, wherever the map was dragged to", () => {
  open();
  expect(clips()).toEqual([
    "rect(-20px, 331px, 380px, 10px)", "rect(-20px, 652px, 380px, 331px)",
  ]);
});

test("the line is named after what lies beside it", () => {
  const model = open();
  const name = (): string | null | undefined => range()?.getAttribute("aria-label");
  expect(name()).toBe("Swipe between Sentinel-2, 18 Sep 2019 and Sentinel-1, 17 Sep 2019");
  model.set("right_title", "Sentinel-2, 2 Oct 2019");
  expect(name()).toBe("Swipe between Sentinel-2, 18 Sep 2019 and Sentinel-2, 2 Oct 2019");
});

test("the line follows the hand, and the kernel hears where it was left", () => {
  const model = open();
  const line = range()!;
  line.value = "0";
  line.dispatchEvent(new Event("input"));
  expect(clips()[0]).toBe("rect(-20px, 31px, 380px, 10px)");
  expect(model.saved).toBe(0);
  line.dispatchEvent(new Event("change"));
  expect(model.get("position")).toBe(0);
  expect(model.saved).toBe(1);
  model.set("position", 1);
  expect(range()?.value).toBe("1");
  expect(clips()[1]).toBe("rect(-20px, 652px, 380px, 631px)");
});

test("dragging the line does not drag the map", () => {
  open();
  const heard = vi.fn();
  map.addEventListener("mousedown", heard);
  range()!.dispatchEvent(new Event("mousedown", { bubbles: true }));
  expect(heard).not.toHaveBeenCalled();
});

test("switched off, or closed, the whole map is back", () => {
  const model = open();
  model.set("how", "");
  expect(clips()).toEqual(["", ""]);
  expect(range()).toBeNull();
  model.set("how", "swipe");
  expect(map.querySelectorAll("input")).toHaveLength(1);
  close();
  expect(clips()).toEqual(["", ""]);
  expect(range()).toBeNull();
  expect(model.listeners).toBe(0);
});

test("a view that is not on a map yet waits for it, and no longer than it lives", () => {
  vi.stubGlobal("requestAnimationFrame", (next: () => void) => {
    frame = next;
    return 0;
  });
  const apart = document.createElement("div");
  open({}, apart);
  leaflet().append(...apart.childNodes);
  frame?.();
  expect(range()).not.toBeNull();
  close();
  frame?.();
  expect(range()).toBeNull();
});

const hidden = (): string[] =>
  ["earthmind-optical", "earthmind-sar"].map((name) => pane(name).style.visibility);
const badge = (): string => map.querySelector(".earthmind-blink strong")?.textContent ?? "";
const press = (label: string): void => {
  for (const each of map.querySelectorAll("button")) if (each.textContent === label) each.click();
};

/** Whether the user wants no motion; as the browser says it. */
function motion(still: boolean): { change(still: boolean): void } {
  const heard = new Set<() => void>();
  const list = {
    matches: still,
    addEventListener: (_: string, hear: () => void) => heard.add(hear),
    removeEventListener: (_: string, hear: () => void) => heard.delete(hear),
  };
  vi.stubGlobal("matchMedia", () => list);
  return {
    change: (now) => {
      list.matches = now;
      for (const hear of heard) hear();
    },
  };
}

test("pictures blink in turn, each with its name, until Escape", () => {
  vi.useFakeTimers();
  motion(false);
  const model = open({ how: "blink" });
  expect(hidden()).toEqual(["", "hidden"]);
  expect(badge()).toBe("Sentinel-2, 18 Sep 2019");
  vi.advanceTimersByTime(BLINK_MS);
  expect(hidden()).toEqual(["hidden", ""]);
  expect(badge()).toBe("Sentinel-1, 17 Sep 2019");
  vi.advanceTimersByTime(BLINK_MS);
  expect(hidden()).toEqual(["", "hidden"]);
  window.dispatchEvent(new KeyboardEvent("keydown", { key: "a" }));
  expect(model.get("how")).toBe("blink");
  window.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
  expect(model.get("how")).toBe("");
  expect(model.saved).toBe(1);
  expect(hidden()).toEqual(["", ""]);
  vi.advanceTimersByTime(10 * BLINK_MS);
  expect(hidden()).toEqual(["", ""]);
  expect(map.querySelector(".earthmind-blink")).toBeNull();
});

test("who wants no motion changes the picture by hand", () => {
  vi.useFakeTimers();
  const wish = motion(true);
  open({ how: "blink" });
  vi.advanceTimersByTime(10 * BLINK_MS);
  expect(hidden()).toEqual(["", "hidden"]);
  press("Other picture");
  expect(hidden()).toEqual(["hidden", ""]);
  wish.change(false);
  vi.advanceTimersByTime(BLINK_MS);
  expect(hidden()).toEqual(["", "hidden"]);
  wish.change(true);
  vi.advanceTimersByTime(10 * BLINK_MS);
  expect(hidden()).toEqual(["", "hidden"]);
  press("Stop blinking");
  expect(hidden()).toEqual(["", ""]);
});

test("from blinking to swiping, and closed while it blinks", () => {
  motion(false);
  const model = open({ how: "blink" });
  model.set("how", "swipe");
  expect(hidden()).toEqual(["", ""]);
  expect(range()).not.toBeNull();
  model.set("how", "blink");
  expect(clips()).toEqual(["", ""]);
  close();
  expect(hidden()).toEqual(["", ""]);
  expect(model.listeners).toBe(0);
});

test.each(["swipe", "blink"])("%s of two dates hides what lies over them, and lets go of it", (how) => {
  const names = ["earthmind-optical", "earthmind-sar", "earthmind-sar-before"];
  const seen = (): string[] => names.filter((name) => pane(name).style.visibility !== "hidden");
  const dates = { left_pane: "earthmind-sar-before", right_pane: "earthmind-sar" };
  const model = open({ how, ...dates, hidden_panes: ["earthmind-optical"], left_title: "7 Jun",
    right_title: "3 Sep" });
  expect(seen()).not.toContain("earthmind-optical");
  if (how === "swipe") {
    expect(pane("earthmind-sar-before").style.clip).toBe("rect(-20px, 331px, 380px, 10px)");
    const signs = Array.from(map.querySelectorAll(".earthmind-side"), (each) => each.textContent);
    expect(signs).toEqual(["7 Jun", "3 Sep"]);
  } else expect(seen()).toEqual(["earthmind-sar-before"]);
  // The sensors of one date, in the middle of it.
  model.set("left_pane", "earthmind-optical");
  model.set("hidden_panes", ["earthmind-sar-before"]);
  expect(pane("earthmind-sar-before").style.clip).toBe("");
  expect(seen()).not.toContain("earthmind-sar-before");
  model.set("how", "");
  expect(seen()).toEqual(names);
  expect(names.map((name) => pane(name).style.clip)).toEqual(["", "", ""]);
});

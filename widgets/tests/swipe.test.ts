import { afterEach, expect, test, vi } from "vitest";

import swipe from "../src/swipe";
import { FakeModel } from "./fake";

let map: HTMLElement;
let close: () => void;
let frame: (() => void) | null = null;

/** A map as Leaflet builds it: 642 x 400 px, its map pane moved by a drag. */
function leaflet(): HTMLElement {
  map = document.createElement("div");
  map.className = "leaflet-container";
  for (const name of ["map", "earthmind-optical", "earthmind-sar"]) {
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
    on: true, position: 0.5, left_pane: "earthmind-opticalPane", right_pane: "earthmind-sarPane",
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
});

test("each pane shows on its side of the line, wherever the map was dragged to", () => {
  open();
  expect(clips()).toEqual([
    "rect(-20px, 331px, 380px, 10px)", "rect(-20px, 652px, 380px, 331px)",
  ]);
  expect(range()?.getAttribute("aria-label")).toContain("optical and SAR");
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
  model.set("on", false);
  expect(clips()).toEqual(["", ""]);
  expect(range()).toBeNull();
  model.set("on", true);
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

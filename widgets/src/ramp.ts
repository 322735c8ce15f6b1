// A legend: colours beside the values that they stand for.

import { el } from "./text";

export interface Ramp {
  name: string;
  stops: string[];
  low: string;
  high: string;
  unit: string;
}

const COLOUR = /^#[0-9a-f]{6}$/;

/** One line per ramp: name, colours from the lowest value to the highest, unit. */
export function rampList(ramps: readonly Ramp[]): HTMLElement {
  return el("ul", { class: "em-ramps" }, ...ramps.map((ramp) => {
    const bar = el("span", { class: "em-ramp", "aria-hidden": "true" });
    const stops = ramp.stops.filter((stop) => COLOUR.test(stop));
    bar.style.backgroundImage = `linear-gradient(to right, ${stops.join(", ")})`;
    return el("li", {}, el("span", { class: "em-name" }, ramp.name),
      el("span", { class: "em-low" }, ramp.low), bar, el("span", {}, ramp.high),
      ramp.unit === "" ? null : el("span", { class: "em-unit" }, ramp.unit));
  }));
}

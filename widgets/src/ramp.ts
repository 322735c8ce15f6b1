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

/** One line per ramp: name, colours from the lowest value to the highest; and the unit. */
export function rampList(ramps: readonly Ramp[]): HTMLElement {
  const units = new Set(ramps.map((ramp) => ramp.unit));
  const shared = units.size === 1 ? (ramps[0]?.unit ?? "") : "";
  const unit = (text: string): HTMLElement | null =>
    text === "" ? null : el("span", { class: "em-unit" }, text);
  const lines = ramps.map((ramp) => {
    const bar = el("span", { class: "em-ramp", "aria-hidden": "true" });
    const stops = ramp.stops.filter((stop) => COLOUR.test(stop));
    bar.style.backgroundImage = `linear-gradient(to right, ${stops.join(", ")})`;
    return el("li", {}, el("span", { class: "em-name" }, ramp.name),
      el("span", { class: "em-low" }, ramp.low), bar, el("span", {}, ramp.high),
      ramp.unit === shared ? null : unit(ramp.unit));
  });
  return el("div", { class: "em-scale" }, el("ul", { class: "em-ramps" }, ...lines), unit(shared));
}

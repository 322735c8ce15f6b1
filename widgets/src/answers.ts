// An answer in the panel of layers: its switches, the probability its masks are cut at, its objects.

import type { Line } from "./model";
import { rampList, type Ramp } from "./ramp";
import { button, el, fill, say } from "./text";
import { Wanted } from "./wanted";

export interface Answer {
  id: string;
  title: string;
  colour: string;
  question: string;
  /** How the objects of an earlier date are drawn; empty where there are none. */
  dates: string;
  visible: boolean;
  stale: boolean;
  added: boolean;
  area: string;
  threshold: number;
  reason: string;
  areas: string[];
  overlays: { kind: string; title: string; visible: boolean; ramp: Ramp }[];
  objects: { words: string; selected: boolean }[];
  /** Objects that are on the map only. */
  more: number;
}

/** A part of a list: made once, then only told what is new. */
export interface Row<T> {
  readonly node: HTMLElement;
  update(row: T, lost: boolean): void;
}

/** After which a slider is let go. */
export const REST_MS = 300;

/** Where masks can be cut by hand. */
export interface Range {
  least: number;
  most: number;
  step: number;
}

const KINDS = ["probability", "weights"] as const;
const COLOUR = /^#[0-9a-f]{6}$/;

export function answerRow(range: Range, send: Line["send"]): Row<Answer> {
  let now: Answer | null = null;
  let held = { overlays: "", objects: "" };
  let moved = false;

  const visible = el("input", { type: "checkbox" });
  const swatch = el("span", { class: "em-swatch", "aria-hidden": "true" });
  const title = el("span", { class: "em-name" });
  const question = el("p", { class: "em-asked" });
  const dates = el("p", { class: "em-hint" });
  const cut = el("input", {
    type: "range", class: "em-range", min: String(range.least), max: String(range.most),
    step: String(range.step),
  });
  const value = el("output", { class: "em-value" });
  const reason = el("p", { class: "em-hint" });
  const overlays = el("div", { class: "em-overlays" });
  const objects = el("ul", { class: "em-objects" });
  const more = el("p", { class: "em-hint" });
  const switches = new Map<string, HTMLInputElement>();

  const wanted = new Wanted(() => {
    if (now !== null) update(now, visible.disabled);
  });
  const tell = (): void => {
    if (now === null) return;
    const [probability, weights] = KINDS.map((kind) => switches.get(kind)?.checked === true);
    wanted.want(visible.checked, probability, weights);
    send({
      kind: "switch", turn: now.id, visible: visible.checked, probability: probability === true,
      weights: weights === true,
    });
  };
  visible.addEventListener("change", tell);

  /** The probability, and what it would map: known here, so that it follows the hand. */
  const write = (): void => {
    if (now === null) return;
    const at = Number(cut.value);
    const there = moved ? now.areas[Math.round((at - range.least) / range.step)] : now.area;
    value.textContent = at.toFixed(2) + (there === undefined ? "" : `, ${there} mapped`);
  };
  cut.addEventListener("input", () => {
    moved = true;
    write();
  });
  // One command for a whole movement, of which each pressed key is a part.
  let rest: ReturnType<typeof setTimeout> | undefined;
  cut.addEventListener("change", () => {
    clearTimeout(rest);
    rest = setTimeout(() => {
      if (now === null || !moved || Number(cut.value) === now.threshold) return;
      send({ kind: "cut", turn: now.id, probability: Number(Number(cut.value).toFixed(2)) });
    }, REST_MS);
  });

  const label = el("label", { class: "em-check" }, visible, swatch, title);
  const masks = el("label", { class: "em-cut" }, el("span", {}, "Masks from probability"), cut, value);
  const remove = button("Remove", () => {
    if (now !== null) send({ kind: "remove", turn: now.id });
  }, { class: "em-button em-quiet" });
  const node = el("div", { class: "em-answer", role: "group" },
    el("div", { class: "em-head" }, label, remove), question, dates, masks, reason, overlays, objects, more);

  const drawOverlays = (answer: Answer): void => {
    switches.clear();
    fill(overlays, ...answer.overlays.map((overlay) => {
      const box = el("input", { type: "checkbox" });
      box.addEventListener("change", tell);
      switches.set(overlay.kind, box);
      box.checked = overlay.visible;
      return el("div", {}, el("label", { class: "em-check" }, box, overlay.title),
        overlay.visible ? rampList([overlay.ramp]) : null);
    }));
  };
  const drawObjects = (answer: Answer): void => {
    fill(objects, ...answer.objects.map((object, number) => el("li", {},
      button(object.words, () => {
        const turn = now?.objects[number]?.selected === true ? null : answer.id;
        send({ kind: "object", turn, number });
      }, { class: "em-object", "aria-pressed": String(object.selected) }))));
  };
  /** Draw a part again, with the focus at the same place in it. */
  const again = (part: HTMLElement, draw: () => void): void => {
    const parts = (): HTMLElement[] => Array.from(part.querySelectorAll("input, button"));
    const at = parts().findIndex((each) => each === document.activeElement);
    draw();
    if (at >= 0) (parts()[at] ?? parts().at(-1))?.focus();
  };

  const update = (answer: Answer, lost: boolean): void => {
    if (now?.threshold !== answer.threshold || now.area !== answer.area) moved = false;
    now = answer;
    node.setAttribute("aria-label", answer.title);
    title.textContent = answer.stale ? `${answer.title} (about another pair)` : answer.title;
    if (COLOUR.test(answer.colour)) swatch.style.background = answer.colour;
    say(question, answer.question);
    say(dates, answer.dates);
    const on = KINDS.map((kind) =>
      answer.overlays.find((each) => each.kind === kind)?.visible === true);
    const agreed = wanted.agrees(answer.visible, ...on);
    if (agreed) visible.checked = answer.visible;
    visible.disabled = lost;
    remove.hidden = !answer.added;
    remove.disabled = lost;
    cut.disabled = lost || answer.reason !== "";
    if (!moved) cut.value = String(answer.threshold);
    say(reason, answer.reason);
    say(more, answer.more === 0 ? "" : `And ${answer.more} more on the map.`);
    write();
    const parts = {
      overlays: agreed ? JSON.stringify(answer.overlays) : held.overlays,
      objects: JSON.stringify(answer.objects),
    };
    if (parts.overlays !== held.overlays) again(overlays, () => drawOverlays(answer));
    if (agreed) {
      for (const { kind, visible: on } of answer.overlays) {
        const box = switches.get(kind);
        if (box !== undefined) box.checked = on;
      }
    }
    if (parts.objects !== held.objects) again(objects, () => drawObjects(answer));
    held = parts;
    for (const control of node.querySelectorAll<HTMLInputElement | HTMLButtonElement>(
      ".em-overlays input, .em-objects button")) control.disabled = lost;
  };
  return { node, update };
}

// The areas of a file, to choose from.

import type { FromBrowser } from "./protocol";
import { button, el, fill } from "./text";

export interface Offer {
  upload: string;
  file: string;
  layer: string;
  layers: string[];
  rows: { name: string; about: string; hint: string; refused: string }[];
}

export class Choice {
  readonly element = el("fieldset", { class: "em-choice", tabindex: "-1" });
  private drawn = "";
  private boxes: HTMLInputElement[] = [];

  constructor(private readonly send: (message: FromBrowser) => void) {}

  /** `ours` is the upload that this very view sent: its areas are what the user waits for. */
  update(given: Partial<Offer>, ours: string): void {
    const key = JSON.stringify(given);
    if (key === this.drawn) return;
    this.drawn = key;
    const { upload } = given;
    this.element.hidden = upload === undefined;
    if (upload === undefined) {
      fill(this.element);
      return;
    }
    const offered = given.rows ?? [];
    this.boxes = offered.map((row) => {
      const box = el("input", { type: "checkbox" });
      box.disabled = row.refused !== "";
      box.checked = row.refused === "" && row.hint === "";
      return box;
    });
    fill(this.element,
      el("legend", {}, `${offered.length} areas in ${given.file ?? "the file"}: choose`),
      this.layers(upload, given),
      el("ul", { class: "em-list em-offer" }, ...offered.map((row, index) => el("li", {},
        el("label", {}, this.boxes[index] ?? null, ` ${row.name} `,
          el("span", { class: "em-about" }, row.about)),
        warning(row.hint), warning(row.refused)))),
      el("div", { class: "em-form" },
        button("Add chosen", () => this.send({
          kind: "take", upload,
          features: this.boxes.flatMap((box, index) => (box.checked ? [index] : [])),
        })),
        button("All or none", () => this.all(), { class: "em-button em-quiet" }),
        button("Put away", () => this.send({ kind: "drop", upload }),
          { class: "em-button em-quiet" })));
    if (upload === ours) this.element.focus();
  }

  private layers(upload: string, given: Partial<Offer>): HTMLElement | null {
    const layers = given.layers ?? [];
    if (layers.length < 2) return null;
    const select = el("select", { class: "em-field" }, ...layers.map((layer) =>
      el("option", { value: layer, selected: layer === given.layer }, layer)));
    select.addEventListener("change", () =>
      this.send({ kind: "layer", upload, layer: select.value }));
    return el("label", { class: "em-label" }, "Layer ", select);
  }

  private all(): void {
    const free = this.boxes.filter((box) => !box.disabled);
    const every = free.every((box) => box.checked);
    for (const box of free) box.checked = !every;
  }
}

function warning(words: string): HTMLElement | null {
  return words === "" ? null : el("p", { class: "em-warn" }, words);
}

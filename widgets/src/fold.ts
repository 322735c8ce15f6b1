// A panel's heading, which shows and hides the rest of the panel.

import type { Model } from "./model";
import { button, el, handOver, say } from "./text";

export class Fold {
  /** What matters of a folded panel, in a line. */
  private readonly brief = el("p", { class: "em-brief" });
  private readonly toggle = button("", () => this.show(!this.open),
    { class: "em-folder", "aria-expanded": "true" });
  private wanted: boolean | null = null;
  /** Opened by the reader, who is at work in it: it doesn't close by itself. */
  private held = false;

  readonly head: HTMLElement;
  readonly inside: HTMLElement;

  /** `tools` stay in the heading, `parts` are what it folds. */
  constructor(parts: readonly HTMLElement[], ...tools: readonly HTMLElement[]) {
    this.inside = el("div", { class: "em-inside" }, ...parts);
    this.head = el("header", { class: "em-head" },
      el("h3", { class: "em-title" }, this.toggle), this.brief, ...tools);
  }

  get open(): boolean {
    return this.inside.hidden !== true;
  }

  /** Its words now, and what the kernel wants: it may open, and close what it has opened. */
  update(model: Model, title: string, brief: string): void {
    say(this.toggle, title);
    this.brief.textContent = brief;
    const wanted = model.get("unfolded") !== false;
    if (wanted === this.wanted) return;
    this.wanted = wanted;
    if (wanted || !this.held) this.turn(wanted);
  }

  /** As the reader wants it. */
  show(open: boolean): void {
    this.held = open;
    this.turn(open);
  }

  private turn(open: boolean): void {
    if (!open) handOver(this.inside, this.toggle);
    this.inside.hidden = !open;
    this.brief.hidden = open;
    this.toggle.setAttribute("aria-expanded", String(open));
  }
}

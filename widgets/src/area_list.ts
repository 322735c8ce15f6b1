// The list of areas: rows are kept from update to update, so that the keyboard's focus stays.

import type { FromBrowser } from "./protocol";
import { button, el, fill, onSubmit, say } from "./text";

export interface Version {
  version: number;
  about: string;
  has: string;
}

export interface Area {
  name: string;
  kind: string;
  about: string;
  hint: string;
  note: string;
  version: number;
  versions: Version[];
}

type Send = (message: FromBrowser) => void;

class Row {
  readonly element: HTMLLIElement;
  private name: string;
  private drawn = "";

  private readonly choose = button("", () => this.send({ kind: "select", name: this.name }),
    { class: "em-button em-quiet em-name" });
  private readonly about = el("span", { class: "em-about" });
  private readonly hint = el("p", { class: "em-warn" });
  private readonly note = el("p", { class: "em-about" });
  private readonly rename = button("Rename", () => this.edit(true),
    { class: "em-button em-quiet" });
  private readonly history = button("", () => this.turn(this.versions.hidden === true),
    { class: "em-button em-quiet", "aria-expanded": "false" });
  private readonly remove = button("Delete",
    () => this.send({ kind: "delete", name: this.name }), { class: "em-button em-quiet" });
  private readonly field = el("input", { type: "text", maxlength: "80", class: "em-field" });
  private readonly form = el("form", { class: "em-form" },
    el("label", { class: "em-label" }, "New name ", this.field),
    el("button", { type: "submit", class: "em-button" }, "Save"),
    button("Cancel", () => this.edit(false), { class: "em-button em-quiet" }));
  private readonly versions = el("ul", { class: "em-versions" });

  constructor(
    area: Area,
    private readonly send: Send,
    private readonly renamed: (from: string, to: string) => void,
  ) {
    this.name = area.name;
    this.form.hidden = true;
    this.versions.hidden = true;
    onSubmit(this.form, () => {
      const to = this.field.value.trim();
      if (to !== "" && to !== this.name) {
        this.renamed(this.name, to);
        this.send({ kind: "rename", name: this.name, new: to });
      }
      this.edit(false);
    });
    this.form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.edit(false);
    });
    const line = el("div", { class: "em-line" }, this.choose, this.about,
      el("span", { class: "em-acts" }, this.rename, this.history, this.remove));
    this.element = el("li", { class: "em-area" },
      line, this.form, this.hint, this.note, this.versions);
  }

  focus(): void {
    this.choose.focus();
  }

  update(area: Area, active: boolean): void {
    const key = JSON.stringify([area, active]);
    if (key === this.drawn) return;
    this.drawn = key;
    this.name = area.name;
    this.element.classList.toggle("em-active", active);
    if (active) this.choose.setAttribute("aria-current", "true");
    else this.choose.removeAttribute("aria-current");
    say(this.choose, area.name);
    say(this.about, area.about);
    say(this.hint, area.hint);
    say(this.note, area.note);
    for (const [act, word] of [[this.rename, "Rename"], [this.remove, "Delete"]] as const) {
      act.setAttribute("aria-label", `${word} ${area.name}`);
    }
    const count = area.versions.length;
    say(this.history, `Versions (${count})`);
    this.history.setAttribute("aria-label", `Versions (${count}) of ${area.name}`);
    this.history.hidden = count < 2;
    if (count < 2) this.turn(false);
    this.versions.setAttribute("aria-label", `Versions of ${area.name}`);
    this.fillVersions(area);
  }

  private fillVersions(area: Area): void {
    const held = this.versions.contains(document.activeElement);
    fill(this.versions, ...area.versions.map((each) => {
      const now = each.version === area.version;
      return el("li", now ? { "aria-current": "true" } : {},
        el("span", {}, `Version ${each.version}: ${each.about}; ${each.has}. `),
        now ? el("strong", {}, "shown") : button("Restore",
          () => this.send({ kind: "restore", name: this.name, version: each.version }),
          { class: "em-button em-quiet", "aria-label": `Restore version ${each.version}` }));
    }));
    if (held) this.history.focus();
  }

  private turn(open: boolean): void {
    this.versions.hidden = !open;
    this.history.setAttribute("aria-expanded", String(open));
  }

  private edit(open: boolean): void {
    if (this.form.hidden === !open) return;
    this.form.hidden = !open;
    this.rename.hidden = open;
    if (!open) {
      this.rename.focus();
      return;
    }
    this.field.value = this.name;
    this.field.focus();
    this.field.select();
  }
}

export class AreaList {
  readonly element = el("ul", { class: "em-list", "aria-label": "Areas of this session" });
  private rows = new Map<string, Row>();
  private renaming: { from: string; to: string } | null = null;

  constructor(
    private readonly send: Send,
    /** Where the focus goes when the last row is deleted. */
    private readonly home: HTMLElement,
  ) {}

  update(areas: readonly Area[], active: string): void {
    const names = areas.map((area) => area.name);
    this.carry(names);
    const gone = [...this.rows].filter(([name]) => !names.includes(name));
    const lost = gone.find(([, row]) => row.element.contains(document.activeElement));
    const at = lost === undefined ? 0 : [...this.rows.keys()].indexOf(lost[0]);
    for (const [name, row] of gone) {
      row.element.remove();
      this.rows.delete(name);
    }
    areas.forEach((area, index) => {
      const row = this.rows.get(area.name) ?? this.made(area);
      row.update(area, area.name === active);
      const here = this.element.children[index] ?? null;
      if (here !== row.element) this.element.insertBefore(row.element, here);
    });
    if (lost === undefined) return;
    const next = this.rows.get(names[Math.min(at, names.length - 1)] ?? "");
    if (next === undefined) this.home.focus();
    else next.focus();
  }

  /** A renamed area keeps its row. */
  private carry(names: readonly string[]): void {
    const { from, to } = this.renaming ?? { from: "", to: "" };
    const row = this.rows.get(from);
    if (row === undefined || names.includes(from) || !names.includes(to)) return;
    this.rows = new Map([...this.rows].map(([name, each]) => [name === from ? to : name, each]));
    this.renaming = null;
  }

  private made(area: Area): Row {
    const row = new Row(area, this.send, (from, to) => {
      this.renaming = { from, to };
    });
    this.rows.set(area.name, row);
    return row;
  }
}

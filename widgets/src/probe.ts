// The numbers behind the pictures: under the mouse, at a place, along a line.

import { chart, colourOf, dashOf } from "./chart";
import { Fold } from "./fold";
import { keepKeys } from "./keys";
import { CUT, GONE, Line, type Link, type Model, SILENT } from "./model";
import { type FromKernel } from "./protocol";
import { button, el, fill, rows, say } from "./text";

interface Column {
  band: string;
  unit: string;
  modality: string;
  source: string;
  /** Sensor and day of the earlier of two dates; empty where it has no such band. */
  earlier: string;
}

interface Reading {
  place: string;
  pixel: string;
  values: string[];
  earlier?: string[];
}

interface Profile {
  title: string;
  columns: Column[];
  rows: (number | null)[][];
  csv: string;
  note: string;
}

type Mode = "" | "values" | "line";

const FAULTS = new Map<Link, string>([["gone", GONE], ["cut", CUT]]);
const TRAITS = ["mode", "columns", "here", "pinned", "line", "profile", "unfolded",
  "fault"] as const;
const USE = "Under the mouse, at a place, along a line";
const SVG = "http://www.w3.org/2000/svg";

class Panel {
  private link: Link = "ok";
  private said = "";
  private readonly line: Line;
  private readonly drawn = new Map<string, string>();
  /** Per band: under the mouse, then pinned; of two dates each the earlier one first. */
  private cells: readonly (readonly HTMLElement[])[] = [];

  private readonly hint = el("p", { class: "em-hint" });
  private readonly fault = el("p", { class: "em-fault", role: "alert" });
  private readonly status = el("p", { class: "em-status", role: "status" });
  private readonly values = this.follow("Read under the mouse", "values");
  private readonly draw = this.follow("Draw a line", "line");
  private readonly clear = button("Clear", () => this.line.send({ kind: "clear" }),
    { class: "em-button em-quiet" });
  private readonly place = el("input", {
    type: "text", class: "em-field", placeholder: "-0.77, 38.10",
  });
  private readonly read = button("Read", () => this.sendText("locate", this.place));
  private readonly corners = el("input", {
    type: "text", class: "em-field", placeholder: "-0.77, 38.10; -0.75, 38.11",
  });
  private readonly along = button("Draw profile", () => this.sendText("along", this.corners));
  private readonly controls = el("div", { class: "em-controls" },
    el("div", { class: "em-row", role: "group", "aria-label": "The mouse on the map" },
      this.values, this.draw, this.clear),
    form("Place: longitude, latitude", this.place, this.read),
    form("Line: its corners", this.corners, this.along));
  private readonly herePlace = el("td", {});
  private readonly pinnedPlace = el("td", {});
  private readonly head = el("thead", {});
  private readonly body = el("tbody", {});
  private readonly table = el("table", { class: "em-table em-values" },
    el("caption", { class: "em-caption" }, "Values of the pixel"),
    this.head, this.body);
  private readonly path = el("p", { class: "em-hint" });
  private readonly charts = el("div", { class: "em-charts" });
  private readonly fold = new Fold([this.hint, this.fault, this.status, this.controls, this.table,
    this.path, this.charts]);

  constructor(
    private readonly model: Model,
    root: HTMLElement,
  ) {
    this.line = new Line(model, (link) => {
      this.link = link;
      this.update();
    });
    keepKeys(root);
    for (const [field, kind] of [[this.place, "locate"], [this.corners, "along"]] as const) {
      field.addEventListener("keydown", (event) => {
        if (event.key === "Enter") this.sendText(kind, field);
      });
    }
    fill(root, el("section", { class: "em-panel em-probe", "aria-label": "Values" },
      this.fold.head, this.fold.inside));
    this.line.follow(root, TRAITS, () => this.update(), this.hear);
  }

  close(): void {
    this.line.close();
  }

  private readonly hear = (message: FromKernel | null): void => {
    if (message?.kind === "status") this.said = message.text;
    this.update();
  };

  private follow(label: string, mode: Mode): HTMLButtonElement {
    return button(label, () =>
      this.line.send({ kind: "probe", mode: this.model.get("mode") === mode ? "" : mode }),
      { class: "em-button em-quiet" });
  }

  private sendText(kind: "locate" | "along", field: HTMLInputElement): void {
    this.line.send({ kind, text: field.value });
  }

  private update(): void {
    const columns = rows<Column>(this.model.get("columns"));
    const lost = FAULTS.has(this.link);
    const none = columns.length === 0;
    say(this.hint, none ? "There are no pixels to read: choose a pair or open files; " +
      "after a restart, load them again." : "");
    say(this.fault, FAULTS.get(this.link) ?? String(this.model.get("fault") ?? ""));
    say(this.status, this.link === "silent" ? SILENT : this.said);
    this.controls.hidden = none;
    this.table.hidden = none;
    for (const each of this.controls.querySelectorAll<HTMLInputElement>("button, input")) {
      each.disabled = lost;
    }
    for (const [each, mode] of [[this.values, "values"], [this.draw, "line"]] as const) {
      each.setAttribute("aria-pressed", String(this.model.get("mode") === mode));
    }
    this.once("columns", columns, () => this.drawRows(columns));
    this.fillValues();
    const line = this.model.get("line");
    const corners = Array.isArray(line) ? line.map(String) : [];
    say(this.path, corners.length === 0 ? "" : `Line: ${corners.join("; ")}`);
    const profile = this.model.get("profile");
    this.once("profile", profile, () => this.drawProfile((profile ?? {}) as Partial<Profile>));
    this.fold.update(this.model, "Values",
      this.fault.textContent || (none ? this.hint.textContent ?? "" : USE));
  }

  /** Draw what differs from last time. */
  private once(name: string, value: unknown, draw: () => void): void {
    const key = JSON.stringify(value);
    if (this.drawn.get(name) === key) return;
    this.drawn.set(name, key);
    draw();
  }

  private drawRows(columns: readonly Column[]): void {
    const two = columns.some((column) => column.earlier !== "");
    const dates = two ? [", earlier date", ", later date"] : [""];
    const places = ["Under the mouse", "Pinned"];
    const cells = columns.map(() => places.flatMap(() => dates.map(() => el("td", {}))));
    this.cells = cells;
    for (const each of [this.herePlace, this.pinnedPlace]) each.colSpan = dates.length;
    fill(this.head, el("tr", {}, ...["Band", ...places.flatMap((place) =>
      dates.map((date) => place + date))].map((name) => el("th", { scope: "col" }, name))));
    // What the bands of a sensor share is said once, above them.
    fill(this.body,
      el("tr", {}, el("th", { scope: "row" }, "Place"), this.herePlace, this.pinnedPlace),
      ...columns.flatMap((column, at) => [
        ...(column.modality === columns[at - 1]?.modality ? [] : [el("tr", { class: "em-group" },
          el("th", { scope: "colgroup", colspan: String(1 + places.length * dates.length) },
            `${column.earlier ? `${column.earlier} → ` : ""}${column.source}, `,
            el("span", { class: "em-unit" }, column.unit)))]),
        el("tr", {}, el("th", { scope: "row" }, bandName(column)), ...(cells[at] ?? []))]));
  }

  private fillValues(): void {
    const [here, pinned] = ["here", "pinned"].map(
      (name) => (this.model.get(name) ?? {}) as Partial<Reading>);
    const where = (each: Partial<Reading> | undefined): string =>
      [each?.place, each?.place === undefined ? "" : each.pixel || "outside the pictures"]
        .filter(Boolean).join(", ") || "–";
    this.herePlace.textContent = where(here);
    this.pinnedPlace.textContent = where(pinned);
    this.cells.forEach((row, at) => {
      const dates = row.length === 4;
      const values = [here, pinned].flatMap((each) =>
        (dates ? [each?.earlier, each?.values] : [each?.values]).map((list) => list?.[at] ?? "–"));
      row.forEach((cell, n) => { cell.textContent = values[n] ?? "–"; });
    });
  }

  private drawProfile(profile: Partial<Profile>): void {
    const columns = profile.columns ?? [];
    const found = profile.rows ?? [];
    if (found.length === 0) {
      fill(this.charts);
      return;
    }
    const metres = found.map((row) => row[0] ?? 0);
    const copy = button("Copy as CSV", () => void this.copy(profile.csv ?? ""),
      { class: "em-button em-quiet" });
    const parts = ["optical", "sar"].map((modality) => {
      const own = columns.flatMap((column, at) => (column.modality === modality ? [at] : []));
      if (own.length === 0) return null;
      const series = own.map((at) => ({
        name: bandName(columns[at] as Column), values: found.map((row) => row[at + 1] ?? null),
      }));
      const first = columns[own[0] as number] as Column;
      return el("figure", { class: "em-figure" },
        el("figcaption", {}, `${first.source}, ${first.unit}`), chart(metres, series, first.unit),
        el("ul", { class: "em-key" }, ...series.map((each, at) => el("li", {}, swatch(at), each.name))));
    });
    fill(this.charts,
      el("div", { class: "em-head" }, el("h4", {}, `Profile, ${profile.title ?? ""}`), copy),
      profile.note ? el("p", { class: "em-hint" }, profile.note) : null, ...parts,
      el("details", { class: "em-fold" }, el("summary", {}, "The numbers"),
        el("div", { class: "em-scroll", tabindex: "0", role: "region",
          "aria-label": "Numbers of the profile" },
        el("table", { class: "em-table" },
          el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Distance, m"),
            ...columns.map((each) => el("th", { scope: "col" }, bandName(each))))),
          el("tbody", {}, ...found.map((row) => el("tr", {}, ...row.map((value, at) =>
            el("td", {}, numberWords(value, at === 0 ? 0 : columns[at - 1]?.modality === "sar" ? 1 : 4))))))))));
  }

  private async copy(text: string): Promise<void> {
    try {
      await navigator.clipboard.writeText(text);
      this.said = "The profile is copied as CSV.";
    } catch {
      // No right to the clipboard: the text is there to be copied by hand.
      const field = el("textarea", { class: "em-field em-csv", readonly: true, rows: "6",
        "aria-label": "The profile as CSV" });
      field.value = text;
      this.charts.append(field);
      field.select();
      this.said = "The browser keeps its clipboard: copy the marked text.";
    }
    this.update();
  }
}

function bandName(column: Column): string {
  return column.modality === "sar" ? column.band.toUpperCase() : column.band;
}

function numberWords(value: number | null, digits: number): string {
  return value === null ? "no data" : value.toFixed(digits).replace("-", "−");
}

function swatch(at: number): SVGElement {
  const root = document.createElementNS(SVG, "svg");
  const line = document.createElementNS(SVG, "path");
  for (const [name, value] of [["viewBox", "0 0 24 8"], ["class", "em-line"], ["aria-hidden", "true"]]) {
    root.setAttribute(name as string, value as string);
  }
  line.setAttribute("d", "M0 4H24");
  line.setAttribute("class", "em-series");
  line.setAttribute("stroke-dasharray", dashOf(at));
  line.style.stroke = colourOf(at);
  root.append(line);
  return root;
}

function form(label: string, field: HTMLInputElement, act: HTMLButtonElement): HTMLElement {
  return el("div", { class: "em-row" }, el("label", { class: "em-label" }, label, field), act);
}

export default {
  render({ model, el: root }: { model: Model; el: HTMLElement }): () => void {
    const panel = new Panel(model, root);
    return () => panel.close();
  },
};

// New areas without a mouse: edges, centre and side, the map's view, text, a file.

import { characters, type FromBrowser, LONGEST_TEXT } from "./protocol";
import { button, el, onSubmit, say } from "./text";
import { type Limits, megabytes, type Uploader } from "./upload";

interface Given {
  /** Name of the active AOI, whose outline can be replaced; empty where there is none. */
  active: string;
  map: boolean;
  limits: Limits;
}

export class NewArea {
  /** Views made so far. */
  static count = 0;

  readonly element = el("details", { class: "em-new" },
    el("summary", {}, "New area: numbers, the map's view, text, or a file"));

  private readonly edges = ["West", "South", "East", "North"].map((name) => number(name, "°"));
  private readonly centre =
    [number("Latitude", "°"), number("Longitude", "°"), number("Side", "km")];
  private readonly text = el("textarea",
    { class: "em-field em-text", rows: "2", placeholder: "west,south,east,north or GeoJSON" });
  private readonly replace = el("input", { type: "checkbox" });
  private readonly replaced = el("span");
  private readonly replacing = el("label", { class: "em-form" }, this.replace, this.replaced);
  private readonly view = button("Use the map's view",
    () => this.send({ kind: "view", replace: this.replaces }), { class: "em-button em-quiet" });
  private readonly file = el("input", { type: "file", class: "em-file" });
  private readonly limit = el("span", { class: "em-about" });
  private readonly progress = el("progress", { "aria-label": "Upload" });
  private readonly way = el("span");
  private readonly going = el("div", { class: "em-form" }, this.progress, this.way,
    button("Cancel", () => this.uploader.cancel(),
      { class: "em-button em-stop", "aria-label": "Cancel upload" }));

  constructor(
    private readonly send: (message: FromBrowser) => void,
    private readonly uploader: Uploader,
    private readonly complain: (problem: string) => void,
  ) {
    NewArea.count += 1;
    this.element.append(
      this.replacing,
      form("Box", "Add box", this.edges.map((edge) => edge.label), () => this.box()),
      form("Square", "Add square", this.centre.map((each) => each.label), () => this.square()),
      el("div", { class: "em-form" }, this.view),
      form("Text", "Add text", [el("label", { class: "em-label em-wide" }, "Text ", this.text)],
        () => this.paste()),
      el("div", { class: "em-form em-drop" },
        el("label", { class: "em-label" }, "File ", this.file), this.limit),
      this.going);
    this.file.addEventListener("change", () => {
      this.take(this.file.files);
      this.file.value = "";
    });
  }

  /** Files may be dropped anywhere on an element. */
  acceptDrops(target: HTMLElement): void {
    target.addEventListener("dragover", (event) => {
      event.preventDefault();
      target.classList.add("em-dropping");
    });
    target.addEventListener("dragleave", () => target.classList.remove("em-dropping"));
    target.addEventListener("drop", (event) => {
      event.preventDefault();
      event.stopPropagation(); // JupyterLab would upload it to its own folder
      target.classList.remove("em-dropping");
      this.take(event.dataTransfer?.files ?? null);
    });
  }

  update({ active, map, limits }: Given): void {
    this.view.hidden = !map;
    this.replacing.hidden = active === "";
    say(this.replaced, `replace the outline of ${active}; the old one stays as a version`);
    this.file.accept = limits.formats.join(",");
    say(this.limit, `${limits.formats.join(", ")}, at most ${megabytes(limits.most)}; ` +
      "or drop it here");
    const going = this.uploader.going;
    this.going.hidden = going === null;
    if (going === null) return;
    this.progress.max = going.size;
    this.progress.value = going.received;
    say(this.way, `${going.name}: ${megabytes(going.received)} of ${megabytes(going.size)}`);
  }

  private get replaces(): boolean {
    return !this.replacing.hidden && this.replace.checked;
  }

  private box(): void {
    const [west = NaN, south = NaN, east = NaN, north = NaN] =
      this.edges.map((edge) => edge.input.valueAsNumber);
    if (![west, south, east, north].every(Number.isFinite)) {
      this.complain("Give all four edges in degrees.");
      return;
    }
    this.send({ kind: "box", west, south, east, north, replace: this.replaces });
  }

  private square(): void {
    const [lat = NaN, lon = NaN, km = NaN] =
      this.centre.map((each) => each.input.valueAsNumber);
    if (![lat, lon, km].every(Number.isFinite)) {
      this.complain("Give latitude and longitude in degrees, and a side in km.");
      return;
    }
    this.send({ kind: "square", lat, lon, km, replace: this.replaces });
  }

  private paste(): void {
    const text = this.text.value;
    if (characters(text) > LONGEST_TEXT) {
      this.uploader.start(new File([text], "pasted.geojson"));
    } else {
      this.send({ kind: "paste", text, replace: this.replaces });
    }
  }

  private take(files: FileList | null): void {
    if (files === null || files.length === 0) return;
    const [file] = files;
    if (files.length > 1 || file === undefined) this.complain("One file at a time.");
    else this.uploader.start(file);
  }
}

function number(name: string, unit: string): { label: HTMLElement; input: HTMLInputElement } {
  const input = el("input", { type: "number", step: "any", class: "em-field em-number" });
  return { label: el("label", { class: "em-label" }, `${name}, ${unit} `, input), input };
}

function form(
  name: string, act: string, fields: readonly HTMLElement[], submit: () => void,
): HTMLFormElement {
  const made = el("form", { class: "em-form", "aria-label": name, novalidate: true },
    ...fields, el("button", { type: "submit", class: "em-button em-quiet" }, act));
  onSubmit(made, submit);
  return made;
}

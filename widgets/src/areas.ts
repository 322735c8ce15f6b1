// The areas of a session: choose, rename, go back to a version; new ones by numbers, view, text or
// file. Whatever is done here is said by the kernel, in traits.

import { type Area, AreaList } from "./area_list";
import { Choice, type Offer } from "./area_choice";
import { NewArea } from "./area_forms";
import { Fold } from "./fold";
import { keepKeys } from "./keys";
import { CUT, GONE, Line, type Link, type Model, SILENT } from "./model";
import { type FromKernel } from "./protocol";
import { button, el, fill, onSubmit, rows, say } from "./text";
import { type Limits, Uploader } from "./upload";

interface Place {
  name: string;
  title: string;
  why: string;
}

interface Region {
  id: string;
  label: string;
  about: string;
}

const TRAITS =
  ["areas", "active", "regions", "places", "mode", "choice", "about", "unfolded", "fault"] as const;
/** Nothing can be sent, and why. */
const FAULTS = new Map<Link, string>([["gone", GONE], ["cut", CUT]]);
const MODES = [["area", "areas"], ["region", "regions of the active area"]] as const;

class Panel {
  private link: Link = "ok";
  private said = "";
  private drawnRegions = "";
  private drawnPlaces = "";
  private readonly line: Line;
  private readonly send: Line["send"];

  private readonly place = el("select", { class: "em-field" });
  private readonly why = el("p", { class: "em-about" });
  private readonly modes = new Map<string, HTMLInputElement>();
  private readonly switch = el("fieldset", { class: "em-form em-modes" },
    el("legend", {}, "Shapes drawn on the map become"));
  private readonly list: AreaList;
  private readonly regions = el("ul", { class: "em-list" });
  private readonly marked = el("div", {}, el("h4", {}, "Marked regions"), this.regions);
  private readonly uploader: Uploader;
  private readonly fresh: NewArea;
  private readonly choice: Choice;
  private readonly controls = el("fieldset", { class: "em-plain", role: "none" });
  private readonly hint = el("p", { class: "em-hint" });
  private readonly fault = el("p", { class: "em-fault", role: "alert" });
  private readonly status = el("p", { class: "em-status", role: "status" });
  private readonly fold = new Fold([this.controls, this.fault, this.status],
    button("Undo", () => this.send({ kind: "undo" }), { class: "em-button em-quiet" }));

  constructor(
    private readonly model: Model,
    private readonly root: HTMLElement,
  ) {
    this.line = new Line(model, (link) => {
      this.link = link;
      if (FAULTS.has(link)) this.uploader.end();
      this.update();
    });
    this.send = (message, ...bytes) => this.line.send(message, ...bytes);
    this.uploader = new Uploader(this.send, () => this.limits(), (problem) => {
      if (problem !== "") this.said = problem;
      this.update();
    });
    this.list = new AreaList(this.send, this.place);
    this.fresh = new NewArea(this.send, this.uploader, (problem) => {
      this.said = problem;
      this.update();
    });
    this.choice = new Choice(this.send);
    keepKeys(root);
    this.build();
    this.line.follow(root, TRAITS, () => this.update(), this.hear);
  }

  close(): void {
    this.line.close();
  }

  private build(): void {
    const open = el("form", { class: "em-form" },
      el("label", { class: "em-label em-places" }, "Sample place ", this.place),
      el("button", { type: "submit", class: "em-button" }, "Open place"));
    onSubmit(open, () => {
      if (this.place.value !== "") this.send({ kind: "place", place: this.place.value });
      say(this.why, ""); // read, and others want the room
    });
    this.place.addEventListener("change", () => this.explain());
    for (const [mode, words] of MODES) {
      // One group of radio buttons per view: their names must differ.
      const input = el("input", { type: "radio", name: `em-mode-${NewArea.count}`, value: mode });
      input.addEventListener("change", () => this.send({ kind: "mode", mode }));
      this.modes.set(mode, input);
      this.switch.append(el("label", {}, input, ` ${words}`));
    }
    fill(this.controls, open, this.why, this.switch, this.hint, this.list.element, this.marked,
      this.choice.element, this.fresh.element);
    const panel = el("section",
      { class: "em-panel em-areas", "aria-label": "Areas" },
      this.fold.head, this.fold.inside);
    this.fresh.acceptDrops(panel);
    fill(this.root, panel);
  }

  private readonly hear = (message: FromKernel | null): void => {
    if (message === null) return;
    if (message.kind === "status") this.said = message.text;
    this.uploader.hear(message);
    this.update();
  };

  private limits(): Limits {
    const about = (this.model.get("about") ?? {}) as Partial<Limits>;
    return {
      formats: about.formats ?? [], most: Number(about.most ?? 0), piece: Number(about.piece ?? 1),
    };
  }

  private update(): void {
    const areas = rows<Area>(this.model.get("areas"));
    const active = String(this.model.get("active") ?? "");
    const map = (this.model.get("about") as { map?: boolean } | undefined)?.map === true;
    const aoi = areas.find((area) => area.name === active && area.kind === "aoi") ?? null;
    const placed = areas.some((area) => area.name === active && area.kind !== "picture");
    this.controls.disabled = FAULTS.has(this.link);
    this.drawPlaces();
    this.switch.hidden = !map;
    for (const [mode, input] of this.modes) {
      input.checked = mode === this.model.get("mode");
      input.disabled = mode === "region" && !placed;
    }
    say(this.hint, areas.length > 0 ? "" : "Open a sample place, " +
      `${map ? "draw on the map, " : ""}or give an area below.`);
    this.list.update(areas, active);
    this.list.element.hidden = areas.length === 0;
    this.drawRegions();
    this.fresh.update({ active: aoi?.name ?? "", map, limits: this.limits() });
    this.choice.update((this.model.get("choice") ?? {}) as Partial<Offer>, this.uploader.last);
    say(this.fault, FAULTS.get(this.link) ?? String(this.model.get("fault") ?? ""));
    say(this.status, this.link === "silent" ? SILENT : this.said);
    this.fold.update(this.model, "Areas",
      this.fault.textContent || (aoi === null ? active : `${aoi.name}, ${aoi.about}`));
  }

  private drawPlaces(): void {
    const places = rows<Place>(this.model.get("places"));
    const key = JSON.stringify(places);
    if (key === this.drawnPlaces) return;
    this.drawnPlaces = key;
    fill(this.place, el("option", { value: "" }, "Choose…"),
      ...places.map((place) => el("option", { value: place.name }, place.title)));
    this.explain();
  }

  private explain(): void {
    const places = rows<Place>(this.model.get("places"));
    say(this.why, places.find((place) => place.name === this.place.value)?.why ?? "");
  }

  private drawRegions(): void {
    const regions = rows<Region>(this.model.get("regions"));
    const key = JSON.stringify(regions);
    this.marked.hidden = regions.length === 0;
    if (key === this.drawnRegions) return;
    this.drawnRegions = key;
    const held = this.regions.contains(document.activeElement);
    fill(this.regions, ...regions.map((region) => el("li", { class: "em-line" },
      el("span", { class: "em-region" }, region.label),
      el("span", { class: "em-about" }, region.about),
      button("Remove", () => this.send({ kind: "unmark", region: region.id }),
        { class: "em-button em-quiet", "aria-label": `Remove ${region.label}` }))));
    if (held) (this.regions.querySelector("button") ?? this.place).focus();
  }
}

export default {
  render({ model, el: root }: { model: Model; el: HTMLElement }): () => void {
    const panel = new Panel(model, root);
    return () => panel.close();
  },
};

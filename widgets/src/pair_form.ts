// The form of a search: what a pair must meet, and where to look.

import type { Terms } from "./protocol";
import { el, fill, say } from "./text";

export interface Offers {
  catalogs: readonly { name: string; title: string; state: string }[];
  sensors: readonly { key: string; title: string }[];
  purposes: readonly { name: string; title: string }[];
}

/** As the kernel gives back what was asked: texts, empty where nothing was said. */
export type Asked = Readonly<Record<keyof Terms, string>>;

const DAYS = /^(\d{4}-\d\d-\d\d)(?:\/(\d{4}-\d\d-\d\d))?$/;
const OTHER = "other";
/** A catalog that Python was given and that has no name. */
const AS_BEFORE = "=";
const BOTH: readonly (readonly [string, string])[] = [
  ["", "both, or what the place has"], ["optical,sar", "optical and SAR"],
  ["optical", "optical only"], ["sar", "SAR only"], [OTHER, "by name…"],
];

let forms = 0;
let fields = 0;

export class Form {
  private taken = "";
  private offers: Offers | null = null;
  private readonly keys = `em-sensors-${(forms += 1)}`;

  private readonly first = input("date");
  private readonly last = input("date");
  private readonly dates = input("text", { placeholder: "2019-09-15/2019-09-20" });
  private readonly around = input("text", { placeholder: "2019-09-18" });
  private readonly gap = input("number", { min: "0", step: "any", placeholder: "auto" }, "em-short");
  private readonly cloud = input("number", { min: "0", max: "100", step: "any", placeholder: "20" },
    "em-short");
  private readonly sensors = el("select", { class: "em-field" }, ...options(BOTH));
  private readonly names = input("text", { list: this.keys, placeholder: "landsat-c2-l2,sar-rtc" });
  private readonly known = el("datalist", { id: this.keys });
  private readonly purpose = el("select", { class: "em-field" });
  private readonly catalog = el("select", { class: "em-field" });
  private readonly path = input("text", { placeholder: "a path, or https://…" });
  private readonly state = el("span", { class: "em-quietly" });
  private readonly byName = field("Sensors by name", this.names);
  private readonly byPath = field("Path or address", this.path);

  readonly root = el("div", { class: "em-form", role: "group", "aria-label": "Search" });

  constructor(search: () => void, ...buttons: readonly HTMLElement[]) {
    fill(this.root,
      field("From", this.first), field("to", this.last), field("Sensors", this.sensors),
      this.byName, this.known, field("Cloud at most, %", this.cloud),
      field("Days apart at most", this.gap),
      el("details", { class: "em-more-terms" },
        el("summary", {}, "Catalog, purpose, a day to be near"),
        el("div", { class: "em-form" },
          field("Catalog", this.catalog), this.byPath, this.state,
          field("Purpose", this.purpose), field("Near", this.around),
          field("Dates in words", this.dates))),
      ...buttons);
    for (const each of [this.first, this.last]) each.addEventListener("change", () => this.write());
    this.dates.addEventListener("input", () => this.read());
    for (const each of [this.sensors, this.catalog]) {
      each.addEventListener("change", () => this.reveal());
    }
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.target instanceof HTMLInputElement)) return;
      event.preventDefault();
      search();
    });
    this.reveal();
  }

  /** What can be chosen by name. */
  offer(offers: Offers): void {
    if (offers === this.offers) return;
    this.offers = offers;
    const catalogs = offers.catalogs.map((each) => [each.name, each.title] as const);
    fill(this.catalog, ...options([["", "the default one"], ...catalogs, [OTHER, "by path…"]]));
    fill(this.purpose, ...options(offers.purposes.map((each) => [each.name, each.title] as const)));
    fill(this.known, ...offers.sensors.map((each) => el("option", { value: each.key }, each.title)));
    this.taken = "";
    this.reveal();
  }

  /** What was asked last, once: what the user types stays. */
  take(subject: string, asked: Asked): void {
    const key = JSON.stringify([subject, asked]);
    if (key === this.taken) return;
    this.taken = key;
    this.dates.value = asked.dates;
    this.read();
    this.around.value = asked.around;
    this.gap.value = asked.max_gap;
    this.cloud.value = asked.max_cloud;
    this.purpose.value = asked.purpose || "default";
    const plain = BOTH.some(([value]) => value === asked.sensors);
    this.sensors.value = plain ? asked.sensors : OTHER;
    this.names.value = plain ? "" : asked.sensors;
    this.catalog.querySelector(`option[value="${AS_BEFORE}"]`)?.remove();
    if (asked.catalog === AS_BEFORE) {
      this.catalog.append(el("option", { value: AS_BEFORE }, "as it was given in Python"));
    }
    const listed = Array.from(this.catalog.options).some((each) => each.value === asked.catalog);
    this.catalog.value = listed ? asked.catalog : OTHER;
    this.path.value = listed ? "" : asked.catalog;
    this.reveal();
  }

  /** What to ask for; a text says why nothing can be asked. */
  terms(): Terms | string {
    const dates = this.dates.value.trim();
    if (dates === "" && (this.first.value !== "" || this.last.value !== "")) {
      return "Give both days, or none for the days of the place.";
    }
    const named = this.sensors.value === OTHER ? this.names.value.trim() : this.sensors.value;
    const catalog = this.catalog.value === OTHER ? this.path.value.trim() : this.catalog.value;
    const purpose = this.purpose.value === "default" ? "" : this.purpose.value;
    return {
      dates: dates || null,
      around: this.around.value.trim() || null,
      max_gap: this.gap.value === "" ? null : `${this.gap.value} days`,
      max_cloud: this.cloud.value === "" ? null : Number(this.cloud.value),
      purpose: purpose || null,
      sensors: named || null,
      catalog: catalog || null,
    };
  }

  private write(): void {
    const both = this.first.value !== "" && this.last.value !== "";
    this.dates.value = both ? `${this.first.value}/${this.last.value}` : "";
  }

  private read(): void {
    const found = DAYS.exec(this.dates.value.trim());
    this.first.value = found?.[1] ?? "";
    this.last.value = found?.[2] ?? found?.[1] ?? "";
  }

  private reveal(): void {
    this.byName.hidden = this.sensors.value !== OTHER;
    this.byPath.hidden = this.catalog.value !== OTHER;
    const known = this.offers?.catalogs.find((each) => each.name === this.catalog.value);
    say(this.state, known?.state ?? "");
  }
}

function input(type: string, more: Record<string, string> = {}, kind = ""): HTMLInputElement {
  return el("input", { type, class: `em-field ${kind}`.trim(), ...more });
}

function options(given: readonly (readonly [string, string])[]): HTMLOptionElement[] {
  return given.map(([value, words]) => el("option", { value }, words));
}

/** A label beside its control, not around it: a list's options would be part of its name. */
function field(label: string, control: HTMLElement): HTMLElement {
  control.id = `em-field-${(fields += 1)}`;
  return el("span", { class: "em-label" }, el("label", { for: control.id }, label), " ", control);
}

// What has to be, and what can be, declared of files: fields that the kernel asks for come first.

import { DECLARED, type Declared, type FromBrowser } from "./protocol";
import { arrange, el, say } from "./text";

type Name = (typeof DECLARED)[number];

const LABELS: Record<Name, string> = {
  bands: "Bands, in the file’s order",
  optical_scale: "Optical scale",
  optical_offset: "Optical offset",
  optical_level: "Optical level",
  sar_quantity: "SAR quantity",
  sar_scale: "SAR scale",
  nodata: "Number without data",
  datetime: "Time (UTC)",
  gsd: "Pixel size, m",
};
/** Those that are no plain words; the kernel's messages hold them. */
const ARGUMENTS = new RegExp(`\\b(${DECLARED.filter((name) => name.includes("_")).join("|")})\\b=?`,
  "g");
const HINTS: Partial<Record<Name, string>> = {
  bands: "blue,green,red,nir or red=3,nir=4",
  optical_scale: "0.0001 or 1/255",
  optical_offset: "-0.1 or 0",
  datetime: "2019-09-17 or 2019-09-17T06:10",
};
const CHOICES: Partial<Record<Name, readonly (readonly [string, string])[]>> = {
  optical_level: [
    ["", "not said"], ["TOA", "TOA: top of the atmosphere"], ["SR", "SR: at the surface"],
  ],
  sar_quantity: [
    ["", "Choose…"], ["sigma0", "sigma0"], ["gamma0", "gamma0"],
    ["gamma0_rtc", "gamma0, terrain flattened"],
  ],
  sar_scale: [["", "Choose…"], ["dB", "dB"], ["power", "power"], ["amplitude", "amplitude"]],
};

export class FileForm {
  readonly element = el("div", { class: "em-declare" });
  private readonly why = el("p", { class: "em-why", role: "status" });
  private readonly needed = el("div", { class: "em-fields" });
  private readonly rest = el("div", { class: "em-fields" });
  private readonly more = el("details", { class: "em-fold" },
    el("summary", {}, "Say more of them"), this.rest);
  private readonly inside = el("input", { type: "checkbox" });
  private readonly insides = el("span");
  private readonly within = el("label", { class: "em-row" }, this.inside, this.insides);
  private readonly fields = new Map(DECLARED.map((name) => [name, field(name)] as const));
  private asked = "";

  constructor() {
    this.element.append(this.why, this.needed, this.more, this.within);
  }

  /** `inside` is the active area; a picture has nothing to declare. */
  update(given: unknown, inside: string, picture: boolean): void {
    const { asks, message } = (given ?? {}) as { asks?: unknown; message?: unknown };
    const wanted = new Set(Array.isArray(asks) ? asks : []);
    this.element.hidden = picture;
    say(this.why, String(message ?? "").replace(ARGUMENTS, (all, name: Name) =>
      all.endsWith("=") ? `“${LABELS[name]}” ` : `“${LABELS[name]}”`));
    const nodes = (asked: boolean): HTMLElement[] => [...this.fields]
      .filter(([name]) => wanted.has(name) === asked).map(([, each]) => each.label);
    arrange(this.rest, nodes(false));
    arrange(this.needed, nodes(true));
    this.within.hidden = inside === "";
    say(this.insides, `only what lies inside ${inside}`);
    const key = JSON.stringify([...wanted]);
    if (key === this.asked) return;
    const more = wanted.size > 0 && this.asked !== "";
    this.asked = key;
    // What is asked for anew is where the user goes on.
    if (more) this.empty()?.focus();
  }

  message(): FromBrowser {
    const said = Object.fromEntries([...this.fields].map(([name, each]) =>
      [name, each.input.value])) as Declared;
    return { kind: "open", inside: !this.within.hidden && this.inside.checked, ...said };
  }

  private empty(): HTMLElement | undefined {
    const inputs = [...this.needed.querySelectorAll<HTMLInputElement>("input, select")];
    return inputs.find((each) => each.value === "") ?? inputs[0];
  }
}

function field(name: Name): { label: HTMLElement; input: HTMLInputElement | HTMLSelectElement } {
  const choices = CHOICES[name];
  const input = choices === undefined
    ? el("input", { type: "text", class: "em-field", placeholder: HINTS[name] ?? "" })
    : el("select", { class: "em-field" },
      ...choices.map(([value, words]) => el("option", { value }, words)));
  return { label: el("label", { class: "em-label" }, `${LABELS[name]} `, input), input };
}

// The switches of what is on the map: pictures, answers and their objects; legend and origin.

import { type Answer, answerRow, type Range, type Row } from "./answers";
import { Fold } from "./fold";
import { keepKeys } from "./keys";
import { CUT, GONE, Line, type Link, type Model, SILENT } from "./model";
import { type FromKernel } from "./protocol";
import { type Ramp, rampList } from "./ramp";
import { arrange, button, el, fill, rows, say } from "./text";
import { Wanted } from "./wanted";

interface Raster {
  sensor: string;
  name: string;
  title: string;
  visible: boolean;
  opacity: number;
  composite: string;
  composites: { name: string; title: string }[];
  words: string;
  ramps: Ramp[];
}

interface Block {
  title: string;
  facts: [string, string][];
  files: { band: string; item: string; resampling: string; checksum: string }[];
}

interface View {
  title: string;
  words: string;
  seen: string;
  squares: { url: string; size: string; place: string }[];
}

interface About extends Range {
  name: string;
  how: string;
  comparable: boolean;
  /** What is compared: titles of the left and of the right picture. */
  sides: readonly string[];
  waits: boolean;
  busy: string;
  attribution: string;
  message: string;
  tiles: boolean;
  asks: string;
}

const FAULTS = new Map<Link, string>([["gone", GONE], ["cut", CUT]]);
const TRAITS = ["rasters", "answers", "about", "origin", "squares", "unfolded", "fault"] as const;
/** A picture that the kernel made, and nothing else that an address can name. */
const PICTURE = /^data:image\/jpeg;base64,[A-Za-z0-9+/=]+$/;

class Panel {
  private link: Link = "ok";
  private said = "";
  private readonly line: Line;
  private readonly drawn = new Map<string, string>();
  private readonly pictures = new Map<string, Row<Raster>>();
  private readonly talk = new Map<string, Row<Answer>>();

  private readonly hint = el("p", { class: "em-hint" });
  private readonly fault = el("p", { class: "em-fault", role: "alert" });
  private readonly status = el("p", { class: "em-status", role: "status" });
  private readonly rasters = el("div", { class: "em-rasters" });
  private readonly answers = el("div", { class: "em-answers" });
  private readonly load = button("Show the pictures", () => this.line.send({ kind: "reload" }));
  private readonly swipe = this.compare("Swipe", "swipe");
  private readonly blink = this.compare("Blink", "blink");
  private readonly fit = button("Fit to objects", () => this.line.send({ kind: "fit" }),
    { class: "em-button em-quiet" });
  private readonly tiles = el("input", { type: "checkbox" });
  private readonly asks = el("span", { class: "em-hint" });
  private readonly owner = el("p", { class: "em-hint em-owner" });
  private readonly sides = el("p", { class: "em-hint", role: "status" });
  private readonly origin = el("div", { class: "em-origin" });
  private readonly origins = el("details", { class: "em-fold" },
    el("summary", {}, "Where the pixels come from"), this.origin);
  private readonly squares = el("div", { class: "em-views" });
  private readonly eye = button("Show what the model sees", () =>
    this.line.send({ kind: "squares" }), { class: "em-button em-quiet" });
  private readonly eyes = el("details", { class: "em-fold" },
    el("summary", {}, "The model’s eye"),
    el("p", { class: "em-hint" },
      "The squares that the vision encoder is given when you ask about this pair."),
    this.eye, this.squares);
  private readonly fold = new Fold([this.hint, this.fault, this.status, this.load, this.rasters,
    el("div", { class: "em-row", role: "group", "aria-label": "Compare and find" }, this.swipe,
      this.blink, this.fit),
    this.sides, this.answers,
    el("div", { class: "em-row" }, el("label", { class: "em-check" }, this.tiles,
      "Background tiles (from the network)"), this.asks),
    this.owner, this.origins, this.eyes]);

  constructor(
    private readonly model: Model,
    root: HTMLElement,
  ) {
    this.line = new Line(model, (link) => {
      this.link = link;
      this.update();
    });
    keepKeys(root);
    fill(root, el("section", { class: "em-panel em-layers", "aria-label": "Layers" },
      this.fold.head, this.fold.inside));
    this.tiles.addEventListener("change", () =>
      this.line.send({ kind: "tiles", on: this.tiles.checked }));
    this.line.follow(root, TRAITS, () => this.update(), this.hear);
  }

  close(): void {
    this.line.close();
  }

  private readonly hear = (message: FromKernel | null): void => {
    if (message?.kind === "status") this.said = message.text;
    this.update();
  };

  private compare(label: string, how: "swipe" | "blink"): HTMLButtonElement {
    return button(label, () =>
      this.line.send({ kind: "compare", how: this.about().how === how ? "" : how }),
      { class: "em-button em-quiet" });
  }

  private about(): About {
    const found = (this.model.get("about") ?? {}) as Partial<About>;
    return {
      name: String(found.name ?? ""), how: String(found.how ?? ""),
      comparable: found.comparable === true,
      sides: Array.isArray(found.sides) ? found.sides.map(String) : [],
      waits: found.waits === true,
      busy: String(found.busy ?? ""), attribution: String(found.attribution ?? ""),
      message: String(found.message ?? ""), tiles: found.tiles === true,
      asks: String(found.asks ?? ""), least: Number(found.least ?? 0.05),
      most: Number(found.most ?? 0.95), step: Number(found.step ?? 0.01),
    };
  }

  private update(): void {
    const about = this.about();
    const rasters = rows<Raster>(this.model.get("rasters"));
    const answers = rows<Answer>(this.model.get("answers"));
    const lost = FAULTS.has(this.link);
    const pixels = rasters.some((each) => each.composites.length > 0);
    say(this.hint, pixels || about.waits || about.busy !== "" ? ""
      : "The pictures of a pair come when you choose one.");
    say(this.fault, FAULTS.get(this.link)
      || [String(this.model.get("fault") ?? ""), about.message].filter(Boolean).join(" "));
    say(this.status, this.link === "silent" ? SILENT : this.said);
    this.load.hidden = !about.waits;
    this.load.disabled = lost;
    this.eye.disabled = lost || !pixels;
    for (const [way, how] of [[this.swipe, "swipe"], [this.blink, "blink"]] as const) {
      way.disabled = lost || !about.comparable;
      way.title = about.comparable ? "" : "Needs pictures of both sensors, or of two dates";
      way.setAttribute("aria-pressed", String(about.how === how));
    }
    const [left, right] = about.sides;
    say(this.sides, about.how === "" || left === undefined || right === undefined ? ""
      : about.how === "swipe" ? `Left: ${left}. Right: ${right}.` : `${left}, then ${right}.`);
    this.fit.disabled = lost || answers.length === 0;
    this.tiles.checked = about.tiles;
    this.tiles.disabled = lost;
    say(this.asks, about.asks);
    each(this.rasters, this.pictures, rasters, (raster) => raster.sensor,
      () => rasterRow((message) => this.line.send(message)), lost);
    each(this.answers, this.talk, answers, (answer) => answer.id,
      () => answerRow(about, (message) => this.line.send(message)), lost);
    say(this.owner, about.attribution);
    this.redraw(this.origin, "origin", (block: Block) => originBlock(block));
    this.origins.hidden = rows(this.model.get("origin")).length === 0;
    this.redraw(this.squares, "squares", (view: View) => squareRow(view));
    this.eyes.hidden = !pixels;
    const on = [...rasters.filter((each) => each.visible).map((each) => each.name),
      ...answers.filter((each) => each.visible).map((each) => each.title)];
    this.fold.update(this.model, about.name === "" ? "Layers" : `Layers of ${about.name}`,
      this.fault.textContent
        || (pixels ? `Shown: ${on.join(", ") || "none"}` : this.hint.textContent ?? ""));
  }

  /** A list that is drawn anew only when it differs. */
  private redraw<T extends object>(into: HTMLElement, trait: string, draw: (row: T) => HTMLElement) {
    const found = rows<T>(this.model.get(trait));
    const key = JSON.stringify(found);
    if (this.drawn.get(trait) === key) return;
    this.drawn.set(trait, key);
    fill(into, ...found.map(draw));
  }
}

/** Rows by their key: one that stays is told what is new, and keeps the focus. */
function each<T>(
  into: HTMLElement, held: Map<string, Row<T>>, found: readonly T[], key: (row: T) => string,
  make: () => Row<T>, lost: boolean,
): void {
  const now = new Set(found.map(key));
  for (const old of [...held.keys()]) if (!now.has(old)) held.delete(old);
  arrange(into, found.map((row) => {
    const shown = held.get(key(row)) ?? make();
    held.set(key(row), shown);
    shown.update(row, lost);
    return shown.node;
  }));
}

type Send = Line["send"];

function rasterRow(send: Send): Row<Raster> {
  let now: Raster | null = null;
  const visible = el("input", { type: "checkbox" });
  const name = el("span", {});
  const composite = el("select", { class: "em-field" });
  const opacity = el("input", {
    type: "range", min: "0", max: "1", step: "0.05", class: "em-range",
  });
  const title = el("span", { class: "em-hint" });
  const legend = el("div", { class: "em-legend", role: "group" });
  let drawn = "";
  let listed = "";
  const wanted = new Wanted(() => {
    if (now !== null) update(now, visible.disabled);
  });
  const tell = (): void => {
    if (now === null) return;
    const [shown, share] = [visible.checked, Number(opacity.value)];
    wanted.want(shown, share, composite.value);
    send({
      kind: "raster", sensor: now.sensor, visible: shown, opacity: share,
      composite: composite.value === "" ? null : composite.value,
    });
  };
  for (const part of [visible, composite, opacity]) part.addEventListener("change", tell);
  opacity.addEventListener("input", tell);
  const node = el("div", { class: "em-raster" },
    el("div", { class: "em-row" }, el("label", { class: "em-check" }, visible, name), composite,
      opacity, title),
    legend);
  const update = (raster: Raster, lost: boolean): void => {
    now = raster;
    const none = raster.composites.length === 0;
    node.hidden = none;
    name.textContent = raster.name;
    say(title, raster.title);
    composite.setAttribute("aria-label", `Composite of ${raster.name}`);
    opacity.setAttribute("aria-label", `Opacity of ${raster.name}`);
    for (const part of [visible, composite, opacity]) part.disabled = lost || none;
    const list = JSON.stringify(raster.composites);
    if (list !== listed) {
      listed = list;
      fill(composite, ...raster.composites.map((one) => el("option", { value: one.name }, one.title)));
    }
    if (wanted.agrees(raster.visible, raster.opacity, raster.composite)) {
      composite.value = raster.composite;
      opacity.value = String(raster.opacity);
      visible.checked = raster.visible;
    }
    const key = JSON.stringify([raster.ramps, raster.words]);
    if (key !== drawn) {
      drawn = key;
      legend.setAttribute("aria-label", `Legend of ${raster.name}: ${raster.words}`);
      fill(legend, rampList(raster.ramps));
    }
  };
  return { node, update };
}

function originBlock(block: Block): HTMLElement {
  const files = block.files ?? [];
  return el("div", { class: "em-block" }, el("h4", {}, block.title),
    el("dl", {}, ...(block.facts ?? []).flatMap(([name, value]) =>
      [el("dt", {}, name), el("dd", {}, value)])),
    files.length === 0 ? null : el("ul", { class: "em-origins",
      "aria-label": `Files of ${block.title}` },
      ...files.map((file) => el("li", {},
        [`${file.band} of ${file.item}`, file.resampling].filter(Boolean).join(", "),
        el("span", { class: "em-sum" }, file.checksum)))));
}

function squareRow(view: View): HTMLElement {
  return el("div", { class: "em-block" }, el("h4", {}, view.title),
    el("p", { class: "em-hint" }, [view.words, view.seen].filter(Boolean).join("; ")),
    el("ul", { class: "em-squares" }, ...(view.squares ?? []).map((square) =>
      el("li", {}, el("figure", {},
        PICTURE.test(square.url)
          ? el("img", { src: square.url, alt: `${view.title}, ${square.place}` }) : null,
        el("figcaption", {}, `${square.place}, ${square.size}`))))));
}

export default {
  render({ model, el: root }: { model: Model; el: HTMLElement }): () => void {
    const panel = new Panel(model, root);
    return () => panel.close();
  },
};

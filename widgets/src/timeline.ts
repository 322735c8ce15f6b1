// The timeline of a search: all of its scenes, what became of each, and what can be done with it.

import { type Candidates, middle, nearest, partner, read, type Scene } from "./candidates";
import { Fold } from "./fold";
import { keepKeys } from "./keys";
import { CUT, GONE, Line, type Link, type Model, SILENT } from "./model";
import { type FromKernel, type Pick } from "./protocol";
import { Words } from "./talk";
import { button, el, fill, say } from "./text";
import { draw, type Drawing, label } from "./timeline_svg";

const TRAITS = ["shown", "chosen", "about", "unfolded", "fault"] as const;
const FAULTS = new Map<Link, string>([["gone", GONE], ["cut", CUT]]);
const MISSED = "The last search found no pair. This is what it looked at:";
const WIDTH = 640;
/** Candidates of one scene that are listed under the picture. */
const LISTED = 8;

class Timeline {
  private link: Link = "ok";
  private readonly words = new Words();
  private source: unknown = null;
  private found: Candidates = read(null);
  private drawing: Drawing | null = null;
  private drawn = "";
  private selected: Scene | null = null;
  /** Number of the scene at which the keyboard is. */
  private at = -1;
  private width = WIDTH;
  private readonly line: Line;
  private readonly sizes: ResizeObserver | null;

  private readonly count = el("p", { class: "em-hint" });
  private readonly hint = el("p", { class: "em-hint" });
  private readonly missed = el("p", { class: "em-hint" });
  private readonly fault = el("p", { class: "em-fault", role: "alert" });
  private readonly status = el("p", { class: "em-status", role: "status" });
  private readonly picture = el("div", { class: "em-picture" });
  /** The mark's own name for eyes: to a screen reader the mark says it. */
  private readonly tip = el("div", { class: "em-tip", "aria-hidden": "true", hidden: true });
  private readonly detail = el("div", { class: "em-detail", hidden: true });
  private readonly legend = el("p", { class: "em-hint em-legend" },
    "Disc: optical, fuller is clearer. Square: SAR. Grey with a cross: rejected. " +
    "Arrow keys go from scene to scene, Enter shows one.");
  private readonly summary = el("summary", {});
  private readonly list = el("div", { class: "em-list", tabindex: "0", role: "group",
    "aria-label": "All candidates" });
  private readonly all = el("details", { class: "em-all" }, this.summary, this.list);
  private readonly fold = new Fold([this.hint, this.missed, this.fault, this.count,
    el("div", { class: "em-stage" }, this.picture, this.tip), this.legend, this.detail,
    this.status, this.all]);

  constructor(
    private readonly model: Model,
    root: HTMLElement,
  ) {
    this.line = new Line(model, (link) => {
      this.link = link;
      this.update();
    });
    keepKeys(root);
    fill(root, el("section", { class: "em-panel em-timeline", "aria-label": "Timeline" },
      this.fold.head, this.fold.inside));
    this.picture.addEventListener("keydown", (event) => this.key(event));
    for (const kind of ["pointerover", "focusin"]) this.picture.addEventListener(kind, this.point);
    for (const kind of ["pointerleave", "focusout"]) {
      this.picture.addEventListener(kind, () => this.unpoint());
    }
    this.picture.addEventListener("click", (event) => {
      const scene = this.sceneOf(event.target);
      if (scene !== null) this.select(scene);
    });
    this.all.addEventListener("toggle", () => this.drawList());
    this.sizes = typeof ResizeObserver === "undefined" ? null
      : new ResizeObserver(() => this.measure());
    this.sizes?.observe(this.picture);
    this.line.follow(root, TRAITS, () => this.update(), this.hear);
  }

  close(): void {
    this.sizes?.disconnect();
    this.line.close();
  }

  private readonly hear = (message: FromKernel | null): void => {
    if (message?.kind === "status") this.words.text = message.text;
    this.update();
  };

  private measure(): void {
    const width = Math.round(this.picture.clientWidth);
    if (width === this.width || width < 120) return;
    this.width = width;
    this.update();
  }

  private about() {
    const given = (this.model.get("about") ?? {}) as Record<string, unknown>;
    const text = (key: string): string => String(given[key] ?? "");
    return { name: text("name"), busy: text("busy"), hint: text("hint"), missed: text("missed") };
  }

  private get chosen(): number | null {
    const rank = this.model.get("chosen");
    return typeof rank === "number" ? rank : null;
  }

  /** Nothing can be asked for now. */
  private get rests(): boolean {
    return FAULTS.has(this.link) || this.about().busy !== "";
  }

  private update(): void {
    const about = this.about();
    const source = this.model.get("shown");
    if (source !== this.source) {
      this.source = source;
      const before = this.selected?.id;
      this.found = read(source);
      this.selected = this.found.scenes.find((scene) => scene.id === before) ?? null;
      this.drawList();
    }
    const { pairs, rejected, scenes } = this.found;
    say(this.hint, about.name === "" ? about.hint || "Search first: its scenes come here."
      : scenes.length === 0 && about.busy === "" ? "Nothing was searched yet, or nothing is left of it." : about.hint);
    // Why, and what would help, is said where one searches.
    say(this.missed, about.missed === "" ? "" : MISSED);
    say(this.fault, FAULTS.get(this.link) ?? String(this.model.get("fault") ?? ""));
    this.words.during(about.busy);
    say(this.status, this.link === "silent" ? SILENT : this.words.text);
    const total = pairs.length + rejected.length;
    say(this.count, total === 0 ? ""
      : `${many(scenes.length, "scene")}, ${many(pairs.length, "pair")}, ${rejected.length} rejected`);
    say(this.summary, `All ${total} candidates as a table`);
    for (const part of [this.all, this.legend]) part.hidden = total === 0;
    this.fold.update(this.model, about.name === "" ? "Timeline" : `Timeline of ${about.name}`,
      this.fault.textContent || (total === 0 ? this.hint : this.count).textContent || "");
    this.drawPicture();
    this.drawDetail();
  }

  private drawPicture(): void {
    const rests = this.rests;
    const key = JSON.stringify([this.width, this.chosen, this.selected?.number ?? null, rests]);
    if (this.drawing !== null && key === this.drawn && this.picture.getAttribute("data-of") === this.stamp()) return;
    this.drawn = key;
    this.picture.setAttribute("data-of", this.stamp());
    const held = this.picture.contains(document.activeElement);
    const look = { width: this.width, chosen: this.chosen, selected: this.selected,
      choose: (rank: number) => this.choose(rank) };
    this.drawing = draw(this.found, look);
    this.picture.hidden = this.found.scenes.length === 0;
    fill(this.picture, this.drawing.root);
    const marks = this.drawing.marks;
    if (!marks.has(this.at)) this.at = this.lane(0)[0]?.number ?? this.lane(1)[0]?.number ?? -1;
    marks.get(this.at)?.setAttribute("tabindex", "0");
    if (held) marks.get(this.at)?.focus();
  }

  /** Which data the picture shows. */
  private stamp(): string {
    const { first, last, scenes, pairs, rejected } = this.found;
    return `${first} ${last} ${scenes.map((scene) => scene.id).join(" ")} ${pairs.length} ${rejected.length}`;
  }

  // --- where the pointer or the keyboard is ------------------------------------------------------

  private sceneOf(target: EventTarget | null): Scene | null {
    const mark = target instanceof Element ? target.closest("[data-scene]") : null;
    return mark === null ? null : (this.found.scenes[Number(mark.getAttribute("data-scene"))] ?? null);
  }

  private readonly point = (event: Event): void => {
    const scene = this.sceneOf(event.target);
    if (scene !== null) this.name(scene);
  };

  private name(scene: Scene): void {
    const mark = this.drawing?.marks.get(scene.number);
    const [stage, spot] = [this.picture.getBoundingClientRect(), mark?.getBoundingClientRect()];
    say(this.tip, label(scene, this.chosen));
    if (spot === undefined) return;
    const room = stage.width - 240;
    const left = Math.max(0, Math.min(room, spot.left - stage.left - 60));
    this.tip.style.left = `${left}px`;
    this.tip.style.top = `${spot.bottom - stage.top + 6}px`;
  }

  private unpoint(): void {
    const held = this.sceneOf(document.activeElement);
    if (held === null) say(this.tip, "");
    else this.name(held);
  }

  /** Scenes of a lane by time. */
  private lane(lane: number): readonly Scene[] {
    const time = (scene: Scene): number => middle(scene) ?? 0;
    return this.found.scenes.filter((scene) => scene.lane === lane && middle(scene) !== null)
      .sort((one, other) => time(one) - time(other) || one.number - other.number);
  }

  private key(event: KeyboardEvent): void {
    const here = this.found.scenes[this.at];
    if (here === undefined) return;
    const row = this.lane(here.lane);
    const place = row.indexOf(here);
    const other = this.lane(1 - here.lane);
    const near = (): Scene | undefined => [...other].sort((one, two) =>
      Math.abs((middle(one) ?? 0) - (middle(here) ?? 0)) -
      Math.abs((middle(two) ?? 0) - (middle(here) ?? 0)))[0];
    const goes = new Map<string, () => Scene | undefined>([
      ["ArrowRight", () => row[place + 1]], ["ArrowLeft", () => row[place - 1]],
      ["Home", () => row[0]], ["End", () => row[row.length - 1]],
      ["ArrowUp", () => (here.lane === 1 ? near() : undefined)],
      ["ArrowDown", () => (here.lane === 0 ? near() : undefined)],
    ]).get(event.key);
    if (event.key === "Escape") say(this.tip, ""); // it may hide what lies under it
    const chosen = event.key === "Enter" || event.key === " ";
    if (goes === undefined && !chosen) return;
    event.preventDefault();
    if (chosen) this.select(here);
    else this.go(goes?.() ?? here);
  }

  private go(scene: Scene): void {
    this.drawing?.marks.get(this.at)?.setAttribute("tabindex", "-1");
    this.at = scene.number;
    const mark = this.drawing?.marks.get(this.at);
    mark?.setAttribute("tabindex", "0");
    mark?.focus();
  }

  private select(scene: Scene): void {
    this.at = scene.number;
    this.selected = this.selected === scene ? null : scene;
    this.update();
  }

  // --- one scene, and all candidates -------------------------------------------------------------

  private choose(rank: number): void {
    if (!this.rests) this.line.send({ kind: "choose", rank });
  }

  private pick(scene: Scene, how: Pick): void {
    if (!this.rests) this.line.send({ kind: "pick", scene: scene.id, how });
  }

  private drawDetail(): void {
    const scene = this.selected;
    this.detail.hidden = scene === null;
    const key = JSON.stringify([scene?.id ?? "", this.stamp(), this.chosen, this.rests]);
    if (this.detail.getAttribute("data-of") === key) return;
    this.detail.setAttribute("data-of", key);
    const held = this.detail.contains(document.activeElement)
      ? document.activeElement?.getAttribute("aria-label") : null;
    fill(this.detail, ...(scene === null ? [] : this.aboutScene(scene)));
    const same = Array.from(this.detail.querySelectorAll<HTMLElement>("button"))
      .find((each) => each.getAttribute("aria-label") === held);
    if (held !== null) (same ?? this.drawing?.marks.get(this.at))?.focus();
  }

  private aboutScene(scene: Scene): HTMLElement[] {
    const mine = scene.ranks.slice(0, LISTED).map((rank) => {
      const other = partner(this.found.pairs[rank] ?? [], scene);
      return el("li", {}, `Pair ${rank + 1}${other === null ? "" : ` with ${other.words}`} `,
        rank === this.chosen ? el("span", { class: "em-mark" }, "✓ chosen")
          : this.small(`Choose pair ${rank + 1}`, "Choose", () => this.choose(rank)));
    });
    const out = nearest(scene).slice(0, LISTED).map((each) => {
      const other = partner(each.scenes, scene);
      return el("li", {}, `${other === null ? "" : `With ${other.words}: `}${each.reason}`);
    });
    const rest = scene.ranks.length + scene.rejected.length - mine.length - out.length;
    return [
      el("p", {}, el("strong", {}, scene.words), " ", el("span", { class: "em-ids" }, scene.id)),
      el("div", { class: "em-picks" },
        this.small(`Pin ${scene.id}`, "Pin", () => this.pick(scene, "pin")),
        this.small(`Exclude ${scene.id}`, "Exclude", () => this.pick(scene, "exclude"))),
      el("ul", {}, ...mine, ...out,
        rest > 0 ? el("li", {}, `and ${many(rest, "candidate")} more, in the table below`) : null),
    ];
  }

  private small(name: string, words: string, act: () => void): HTMLElement {
    return button(words, act, { class: "em-button em-quiet em-small", "aria-label": name,
      "aria-disabled": String(this.rests) });
  }

  /** Made when somebody opens it. */
  private drawList(): void {
    if (!this.all.open) {
      fill(this.list);
      return;
    }
    const cell = (scene: Scene | null | undefined) => el("td", {}, scene?.words ?? "—");
    const row = (scenes: readonly (Scene | null)[], words: string) =>
      el("tr", {}, cell(scenes[0]), cell(scenes[1]), el("td", {}, words));
    fill(this.list, el("table", { class: "em-table" },
      el("thead", {}, el("tr", {}, ...["Optical", "SAR", "What became of it"].map((name) =>
        el("th", { scope: "col" }, name)))),
      el("tbody", {},
        ...this.found.pairs.map((pair, rank) => row(pair, `pair ${rank + 1}`)),
        ...this.found.rejected.map((each) => row(each.scenes, each.reason)))));
  }
}

function many(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

export default {
  render({ model, el: root }: { model: Model; el: HTMLElement }): () => void {
    const timeline = new Timeline(model, root);
    return () => timeline.close();
  },
};

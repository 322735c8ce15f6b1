// The table of ranked pairs: search, look at the reasons and the cost, choose.

import { CUT, GONE, Line, type Link, type Model, SILENT } from "./model";
import { fromKernel } from "./protocol";
import { DOING, Words } from "./talk";
import { button, el, fill, rows, say, swap } from "./text";

interface Pair {
  rank: number;
  score: string;
  scenes: { id: string; modality: string; sensor: string; observed: string }[];
  gap: string;
  cloud: string;
  overlap: string;
  cost: string;
  refused: string;
  factors: { name: string; meaning: string; value: string }[];
  reasons: string[];
}

interface About {
  name: string;
  kind: string;
  busy: string;
  loaded: boolean;
  dates: string;
  place: boolean;
  hint: string;
}

/** A pair's rows in the table: made once, then only told what has changed. */
interface Row {
  readonly nodes: readonly HTMLElement[];
  update(chosen: boolean, about: About, lost: boolean): void;
}

const FAULTS = new Map<Link, string>([["gone", GONE], ["cut", CUT]]);
const TRAITS = ["pairs", "chosen", "about", "fault"] as const;
const COLUMNS = ["Why", "Score", "Scenes", "Gap", "Cloud", "Overlap", "Cost before loading", "Choice"];

class Table {
  private link: Link = "ok";
  private readonly words = new Words();
  private drawn = "";
  private rows: readonly Row[] = [];
  private asked = "";
  private readonly open = new Set<string>();
  private readonly line: Line;

  private readonly title = el("h3", { class: "em-title" });
  private readonly first = el("input", { type: "date", class: "em-field" });
  private readonly last = el("input", { type: "date", class: "em-field" });
  private readonly gap = el("input", {
    type: "number", min: "0", step: "any", class: "em-field em-short", placeholder: "auto",
  });
  private readonly cloud = el("input", {
    type: "number", min: "0", max: "100", step: "any", class: "em-field em-short",
    placeholder: "20",
  });
  private readonly find = button("Find pairs", () => this.search());
  private readonly stop = button("Stop", () => {
    this.words.ends();
    this.line.send({ kind: "cancel" });
  }, { class: "em-button em-stop" });
  private readonly form = el("div", { class: "em-form", role: "group", "aria-label": "Search" },
    field("From", this.first), field("to", this.last), field("days apart at most", this.gap),
    field("cloud at most, %", this.cloud), this.find, this.stop);
  private readonly hint = el("p", { class: "em-hint" });
  private readonly fault = el("p", { class: "em-fault", role: "alert" });
  private readonly status = el("p", { class: "em-status", role: "status" });
  private readonly table = el("div", { class: "em-scroll" });

  constructor(
    private readonly model: Model,
    private readonly root: HTMLElement,
  ) {
    this.line = new Line(model, (link) => {
      this.link = link;
      this.update();
    });
    fill(root, el("section", { class: "em-panel em-pairs", "aria-label": "Pairs" },
      el("header", { class: "em-head" }, this.title), this.form, this.hint, this.fault,
      this.status, this.table));
    model.on("msg:custom", this.hear);
    for (const trait of TRAITS) model.on(`change:${trait}`, this.synced);
    model.on("comm_live_update", this.alive);
    this.update();
    this.line.send({ kind: "hello" });
  }

  close(): void {
    this.line.close();
    this.model.off("msg:custom", this.hear);
    for (const trait of TRAITS) this.model.off(`change:${trait}`, this.synced);
    this.model.off("comm_live_update", this.alive);
  }

  private readonly synced = (): void => {
    this.line.heard();
    this.update();
  };

  private readonly alive = (): void => {
    // The model that a view is given hides its state; the view's own frame shows it.
    this.line.live(this.root.closest(".jupyter-widgets-disconnected") === null);
  };

  private readonly hear = (content: unknown): void => {
    this.line.heard();
    const message = fromKernel(content);
    if (message?.kind === "status") this.words.text = message.text;
    this.update();
  };

  private search(): void {
    const [from, to] = [this.first.value, this.last.value];
    if ((from === "") !== (to === "")) {
      this.words.text = "Give both days, or none for the days of the place.";
      this.update();
      return;
    }
    this.line.send({
      kind: "search",
      dates: from === "" ? null : `${from}/${to}`,
      max_gap: this.gap.value === "" ? null : `${this.gap.value} days`,
      max_cloud: this.cloud.value === "" ? null : Number(this.cloud.value),
    });
  }

  private about(): About {
    const found = (this.model.get("about") ?? {}) as Partial<About>;
    return {
      name: String(found.name ?? ""),
      kind: String(found.kind ?? ""),
      busy: String(found.busy ?? ""),
      loaded: found.loaded === true,
      dates: String(found.dates ?? ""),
      place: found.place === true,
      hint: String(found.hint ?? ""),
    };
  }

  private update(): void {
    const about = this.about();
    const pairs = rows<Pair>(this.model.get("pairs"));
    say(this.title, about.name === "" ? "Pairs" : `Pairs of ${about.name}`);
    this.takeDates(about);
    const busy = about.busy !== "";
    const lost = FAULTS.has(this.link);
    this.form.hidden = about.kind !== "aoi";
    this.find.disabled = lost;
    this.stop.disabled = lost;
    if (busy) swap(this.stop, this.find);
    else swap(this.find, this.stop);
    say(this.hint, busy ? "" : about.hint);
    say(this.fault, FAULTS.get(this.link) ?? String(this.model.get("fault") ?? ""));
    this.words.during(about.busy);
    // What a question does is the chat's to say.
    const doing = lost || about.busy === "ask" ? "" : (DOING.get(about.busy) ?? "");
    say(this.status, this.link === "silent" ? SILENT : this.words.text || doing);
    const key = JSON.stringify(pairs);
    if (key !== this.drawn) {
      this.drawn = key;
      this.rows = pairs.map((pair) => this.drawPair(pair));
      fill(this.table, pairs.length === 0 ? null : drawTable(this.rows));
    }
    const chosen = this.model.get("chosen");
    this.rows.forEach((row, rank) => row.update(chosen === pairs[rank]?.rank, about, lost));
  }

  /** The days of the last search, once per subject: what the user types stays. */
  private takeDates(about: About): void {
    const key = `${about.name}\n${about.dates}`;
    if (key === this.asked) return;
    this.asked = key;
    const [from, to] = about.dates.split("/");
    this.first.value = from ?? "";
    this.last.value = to ?? "";
  }

  private drawPair(pair: Pair): Row {
    const ids = pair.scenes.map((scene) => scene.id).join("\n");
    const name = `pair ${pair.rank + 1}`;
    const more = el("tr", { class: "em-more" },
      el("td", {}), el("td", { colspan: String(COLUMNS.length - 1) }, drawWhy(pair)));
    const why = button("", () => {
      if (!this.open.delete(ids)) this.open.add(ids);
      turn();
    }, { class: "em-button em-quiet em-why" });
    const turn = (): void => {
      const open = this.open.has(ids);
      more.hidden = !open;
      why.setAttribute("aria-expanded", String(open));
      why.setAttribute("aria-label", `Factors and reasons of ${name}`);
      why.textContent = open ? "▾" : "▸";
    };
    turn();
    const choose = button("Choose", () => this.line.send({ kind: "choose", rank: pair.rank }));
    // Takes the focus where the button goes, and can't be pressed.
    const mark = el("span", { class: "em-mark", tabindex: "-1", hidden: true });
    const row = el("tr", { class: "em-pair" },
      el("td", {}, why),
      el("td", { class: "em-score" }, pair.score),
      el("td", { class: "em-scenes" }, ...pair.scenes.map((scene) =>
        el("div", { title: scene.id }, el("strong", {}, scene.sensor), ` ${scene.observed}`))),
      el("td", {}, pair.gap), el("td", {}, pair.cloud), el("td", {}, pair.overlap),
      el("td", {}, pair.cost),
      el("td", {}, choose, mark));
    const update = (chosen: boolean, about: About, lost: boolean): void => {
      row.classList.toggle("em-chosen", chosen);
      if (chosen) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
      choose.disabled = lost || about.busy !== "" || pair.refused !== "";
      const loading = chosen && about.busy === "load";
      if (loading || (chosen && about.loaded)) {
        mark.textContent = loading ? "loading…" : "✓ chosen";
        swap(mark, choose);
      } else swap(choose, mark);
      choose.textContent = chosen ? "Load" : "Choose";
      choose.setAttribute("aria-label", `${choose.textContent} ${name}`);
    };
    return { nodes: [row, more], update };
  }
}

function drawTable(rows: readonly Row[]): HTMLElement {
  return el("table", { class: "em-table" },
    el("caption", { class: "em-caption" },
      `${rows.length} ${rows.length === 1 ? "pair" : "pairs"}, best first`),
    el("thead", {}, el("tr", {}, ...COLUMNS.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, ...rows.flatMap((row) => row.nodes)));
}

function field(label: string, input: HTMLInputElement): HTMLElement {
  return el("label", { class: "em-label" }, `${label} `, input);
}

function drawWhy(pair: Pair): HTMLElement {
  const factors = pair.factors.map((factor) =>
    el("li", {}, el("strong", {}, factor.name), ` ${factor.value}, ${factor.meaning}`));
  return el("div", { class: "em-why-text" },
    pair.refused === "" ? null
      : el("p", { class: "em-fault" }, `It can't be loaded. ${pair.refused}`),
    el("p", {}, "Score = 100 × V × T × Q:"), el("ul", { class: "em-factors" }, ...factors),
    el("ul", {}, ...pair.reasons.map((reason) => el("li", {}, reason))),
    el("p", { class: "em-ids" }, pair.scenes.map((scene) => scene.id).join(" + ")));
}

export default {
  render({ model, el: root }: { model: Model; el: HTMLElement }): () => void {
    const table = new Table(model, root);
    return () => table.close();
  },
};

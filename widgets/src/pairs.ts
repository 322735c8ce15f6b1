// The panel of pairs: a search, its progress, the user's own choices, the table.

import { Fold } from "./fold";
import { keepKeys } from "./keys";
import { CUT, GONE, Line, type Link, type Model, SILENT } from "./model";
import { type Asked, Form, type Offers } from "./pair_form";
import { type Choice, drawChoices, type Pair, Table } from "./pair_table";
import { type FromKernel } from "./protocol";
import { DOING, Words } from "./talk";
import { button, el, fill, rows, say, swap } from "./text";

interface About {
  name: string;
  kind: string;
  busy: string;
  loaded: boolean;
  hint: string;
  /** Which two dates are compared, or how to. */
  compared: string;
  terms: Asked;
  choices: readonly Choice[];
  looks: string;
  network: boolean;
}

/** What this panel does; all else is the chat's to say. */
const OWN = new Set(["search", "load"]);
const FAULTS = new Map<Link, string>([["gone", GONE], ["cut", CUT]]);
const TRAITS = [
  "pairs", "chosen", "before", "about", "offers", "looks", "unfolded", "fault",
] as const;
/** The beginning of "18 Sep 2019 10:56 UTC". */
const DAY = /^\d{1,2} \S+ \d{4}/;
const TERMS = ["dates", "around", "max_gap", "max_cloud", "purpose", "sensors", "catalog"] as const;

class Panel {
  private link: Link = "ok";
  private readonly words = new Words();
  private source: unknown = null;
  private pairs: readonly Pair[] = [];
  private readonly line: Line;

  private readonly find = button("Find pairs", () => this.search());
  private readonly stop = button("Stop", () => {
    this.words.ends();
    this.line.send({ kind: "cancel" });
  }, { class: "em-button em-stop" });
  private readonly form = new Form(() => this.search(), this.find, this.stop);
  private readonly looks = button("", () => {
    this.line.send({ kind: "looks", on: this.about().looks !== "on" });
  }, { class: "em-button em-quiet em-small" });
  private readonly choices = el("ul", { class: "em-choices", "aria-label": "Your own choices" });
  private readonly hint = el("p", { class: "em-hint" });
  private readonly fault = el("p", { class: "em-fault", role: "alert" });
  private readonly status = el("p", { class: "em-status", role: "status" });
  /** Seconds that pass are for eyes: read out, they would be all that is heard. */
  private readonly progress = el("p", { class: "em-status em-progress" });
  private readonly stall = el("p", { class: "em-stall", role: "status" });
  private readonly compared = el("p", { class: "em-compared", role: "status" });
  private readonly table = new Table({
    choose: (rank) => this.line.send({ kind: "choose", rank }),
    compare: (rank) => this.line.send({ kind: "dates", rank }),
    pick: (scene, how) => this.line.send({ kind: "pick", scene, how }),
  });
  private readonly fold = new Fold([this.form.root, this.hint, this.fault, this.status,
    this.progress, this.stall, this.choices, this.looks, this.compared,
    this.table.root]);

  constructor(
    private readonly model: Model,
    root: HTMLElement,
  ) {
    this.line = new Line(model, (link) => {
      this.link = link;
      this.update();
    });
    keepKeys(root);
    fill(root, el("section", { class: "em-panel em-pairs", "aria-label": "Pairs", tabindex: "-1" },
      this.fold.head, this.fold.inside));
    this.line.follow(root, TRAITS, () => this.update(), this.hear);
  }

  close(): void {
    this.line.close();
  }

  private readonly hear = (message: FromKernel | null): void => {
    if (message?.kind === "status") this.words.text = message.text;
    if (message?.kind === "progress" && this.about().busy !== "") {
      say(this.progress, message.text);
      say(this.stall, message.stall);
    }
    this.update();
  };

  private search(): void {
    if (this.about().busy !== "" || FAULTS.has(this.link)) return;
    const terms = this.form.terms();
    if (typeof terms !== "string") {
      this.line.send({ kind: "search", ...terms });
      return;
    }
    this.words.text = terms;
    this.update();
  }

  private about(): About {
    const found = (this.model.get("about") ?? {}) as Partial<About>;
    const asked = (found.terms ?? {}) as Partial<Asked>;
    return {
      name: String(found.name ?? ""),
      kind: String(found.kind ?? ""),
      busy: String(found.busy ?? ""),
      loaded: found.loaded === true,
      hint: String(found.hint ?? ""),
      compared: String(found.compared ?? ""),
      terms: Object.fromEntries(TERMS.map((key) => [key, String(asked[key] ?? "")])) as Asked,
      choices: rows<Choice>(found.choices),
      looks: String(found.looks ?? "none"),
      network: found.network === true,
    };
  }

  private update(): void {
    const about = this.about();
    const busy = about.busy !== "";
    const lost = FAULTS.has(this.link);
    this.drawForm(about, busy, lost);
    say(this.hint, busy ? "" : about.hint);
    say(this.compared, about.compared);
    say(this.fault, FAULTS.get(this.link) ?? String(this.model.get("fault") ?? ""));
    this.words.during(about.busy);
    // What a question does is the chat's to say.
    const doing = lost || !OWN.has(about.busy) ? "" : (DOING.get(about.busy) ?? "");
    say(this.status, this.link === "silent" ? SILENT : this.words.text || doing);
    if (!busy || lost) for (const each of [this.progress, this.stall]) say(each, "");
    drawChoices(this.choices, about.choices, busy || lost,
      (scene) => this.line.send({ kind: "pick", scene, how: "free" }));
    this.drawTable(about, lost);
    this.fold.update(this.model, about.name === "" ? "Pairs" : `Pairs of ${about.name}`,
      this.fault.textContent || this.brief(about));
  }

  private brief(about: About): string {
    const chosen = this.pairs.find((pair) => pair.rank === this.model.get("chosen"));
    if (chosen === undefined) return about.hint;
    const day = (observed: string): string => DAY.exec(observed)?.[0] ?? observed;
    const scenes = chosen.scenes.map((scene) => `${scene.sensor} ${day(scene.observed)}`);
    const more = this.pairs.length > 1 ? "; open to compare two dates" : "";
    return `Chosen: ${scenes.join(", ")}${more}`;
  }

  private drawForm(about: About, busy: boolean, lost: boolean): void {
    const offers = this.model.get("offers") as Offers | undefined;
    if (offers?.catalogs !== undefined) this.form.offer(offers);
    // A search that is stopped leaves what was typed for it.
    if (about.busy !== "search") this.form.take(about.name, about.terms);
    this.form.root.hidden = about.kind !== "aoi";
    this.find.disabled = lost;
    this.stop.disabled = lost;
    if (busy) swap(this.stop, this.find);
    else swap(this.find, this.stop);
    this.looks.hidden = about.looks === "none";
    this.looks.disabled = lost;
    const over = about.network ? " (reads over the network)" : "";
    say(this.looks, about.looks === "none" ? ""
      : about.looks === "on" ? "Hide quick-looks" : `Show quick-looks${over}`);
  }

  private drawTable(about: About, lost: boolean): void {
    const source = this.model.get("pairs");
    if (source !== this.source) {
      this.source = source;
      this.pairs = rows<Pair>(source);
    }
    const looks = about.looks === "on" ? this.model.get("looks") : null;
    this.table.draw(this.pairs, {
      subject: about.name,
      chosen: this.model.get("chosen"), before: this.model.get("before"), busy: about.busy, loaded: about.loaded, lost,
      choices: about.choices, looks: (looks ?? {}) as Record<string, unknown>,
    });
  }
}

export default {
  render({ model, el: root }: { model: Model; el: HTMLElement }): () => void {
    const panel = new Panel(model, root);
    return () => panel.close();
  },
};

// What was found, taken home: files of an answer or of the whole talk, references, and whether an
// answer replays. Files are made by the kernel and come as bytes; nothing else is asked for.

import { Downloader } from "./download";
import { Fold } from "./fold";
import { keepKeys } from "./keys";
import { CUT, GONE, Line, type Link, type Model, SILENT } from "./model";
import type { FileKind, FromKernel } from "./protocol";
import { button, el, fill, rows, say } from "./text";

interface Answer {
  turn: string;
  title: string;
  /** Kind of file to why it can't be had. */
  off: Readonly<Record<string, string>>;
}

interface Checked {
  turn: string;
  state: string;
  words: string[];
}

const TRAITS = ["answers", "about", "checked", "unfolded", "fault"] as const;
const FAULTS = new Map<Link, string>([["gone", GONE], ["cut", CUT]]);
const OF_ANSWER: readonly (readonly [FileKind, string, string])[] = [
  ["geojson", "GeoJSON", "The objects as features in longitude and latitude"],
  ["gpkg", "GeoPackage", "The objects for QGIS and other GIS"],
  ["parquet", "GeoParquet", "The objects as a table for large data"],
  ["mask", "Mask (COG)", "Class and object of each pixel, a cloud-optimised GeoTIFF"],
  ["probability", "Probability (COG)", "The model's own probability, a cloud-optimised GeoTIFF"],
  ["stac", "STAC item", "Item, features, mask and record in one ZIP file"],
  ["record", "Record", "How the answer came about; earthmind replay takes it"],
];
const OF_TALK: readonly (readonly [FileKind, string, string])[] = [
  ["report", "Report", "One HTML file with pictures, evidence and methods; opens offline"],
  ["notebook", "Notebook", "Asks every question again and says whether the answer is the same"],
];
const POINTS = "Points to label";
const VERDICTS = new Map([
  ["running", "Being checked…"], ["same", "It replays."], ["differs", "It does not replay."],
  ["stopped", "Not checked."], ["failed", "The check failed."],
]);

class Panel {
  private static count = 0;
  private link: Link = "ok";
  private said = "";
  private drawn = "";
  /** The answer whose references were asked for in this view. */
  private wanted = "";
  private readonly number = (Panel.count += 1);
  private readonly line: Line;
  private readonly downloads: Downloader;
  private readonly files = new Map<FileKind, HTMLButtonElement>();

  private readonly hint = el("p", { class: "em-hint" });
  private readonly fault = el("p", { class: "em-fault", role: "alert" });
  private readonly status = el("p", { class: "em-status", role: "status" });
  private readonly answer = el("select", { class: "em-field" });
  private readonly why = el("p", { class: "em-why", id: `em-keep-why-${this.number}` });
  private readonly points = el("input", {
    type: "number", class: "em-field em-count", min: "4", max: "100000", value: "300",
  });
  private readonly bar = el("progress", { class: "em-bar", "aria-label": "Fetching the file" });
  private readonly cancel = button("Cancel", () => this.downloads.cancel(),
    { class: "em-button em-stop" });
  private readonly going = el("div", { class: "em-row" }, this.bar, this.cancel);
  private readonly cite = button("Cite", () => this.ask("cite"), { class: "em-button em-quiet" });
  private readonly verify = button("Check that it replays", () => this.ask("verify"),
    { class: "em-button em-quiet" });
  private readonly stop = button("Stop the check", () => this.line.send({ kind: "cancel" }),
    { class: "em-button em-stop" });
  private readonly verdict = el("div", { class: "em-outcome", role: "status" });
  private readonly text = el("textarea", { class: "em-field em-citation", readonly: true,
    rows: "10", spellcheck: "false", "aria-label": "What to write about this answer" });
  private readonly citation = el("div", { class: "em-cited" }, this.text, el("div", { class: "em-row" },
    button("Copy", () => void this.copy(), { class: "em-button em-quiet" }),
    button("Close", () => this.shut(), { class: "em-button em-quiet" })));
  private readonly controls = el("div", { class: "em-controls" });
  private readonly fold = new Fold([this.hint, this.controls, this.going, this.fault, this.status]);

  constructor(
    private readonly model: Model,
    root: HTMLElement,
  ) {
    this.line = new Line(model, (link) => {
      if (this.link === "cut" && link === "ok") this.downloads.resume();
      this.link = link;
      if (link === "gone") this.downloads.end("");
      this.update();
    });
    this.downloads = new Downloader((message) => this.line.send(message), (said) => {
      this.said = said ?? this.said;
      this.update();
    });
    keepKeys(root);
    this.build(root);
    this.line.follow(root, TRAITS, () => this.update(), this.hear);
  }

  close(): void {
    if (this.downloads.coming !== null) this.downloads.cancel();
    this.line.close();
  }

  private build(root: HTMLElement): void {
    this.answer.addEventListener("change", () => {
      this.wanted = "";
      this.shut();
      this.update();
    });
    this.citation.hidden = true;
    this.text.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.shut();
    });
    const file = ([kind, label, title]: readonly [FileKind, string, string]): HTMLButtonElement => {
      const made = button(label, () => this.fetch(kind), { class: "em-button em-quiet", title });
      this.files.set(kind, made);
      return made;
    };
    const points = file(["points", POINTS, "Random points of each class, from which areas with " +
      "intervals are estimated (Olofsson et al. 2014)"]);
    fill(this.controls,
      el("label", { class: "em-label" }, "Answer ", this.answer),
      el("div", { class: "em-row", role: "group", "aria-label": "Files of this answer" },
        ...OF_ANSWER.map(file)),
      el("div", { class: "em-row" }, points,
        el("label", { class: "em-label em-beside" }, "how many ", this.points)),
      this.why,
      el("div", { class: "em-row" }, this.cite, this.verify, this.stop),
      this.verdict, this.citation,
      el("h4", { class: "em-sub" }, "The whole talk"),
      el("div", { class: "em-row", role: "group", "aria-label": "Files of the whole talk" },
        ...OF_TALK.map(file)));
    fill(root, el("section", { class: "em-panel em-keep", "aria-label": "Keep" },
      this.fold.head, this.fold.inside));
  }

  private readonly hear = (message: FromKernel | null, bytes: readonly DataView[]): void => {
    if (message === null) return;
    // A word that only says that it was heard leaves what is said.
    if (message.kind === "status" && message.text !== "") this.said = message.text;
    if (message.kind === "citation" && message.turn === this.wanted) this.open(message.text);
    this.downloads.hear(message, bytes);
    this.update();
  };

  private chosen(): Answer | undefined {
    return this.rows().find((each) => each.turn === this.answer.value);
  }

  private rows(): readonly Answer[] {
    return rows<Answer>(this.model.get("answers"));
  }

  private fetch(kind: FileKind): void {
    const answer = this.chosen();
    const reason = answer?.off[kind] ?? "";
    if (answer === undefined || FAULTS.has(this.link)) return;
    if (this.downloads.coming !== null) this.said = "One file at a time: wait for it, or cancel it.";
    else if (reason !== "") this.said = reason;
    else {
      this.said = "";
      const points = Math.round(this.points.valueAsNumber);
      this.downloads.start(kind, answer.turn, points > 0 ? points : 0);
    }
    this.update();
  }

  private ask(kind: "cite" | "verify"): void {
    const answer = this.chosen();
    if (answer === undefined || FAULTS.has(this.link)) return;
    this.said = "";
    if (kind === "cite") this.wanted = answer.turn;
    if (kind === "verify" && this.busy() !== "") this.said = "Something runs here: wait for it.";
    else this.line.send({ kind, turn: answer.turn });
    this.update();
  }

  private busy(): string {
    return String((this.model.get("about") as { busy?: string } | undefined)?.busy ?? "");
  }

  private open(text: string): void {
    this.wanted = "";
    this.text.value = text;
    this.citation.hidden = false;
    this.text.focus();
    this.text.setSelectionRange(0, 0);
    this.text.scrollTop = 0;
  }

  private shut(): void {
    const held = this.citation.contains(document.activeElement);
    this.citation.hidden = true;
    if (held) this.cite.focus();
  }

  private async copy(): Promise<void> {
    try {
      await navigator.clipboard.writeText(this.text.value);
      this.said = "Copied to the clipboard.";
    } catch {
      this.text.focus();
      this.text.select();
      this.said = "The browser keeps its clipboard: copy the marked text.";
    }
    this.update();
  }

  private update(): void {
    const found = this.rows();
    const about = (this.model.get("about") ?? {}) as { hint?: string };
    const lost = FAULTS.has(this.link);
    this.drawAnswers(found);
    this.controls.hidden = found.length === 0;
    if (found.length === 0) this.citation.hidden = true;
    say(this.hint, found.length === 0 ? String(about.hint ?? "") : "");
    const off = this.chosen()?.off ?? {};
    say(this.why, [...new Set(Object.values(off).map(String))].join(" "));
    for (const [kind, each] of this.files) {
      const rests = (off[kind] ?? "") !== "";
      rest(each, lost || rests || this.downloads.coming !== null);
      if (rests) each.setAttribute("aria-describedby", this.why.id);
      else each.removeAttribute("aria-describedby");
    }
    rest(this.cite, lost);
    rest(this.verify, lost || this.busy() !== "");
    this.drawGoing(lost);
    this.drawVerdict(lost);
    say(this.fault, FAULTS.get(this.link) ?? String(this.model.get("fault") ?? ""));
    say(this.status, this.link === "silent" ? SILENT : this.said);
    this.fold.update(this.model, "Keep", this.fault.textContent || this.status.textContent ||
      this.hint.textContent || "Files, references, a report, a notebook");
  }

  /** The choice stays where its answer does; else the last is chosen. */
  private drawAnswers(found: readonly Answer[]): void {
    const key = JSON.stringify(found.map((each) => [each.turn, each.title]));
    if (key === this.drawn) return;
    const before = this.answer.value;
    const last = found.at(-1)?.turn ?? "";
    // A new answer is what one wants next, unless an older one was picked.
    const picked = before !== "" && before !== this.answer.options[this.answer.options.length - 1]?.value;
    this.drawn = key;
    fill(this.answer,
      ...found.map((each) => el("option", { value: each.turn }, String(each.title))));
    const stays = picked && found.some((each) => each.turn === before);
    this.answer.value = stays ? before : last;
    if (this.answer.value !== before) this.citation.hidden = true;
  }

  private drawGoing(lost: boolean): void {
    const coming = this.downloads.coming;
    const held = this.going.contains(document.activeElement);
    this.going.hidden = coming === null;
    this.cancel.disabled = lost;
    if (coming === null) {
      // The focus goes on where the file was asked for.
      if (held) this.answer.focus();
    } else if (coming.size > 0) {
      this.bar.max = coming.size;
      this.bar.value = coming.received;
    } else {
      this.bar.removeAttribute("value");
    }
  }

  private drawVerdict(lost: boolean): void {
    const found = (this.model.get("checked") ?? {}) as Partial<Checked>;
    const running = found.state === "running";
    this.stop.hidden = !running;
    this.stop.disabled = lost;
    const own = found.turn !== undefined && found.turn === this.answer.value;
    const key = own ? JSON.stringify(found) : "";
    this.verdict.hidden = !own;
    if (key === this.verdict.dataset["key"]) return;
    this.verdict.dataset["key"] = key;
    if (!own) {
      fill(this.verdict);
      return;
    }
    const words = Array.isArray(found.words) ? found.words.map(String) : [];
    fill(this.verdict, el("strong", {}, VERDICTS.get(String(found.state)) ?? ""),
      words.length === 0 ? null : el("ul", {}, ...words.map((each) => el("li", {}, each))));
    this.verdict.className = `em-outcome em-${VERDICTS.has(String(found.state)) ? found.state : "failed"}`;
  }
}

/** Not now, but still to be reached and read: a focused button must not lose the focus. */
function rest(each: HTMLButtonElement, rests: boolean): void {
  each.setAttribute("aria-disabled", String(rests));
}

export default {
  render({ model, el: root }: { model: Model; el: HTMLElement }): () => void {
    const panel = new Panel(model, root);
    return () => panel.close();
  },
};

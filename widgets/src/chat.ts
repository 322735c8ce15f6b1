// The chat panel: turns from synced state, the answer under way from messages.

import { type Drafts, draftsOf } from "./drafts";
import { keepKeys } from "./keys";
import { CUT, GONE, Line, type Link, type Model, SILENT } from "./model";
import { type FromKernel } from "./protocol";
import { DOING, type Live, step, Words } from "./talk";
import { arrange, button, el, fill, handOver, rows, say, seconds } from "./text";
import { type Acts, drawTurn, Place, type Sensor, type Turn } from "./turns";

interface About {
  name: string;
  /** Stays where the area gets another name. */
  key: string;
  busy: string;
  ready: boolean;
  hint: string;
  /** Which two dates a question is about; empty for one. */
  dates: string;
  shows: boolean;
  earlier: string;
}

interface Mark {
  id: string;
  name: string;
  label: string;
}

/** Close enough to the end that new text should keep it in sight, px. */
const NEAR_END = 60;

class Chat {
  private live: Live | null = null;
  private link: Link = "ok";
  private readonly words = new Words();
  private readonly shown = new Map<string, { key: string; node: HTMLElement }>();
  private readonly drafts: Drafts;
  /** Whose draft is in the box. */
  private area = "";
  /** The turn that is to be, or is, shown as Python. */
  private copying = "";
  private code: string | null = null;
  /** Whether the log goes to what is new; not while somebody reads in it. */
  private follows = true;
  private readonly line: Line;
  private readonly clock: ReturnType<typeof setInterval>;

  private readonly title = el("h3", { class: "em-title" });
  private readonly log = el("div", {
    class: "em-log", role: "log", "aria-live": "polite", "aria-label": "Talk", tabindex: "0",
  });
  private readonly hint = el("p", { class: "em-hint" });
  private readonly dates = el("p", { class: "em-hint em-dates", role: "status" });
  private readonly question = el("p", { class: "em-question" });
  private readonly writing = el("p", { class: "em-text" });
  private readonly waiting = el("p", { class: "em-waiting" });
  // Read out as a whole when it is done, not word by word.
  private readonly current = el(
    "article",
    { class: "em-turn em-current", "aria-busy": "true" },
    this.question, this.writing, this.waiting,
  );
  private readonly fault = el("p", { class: "em-fault", role: "alert" });
  private readonly status = el("p", { class: "em-status", role: "status" });
  private readonly marks = el("div", { class: "em-chips", role: "group",
    "aria-label": "Regions in the question" });
  private readonly back = button("Back to the earlier talk", () => this.branch(this.about().earlier),
    { class: "em-button em-quiet em-back" });
  private readonly fresh = button("New talk", () => this.branch(null),
    { class: "em-button em-quiet" });
  private readonly chips = el("div", { class: "em-chips", role: "group",
    "aria-label": "Suggested questions" });
  private readonly box = el("textarea", { class: "em-box", rows: "2", "aria-label": "Question",
    placeholder: "Ask about this area…" });
  private readonly send = button("Send", () => this.ask(this.box.value));
  private readonly stop = button("Stop", () => this.end("stop"),
    { class: "em-button em-stop" });
  private readonly undo = button("Undo", () => this.end("undo"),
    { class: "em-button em-quiet" });

  constructor(
    private readonly model: Model,
    root: HTMLElement,
  ) {
    this.line = new Line(model, (link) => {
      this.link = link;
      this.update();
    });
    this.drafts = draftsOf(String(model.get("panel") ?? ""));
    this.area = this.about().key;
    this.box.value = this.drafts.box(this.area);
    this.box.addEventListener("input", () => this.drafts.keepBox(this.area, this.box.value));
    this.box.addEventListener("keydown", (event) => this.key(event));
    keepKeys(root);
    fill(
      root,
      el("section", { class: "em-panel em-chat", "aria-label": "Chat" },
        el("header", { class: "em-head" }, this.title,
          el("div", { class: "em-head-tools" }, this.fresh, this.undo)),
        this.hint, this.back, this.log, this.fault, this.status, this.dates, this.chips,
        this.marks,
        el("div", { class: "em-row" }, this.box, this.send, this.stop)),
    );
    const reads = (): void => {
      this.follows = false;
    };
    for (const event of ["wheel", "pointerdown", "keydown"]) {
      this.log.addEventListener(event, reads, { passive: true });
    }
    this.clock = setInterval(() => this.tick(), 1000);
    this.line.follow(root, TRAITS, () => this.update(), this.hear);
  }

  close(): void {
    clearInterval(this.clock);
    this.line.close();
  }

  private readonly hear = (message: FromKernel | null): void => {
    if (message === null) return;
    if (message.kind === "code") {
      this.showCode(message.turn, message.text);
      return;
    }
    const next = step(this.live, message, Date.now());
    this.live = next.live;
    if (next.said !== null) this.words.text = next.said;
    if (next.missed) this.line.send({ kind: "hello" });
    this.update();
  };

  private key(event: KeyboardEvent): void {
    // isComposing: Enter that ends a word of an input method is no Send.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.ask(this.box.value);
  }

  private end(kind: "stop" | "undo"): void {
    this.words.ends();
    this.line.send({ kind });
  }

  /** Nothing can be sent. */
  private get lost(): boolean {
    return this.link === "gone" || this.link === "cut";
  }

  private ask(text: string): void {
    if (text.trim() === "" || this.lost) return;
    if (this.free("Your question is kept; send it afterwards.")) {
      this.line.send({ kind: "ask", text: text.trim() });
      if (text === this.box.value) this.box.value = "";
      this.drafts.keepBox(this.area, this.box.value);
      this.follows = true;
    }
    this.update();
  }

  /** Whether a question can be sent now; if not, says why, and `then` what to do. */
  private free(then: string): boolean {
    const about = this.about();
    if (this.lost) return false;
    const busy = about.busy !== "" || this.live !== null;
    if (!about.ready) this.words.text = about.hint;
    else if (busy) this.words.text = `${DOING.get(about.busy) ?? "Busy."} ${then}`;
    else this.words.text = "";
    return about.ready && !busy;
  }

  private again(turn: string, text: string | null, without: Sensor | null): boolean {
    const sent = this.free("Ask again afterwards.");
    if (sent) {
      this.line.send({ kind: "again", turn, text, without });
      this.follows = true;
    }
    this.update();
    return sent;
  }

  private branch(turn: string | null): void {
    if (this.lost) return;
    this.line.send({ kind: "branch", turn });
  }

  private copy(turn: string): void {
    if (this.lost) return;
    this.copying = turn;
    this.line.send({ kind: "copy", turn });
  }

  /** Code that this view, not another one of the panel, has asked for. */
  private showCode(turn: string, text: string): void {
    if (turn !== this.copying) return;
    this.code = text;
    this.update();
    const box = this.log.querySelector<HTMLTextAreaElement>(".em-code");
    box?.focus();
    box?.select();
    void clip(text).then((done) => {
      this.words.text = done ? "Copied to the clipboard."
        : "The code is selected: copy it with Ctrl+C or ⌘C.";
      this.update();
    });
  }

  private shut(): void {
    this.code = null;
    this.copying = "";
    this.words.text = "";
    this.update();
  }

  private about(): About {
    const found = (this.model.get("about") ?? {}) as Partial<About>;
    return {
      name: String(found.name ?? ""),
      key: String(found.key ?? ""),
      busy: String(found.busy ?? ""),
      ready: found.ready === true,
      hint: String(found.hint ?? ""),
      dates: String(found.dates ?? ""),
      shows: found.shows === true,
      earlier: String(found.earlier ?? ""),
    };
  }

  private update(): void {
    const about = this.about();
    const atEnd =
      this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < NEAR_END;
    say(this.title, about.name === "" ? "Chat" : `Chat about ${about.name}`);
    if (about.key !== this.area) {
      this.area = about.key;
      this.box.value = this.drafts.box(this.area);
    }
    this.drawTurns(about);
    this.drawLive();
    say(this.hint, about.hint);
    say(this.dates, about.dates);
    say(this.fault, FAULTS.get(this.link) ?? String(this.model.get("fault") ?? ""));
    this.words.during(about.busy);
    const doing = this.live === null ? (DOING.get(about.busy) ?? "") : "";
    say(this.status, this.link === "silent" ? SILENT : this.words.text || (this.lost ? "" : doing));
    this.drawControls(about);
    if (atEnd || this.follows) this.toEnd();
  }

  /** The last turn in sight; one longer than the log from its question on, or its comparison. */
  private toEnd(): void {
    const last = this.log.lastElementChild as HTMLElement | null;
    const long = last !== null && last !== this.current && last.offsetHeight > this.log.clientHeight;
    const from = last?.querySelector<HTMLElement>(".em-compared") ?? last;
    this.log.scrollTop = long && from !== null ? from.offsetTop - this.log.offsetTop
      : this.log.scrollHeight;
  }

  private drawTurns(about: About): void {
    const turns = rows<Turn>(this.model.get("turns"));
    const nodes: HTMLElement[] = [];
    const ids = new Set<string>();
    const place = new Place(this.log);
    const acts = this.acts(about);
    for (const turn of turns) {
      const code = turn.id === this.copying ? this.code : null;
      const edited = this.drafts.edit(turn.id) !== null;
      const key = JSON.stringify([turn, about.shows, edited, code]);
      const held = this.shown.get(turn.id);
      const node = held?.key === key ? held.node : drawTurn(turn, acts, this.drafts, code);
      this.shown.set(turn.id, { key, node });
      ids.add(turn.id);
      nodes.push(node);
    }
    for (const id of this.shown.keys()) if (!ids.has(id)) this.shown.delete(id);
    // The turn that has just come stands for the live text at once: no word twice.
    if (this.live !== null && ids.has(this.live.ask)) this.live = null;
    if (this.live !== null) nodes.push(this.current);
    arrange(this.log, nodes);
    place.restore(this.box);
  }

  private acts(about: About): Acts {
    return {
      show: about.shows ? (turn) => this.line.send({ kind: "show", turn }) : null,
      again: (turn, text, without) => this.again(turn, text, without),
      branch: (turn) => this.branch(turn),
      copy: (turn) => this.copy(turn),
      shut: () => this.shut(),
      redraw: () => this.update(),
    };
  }

  private drawLive(): void {
    if (this.live === null) return;
    say(this.question, this.live.question);
    say(this.writing, this.live.text);
    const elapsed = seconds((Date.now() - this.live.began) / 1000);
    const doing = this.live.status || (this.live.text === "" ? "thinking" : "writing");
    say(this.waiting, this.lost ? "" : `${doing} · ${elapsed}`);
  }

  private drawControls(about: About): void {
    const busy = about.busy !== "" || this.live !== null;
    const undoes = String(this.model.get("undo_label") ?? "");
    const nothing = this.lost || undoes === "";
    const begun = this.log.firstElementChild !== null;
    const wanted = about.ready && !busy && !this.lost ? this.model.get("suggestions") : [];
    const offered = Array.isArray(wanted) ? wanted.map(String) : [];
    // After a click the keyboard goes on in the box, wherever the button went.
    for (const [part, goes] of [
      [this.send, busy], [this.stop, !busy], [this.undo, nothing], [this.chips, offered.length === 0],
      [this.fresh, this.lost || busy || !begun], [this.back, about.earlier === ""],
    ] as const) if (goes) handOver(part, this.box);
    this.send.hidden = busy;
    this.stop.hidden = !busy;
    this.send.disabled = this.lost || !about.ready;
    this.stop.disabled = this.lost;
    this.undo.disabled = nothing;
    this.fresh.disabled = this.lost || busy || !begun;
    this.back.hidden = about.earlier === "" || busy;
    // Not disabled: that would take the focus from who waits there.
    for (const each of this.log.querySelectorAll(".em-asks")) {
      each.setAttribute("aria-disabled", String(busy || this.lost || !about.ready));
    }
    this.undo.title = undoes === "" ? "Nothing to undo" : `Undo ${undoes}`;
    this.drawMarks();
    this.chips.hidden = offered.length === 0;
    const there = Array.from(this.chips.children, (chip) => chip.textContent ?? "");
    if (offered.join("\n") === there.join("\n")) return;
    const chip = (text: string) => button(text, () => this.ask(text), { class: "em-button em-chip" });
    fill(this.chips, ...offered.map(chip));
  }

  /** What goes into the next question; a click takes it out. */
  private drawMarks(): void {
    const marks = rows<Mark>(this.model.get("marks"));
    const key = JSON.stringify(marks);
    if (this.marks.dataset["key"] === key) return;
    this.marks.dataset["key"] = key;
    const focused = Array.from(this.marks.children).indexOf(document.activeElement as Element);
    fill(this.marks, ...marks.map((mark) => {
      const plain = mark.label.replaceAll(" ", "") === mark.name;
      const words = plain ? mark.name : `${mark.name} · ${mark.label}`;
      const act = (): void => this.line.send({ kind: "unmark", region: mark.id });
      return button(`${words} ×`, act, { class: "em-button em-chip em-asked-of",
        "aria-label": `Take ${words} out of the question` });
    }));
    this.marks.hidden = marks.length === 0;
    if (focused < 0) return;
    const next = this.marks.children[Math.min(focused, marks.length - 1)];
    ((next as HTMLElement | undefined) ?? this.box).focus();
  }

  private tick(): void {
    if (this.live !== null) this.drawLive();
  }
}

const FAULTS = new Map<Link, string>([["gone", GONE], ["cut", CUT]]);
const TRAITS = ["turns", "about", "marks", "suggestions", "undo_label", "fault"] as const;

/** Puts a text on the clipboard, where the browser lets us; whether it did. */
async function clip(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text); // a page without encryption has no clipboard
    return true;
  } catch {
    return false;
  }
}

export default {
  render({ model, el: root }: { model: Model; el: HTMLElement }): () => void {
    const chat = new Chat(model, root);
    return () => chat.close();
  },
};

// The chat panel: turns from synced state, the answer under way from messages.

import { CUT, GONE, Line, type Link, type Model, SILENT } from "./model";
import { fromKernel } from "./protocol";
import { DOING, type Live, step, Words } from "./talk";
import { arrange, button, el, fill, handOver, rows, say, seconds } from "./text";

interface Turn {
  id: string;
  question: string;
  state: "done" | "stopped" | "failed";
  text: string;
  notice: string;
  message: string;
  stale: boolean;
  features: { label: string; count: number; area: string; source: string }[];
  evidence: { verdict: string; kind: string; sentence: string }[];
}

interface About {
  name: string;
  busy: string;
  ready: boolean;
  hint: string;
  shows: boolean;
}

const VERDICTS = new Map([
  ["supported", "✓"],
  ["contradicted", "✗"],
  ["uncheckable", "?"],
]);
/** Close enough to the end that new text should keep it in sight, px. */
const NEAR_END = 60;

/** What a person wrote and did not send, by panel: a view that opens again has it. */
const drafts = new Map<string, string>();

class Chat {
  private live: Live | null = null;
  private link: Link = "ok";
  private readonly words = new Words();
  private readonly shown = new Map<string, { key: string; node: HTMLElement }>();
  private readonly panel: string;
  private readonly line: Line;
  private readonly clock: ReturnType<typeof setInterval>;

  private readonly title = el("h3", { class: "em-title" });
  private readonly log = el("div", {
    class: "em-log", role: "log", "aria-live": "polite", "aria-label": "Talk", tabindex: "0",
  });
  private readonly hint = el("p", { class: "em-hint" });
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
    private readonly root: HTMLElement,
  ) {
    this.line = new Line(model, (link) => {
      this.link = link;
      this.update();
    });
    this.panel = String(model.get("panel") ?? "");
    this.box.value = drafts.get(this.panel) ?? "";
    this.box.addEventListener("input", () => drafts.set(this.panel, this.box.value));
    this.box.addEventListener("keydown", (event) => this.key(event));
    fill(
      root,
      el("section", { class: "em-panel em-chat", "aria-label": "Chat" },
        el("header", { class: "em-head" }, this.title, this.undo),
        this.hint, this.log, this.fault, this.status, this.chips,
        el("div", { class: "em-row" }, this.box, this.send, this.stop)),
    );
    this.clock = setInterval(() => this.tick(), 1000);
    model.on("msg:custom", this.hear);
    for (const trait of TRAITS) model.on(`change:${trait}`, this.synced);
    model.on("comm_live_update", this.alive);
    this.update();
    this.line.send({ kind: "hello" });
  }

  close(): void {
    clearInterval(this.clock);
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
    if (message === null) return;
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
    const about = this.about();
    if (!about.ready) {
      this.words.text = about.hint;
    } else if (about.busy !== "") {
      this.words.text = `${DOING.get(about.busy) ?? "Busy"} Your question is kept; send it afterwards.`;
    } else {
      this.line.send({ kind: "ask", text: text.trim() });
      this.words.text = "";
      if (text === this.box.value) this.box.value = "";
      drafts.set(this.panel, this.box.value);
      this.log.scrollTop = this.log.scrollHeight;
    }
    this.update();
  }

  private about(): About {
    const found = (this.model.get("about") ?? {}) as Partial<About>;
    return {
      name: String(found.name ?? ""),
      busy: String(found.busy ?? ""),
      ready: found.ready === true,
      hint: String(found.hint ?? ""),
      shows: found.shows === true,
    };
  }

  private update(): void {
    const about = this.about();
    const atEnd =
      this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < NEAR_END;
    say(this.title, about.name === "" ? "Chat" : about.name);
    this.drawTurns(about);
    this.drawLive();
    say(this.hint, about.hint);
    say(this.fault, FAULTS.get(this.link) ?? String(this.model.get("fault") ?? ""));
    this.words.during(about.busy);
    const doing = this.live === null ? (DOING.get(about.busy) ?? "") : "";
    say(this.status, this.link === "silent" ? SILENT : this.words.text || (this.lost ? "" : doing));
    this.drawControls(about);
    if (atEnd) this.log.scrollTop = this.log.scrollHeight;
  }

  private drawTurns(about: About): void {
    const turns = rows<Turn>(this.model.get("turns"));
    const nodes: HTMLElement[] = [];
    const ids = new Set<string>();
    for (const turn of turns) {
      const key = JSON.stringify([turn, about.shows]);
      const held = this.shown.get(turn.id);
      const node = held?.key === key ? held.node : drawTurn(turn, this.show(turn, about));
      this.shown.set(turn.id, { key, node });
      ids.add(turn.id);
      nodes.push(node);
    }
    for (const id of this.shown.keys()) if (!ids.has(id)) this.shown.delete(id);
    // The turn that has just come stands for the live text at once: no word twice.
    if (this.live !== null && ids.has(this.live.ask)) this.live = null;
    if (this.live !== null) nodes.push(this.current);
    arrange(this.log, nodes);
  }

  private show(turn: Turn, about: About): (() => void) | null {
    if (!about.shows || turn.features.length === 0) return null;
    return () => this.line.send({ kind: "show", turn: turn.id });
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
    const wanted = about.ready && !busy && !this.lost ? this.model.get("suggestions") : [];
    const offered = Array.isArray(wanted) ? wanted.map(String) : [];
    // After a click the keyboard goes on in the box, wherever the button went.
    for (const [part, goes] of [
      [this.send, busy], [this.stop, !busy], [this.undo, nothing], [this.chips, offered.length === 0],
    ] as const) if (goes) handOver(part, this.box);
    this.send.hidden = busy;
    this.stop.hidden = !busy;
    this.send.disabled = this.lost || !about.ready;
    this.stop.disabled = this.lost;
    this.undo.disabled = nothing;
    this.undo.title = undoes === "" ? "Nothing to undo" : `Undo ${undoes}`;
    this.chips.hidden = offered.length === 0;
    const there = Array.from(this.chips.children, (chip) => chip.textContent ?? "");
    if (offered.join("\n") === there.join("\n")) return;
    const chip = (text: string) => button(text, () => this.ask(text), { class: "em-button em-chip" });
    fill(this.chips, ...offered.map(chip));
  }

  private tick(): void {
    if (this.live !== null) this.drawLive();
  }
}

const FAULTS = new Map<Link, string>([["gone", GONE], ["cut", CUT]]);
const TRAITS = ["turns", "about", "suggestions", "undo_label", "fault"] as const;

function drawTurn(turn: Turn, show: (() => void) | null): HTMLElement {
  return el(
    "article",
    { class: `em-turn em-${turn.state === "done" ? "done" : turn.state}` },
    el("p", { class: "em-question" }, turn.question),
    turn.text === "" ? null : el("p", { class: "em-text" }, turn.text),
    turn.state === "done" ? null : drawEnd(turn),
    turn.stale ? el("p", { class: "em-stale" }, "About another pair than the one chosen now.")
      : null,
    drawFeatures(turn, show),
    drawEvidence(turn),
    turn.notice === "" ? null
      : el("p", { class: "em-notice", role: "note" }, turn.notice),
  );
}

function drawEnd(turn: Turn): HTMLElement {
  const word = turn.state === "failed" ? "Failed" : "Stopped";
  return el("p", { class: `em-end em-end-${turn.state}` }, el("strong", {}, word),
    turn.message === "" ? null : `: ${turn.message}`);
}

function drawFeatures(turn: Turn, show: (() => void) | null): HTMLElement | null {
  if (turn.features.length === 0) return null;
  const items = turn.features.map((row) =>
    el("li", {}, el("strong", {}, row.label),
      ` · ${row.count} ${row.count === 1 ? "feature" : "features"} · mapped area ${row.area} · ` +
      row.source));
  return el("div", { class: "em-features" }, el("ul", {}, ...items),
    show === null ? null
      : button("Show on map", show, { class: "em-button em-quiet" }));
}

function drawEvidence(turn: Turn): HTMLElement | null {
  if (turn.evidence.length === 0) return null;
  const items = turn.evidence.map((claim) => {
    const known = VERDICTS.has(claim.verdict) ? claim.verdict : "uncheckable";
    return el("li", { class: `em-claim em-${known}` },
      el("span", { class: "em-sign", "aria-hidden": "true" }, VERDICTS.get(known) ?? "?"),
      el("span", {}, el("span", { class: "em-verdict" }, known), ` ${claim.sentence}`));
  });
  const counts = [...VERDICTS.keys()].flatMap((verdict) => {
    const found = turn.evidence.filter((claim) => claim.verdict === verdict).length;
    return found === 0 ? [] : [`${VERDICTS.get(verdict)} ${found} ${verdict}`];
  });
  return el("details", { class: "em-evidence", open: true },
    el("summary", {}, `Evidence: ${counts.join(", ")}`), el("ul", {}, ...items));
}

export default {
  render({ model, el: root }: { model: Model; el: HTMLElement }): () => void {
    const chat = new Chat(model, root);
    return () => chat.close();
  },
};

// One turn of the talk: question, answer, and what can be done with it. A turn is drawn anew only
// when its row has changed, so that what is in use stays.

import type { Drafts } from "./drafts";
import { button, el, focusIn, type Child } from "./text";

export type Sensor = "sar" | "optical";

export interface Turn {
  id: string;
  question: string;
  state: "done" | "stopped" | "failed";
  text: string;
  notice: string;
  message: string;
  stale: boolean;
  features: { label: string; count: number; area: string; source: string }[];
  evidence: { verdict: string; kind: string; sentence: string }[];
  /** Words for each region that it was about. */
  regions: string[];
  /** Options that differ from the usual ones. */
  how: string;
  again: boolean;
  /** Sensors that can be taken away. */
  without: Sensor[];
  copies: boolean;
  /** Place among the branches, from 1, and how many there are. */
  at: number;
  of: number;
  /** Ids of the branches beside it; empty = none. */
  before: string;
  after: string;
  compared: { title: string; sentences: string[]; head: string[]; rows: string[][] } | null;
}

/** What a click on a turn does. */
export interface Acts {
  /** Null where there is no map. */
  readonly show: ((turn: string) => void) | null;
  /** Whether it was sent: while something runs, nothing is. */
  again(turn: string, text: string | null, without: Sensor | null): boolean;
  branch(turn: string): void;
  copy(turn: string): void;
  /** The code box of a turn is closed. */
  shut(): void;
  /** A turn must be drawn anew. */
  redraw(): void;
}

const VERDICTS = new Map([
  ["supported", "✓"],
  ["contradicted", "✗"],
  ["uncheckable", "?"],
]);
const WITHOUT: Readonly<Record<Sensor, string>> = { sar: "Without SAR", optical: "Without optical" };

/** The element of a turn.
 *
 * `code` is the turn as Python where somebody wants to see it.
 */
export function drawTurn(turn: Turn, acts: Acts, drafts: Drafts, code: string | null): HTMLElement {
  return el(
    "article",
    { class: `em-turn em-${turn.state === "done" ? "done" : turn.state}` },
    drafts.edit(turn.id) === null ? el("p", { class: "em-question" }, turn.question)
      : drawEdit(turn, acts, drafts),
    drawAsked(turn),
    drawTools(turn, acts, drafts),
    code === null ? null : drawCode(code, acts),
    turn.text === "" ? null : el("p", { class: "em-text" }, turn.text),
    turn.state === "done" ? null : drawEnd(turn),
    turn.stale ? el("p", { class: "em-stale" }, "About another pair than the one chosen now.")
      : null,
    drawFeatures(turn, acts.show),
    drawCompared(turn),
    drawEvidence(turn),
    turn.notice === "" ? null
      : el("p", { class: "em-notice", role: "note" }, turn.notice),
  );
}

/** Regions and options of a question. */
function drawAsked(turn: Turn): HTMLElement | null {
  const about = turn.regions.length === 0 ? [] : [`about ${turn.regions.join(", ")}`];
  const words = [...about, ...(turn.how === "" ? [] : [turn.how])].join(" · ");
  return words === "" ? null : el("p", { class: "em-asked" }, words);
}

function drawTools(turn: Turn, acts: Acts, drafts: Drafts): HTMLElement | null {
  const tool = (name: string, act: () => void, more: Record<string, string> = {}): HTMLElement =>
    button(name, act, { class: "em-button em-quiet em-tool", "data-tool": name, ...more });
  const edit = (): void => {
    drafts.keepEdit(turn.id, turn.question);
    acts.redraw();
  };
  const tools: Child[] = [];
  if (turn.of > 1) tools.push(drawBranches(turn, acts, tool));
  if (turn.again && drafts.edit(turn.id) === null) {
    const asks = { class: "em-button em-quiet em-tool em-asks" };
    tools.push(tool("Edit", edit), tool("Ask again", () => acts.again(turn.id, null, null), asks));
    for (const sensor of turn.without) {
      tools.push(tool(WITHOUT[sensor], () => acts.again(turn.id, null, sensor), asks));
    }
  }
  if (turn.copies) tools.push(tool("Copy as Python", () => acts.copy(turn.id)));
  if (tools.length === 0) return null;
  const name = `What to do with “${turn.question}”`;
  return el("div", { class: "em-tools", role: "group", "aria-label": name }, ...tools);
}

function drawBranches(
  turn: Turn, acts: Acts,
  tool: (name: string, act: () => void, more: Record<string, string>) => HTMLElement,
): HTMLElement {
  const step = (sign: string, name: string, goes: string): HTMLElement =>
    tool(sign, () => acts.branch(goes), { "aria-label": name, ...(goes === "" ? { disabled: "" } : {}) });
  return el("span", { class: "em-branches" },
    step("‹", "Earlier version", turn.before),
    el("span", { class: "em-place", "aria-label": `Version ${turn.at} of ${turn.of}`, role: "img" },
      `${turn.at}/${turn.of}`),
    step("›", "Later version", turn.after));
}

function drawEdit(turn: Turn, acts: Acts, drafts: Drafts): HTMLElement {
  // Its tool is that of the button which it stands for: the focus goes from one to the other.
  const own = { "data-tool": "Edit" };
  const box = el("textarea",
    { class: "em-box em-edit", rows: "2", "aria-label": "Edit the question", ...own });
  box.value = drafts.edit(turn.id) ?? turn.question;
  box.setSelectionRange(box.value.length, box.value.length);
  const leave = (): void => {
    drafts.keepEdit(turn.id, null);
    acts.redraw();
  };
  const ask = (): void => {
    const text = box.value.trim();
    if (text !== "" && acts.again(turn.id, text, null)) leave();
  };
  box.addEventListener("input", () => drafts.keepEdit(turn.id, box.value));
  box.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Escape") leave();
    else if (event.key === "Enter" && !event.shiftKey) ask();
    else return;
    event.preventDefault();
    event.stopPropagation(); // Escape is a command of the notebook, too
  });
  return el("div", { class: "em-editing" }, box,
    el("div", { class: "em-tools" },
      button("Ask", ask, { class: "em-button em-tool em-asks", ...own }),
      button("Cancel", leave, { class: "em-button em-quiet em-tool", ...own })));
}

function drawCode(code: string, acts: Acts): HTMLElement {
  const rows = String(Math.min(12, code.split("\n").length));
  const box = el("textarea", { class: "em-box em-code", readonly: true, rows, spellcheck: "false",
    "aria-label": "This answer as Python", "data-tool": "Copy as Python" });
  box.value = code;
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    acts.shut();
  });
  return el("div", { class: "em-editing" }, box,
    el("div", { class: "em-tools" },
      button("Close", () => acts.shut(),
        { class: "em-button em-quiet em-tool", "data-tool": "Copy as Python" })));
}

function drawEnd(turn: Turn): HTMLElement {
  const word = turn.state === "failed" ? "Failed" : "Stopped";
  return el("p", { class: `em-end em-end-${turn.state}` }, el("strong", {}, word),
    turn.message === "" ? null : `: ${turn.message}`);
}

function drawFeatures(turn: Turn, show: ((turn: string) => void) | null): HTMLElement | null {
  if (turn.features.length === 0) return null;
  const items = turn.features.map((row) =>
    el("li", {}, el("strong", {}, row.label),
      ` · ${row.count} ${row.count === 1 ? "feature" : "features"} · mapped area ${row.area} · ` +
      row.source));
  return el("div", { class: "em-features" }, el("ul", {}, ...items),
    show === null ? null
      : button("Show on map", () => show(turn.id), { class: "em-button em-quiet" }));
}

function drawCompared(turn: Turn): HTMLElement | null {
  const found = turn.compared;
  if (found === null) return null;
  const items = found.sentences.map((sentence) => el("li", {}, sentence));
  const table = found.rows.length === 0 ? null
    : el("table", { class: "em-sides" },
      el("thead", {}, el("tr", {}, ...found.head.map((cell) => el("th", { scope: "col" }, cell)))),
      el("tbody", {}, ...found.rows.map(([label, ...cells]) =>
        el("tr", {}, el("th", { scope: "row" }, label ?? ""),
          ...cells.map((cell) => el("td", {}, cell))))));
  return el("section", { class: "em-compared", "aria-label": found.title },
    el("h4", { class: "em-compared-title" }, found.title), table, el("ul", {}, ...items));
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
  // Beside a comparison, which is what was asked for, it waits folded.
  return el("details", { class: "em-evidence", open: turn.compared === null },
    el("summary", {}, `Evidence: ${counts.join(", ")}`), el("ul", {}, ...items));
}

/** Where the focus was in a talk that is about to be drawn anew, so that it can go on from there. */
export class Place {
  private readonly at: number;
  private readonly tool: string;

  constructor(private readonly log: HTMLElement) {
    const active = document.activeElement;
    this.at = Array.from(log.children).findIndex((node) => node.contains(active));
    this.tool = active instanceof HTMLElement ? (active.dataset["tool"] ?? "") : "";
  }

  /** Give the focus back where the part that had it is gone: to what is in its place, else to `box`. */
  restore(box: HTMLElement): void {
    if (this.at < 0 || this.log.contains(document.activeElement)) return;
    const node = this.log.children[this.at];
    const same = node?.querySelector<HTMLElement>(`[data-tool="${this.tool}"]:not(:disabled)`);
    if (node !== undefined && same) same.focus();
    else if (node === undefined || !focusIn(node, ".em-edit, .em-code, .em-tool:not(:disabled)")) box.focus();
  }
}

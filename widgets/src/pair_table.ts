// The table of ranked pairs: made once per search, then told what has changed.

import type { Pick } from "./protocol";
import { arrange, button, el, fill, swap } from "./text";

interface Scene {
  id: string;
  modality: string;
  sensor: string;
  observed: string;
  orbit: string;
  incidence: string;
  level: string;
  baseline: string;
  cloud: string;
  coverage: string;
}

export interface Pair {
  rank: number;
  score: string;
  scenes: readonly Scene[];
  gap: string;
  clear: string;
  cloud: string;
  overlap: string;
  cost: string;
  refused: string;
  factors: readonly { name: string; meaning: string; value: string }[];
  reasons: readonly string[];
  sort: Readonly<Record<string, number | null>>;
}

export interface Choice {
  id: string;
  how: string;
  words: string;
}

/** What can change while the pairs stay. */
export interface Now {
  subject: string;
  chosen: unknown;
  /** Rank of the earlier pair that the chosen one is compared with. */
  before: unknown;
  busy: string;
  loaded: boolean;
  lost: boolean;
  choices: readonly Choice[];
  looks: Readonly<Record<string, unknown>>;
}

interface Acts {
  choose(rank: number): void;
  /** Null = with none any more. */
  compare(rank: number | null): void;
  pick(scene: string, how: Pick): void;
}

interface Row {
  readonly pair: Pair;
  readonly nodes: readonly HTMLElement[];
  update(now: Now): void;
}

type Cell = (pair: Pair) => readonly HTMLElement[] | string;

const facts = (name: "orbit" | "incidence" | "level" | "baseline"): Cell => (pair) =>
  pair.scenes.map((scene) => el("div", { class: "em-fact" }, scene[name]));
/** Name, what it is sorted by, what it shows; the first three columns are more than words. */
const COLUMNS: readonly (readonly [string, string, Cell | null])[] = [
  ["Choice", "", null],
  ["Score", "score", null],
  ["Scenes", "", null],
  ["Gap", "gap", (pair) => pair.gap],
  ["Clear", "clear", (pair) => pair.clear],
  ["Cloud", "cloud", (pair) => pair.cloud],
  ["Coverage", "overlap", (pair) => pair.overlap],
  ["Orbit", "", facts("orbit")],
  ["Incidence", "", facts("incidence")],
  ["Level", "", facts("level")],
  ["Baseline", "", facts("baseline")],
  ["Cost before loading", "cost", (pair) => pair.cost],
];
const DATA_JPEG = "data:image/jpeg;base64,";

export class Table {
  private pairs: readonly Pair[] | null = null;
  private subject = "";
  private rows: readonly Row[] = [];
  private sorted = "score";
  private readonly open = new Set<string>();
  private readonly body = el("tbody");
  private readonly caption = el("caption", { class: "em-caption" });
  private readonly heads = new Map<string, HTMLElement>();
  private readonly table = el("table", { class: "em-table" }, this.caption,
    el("thead", {}, el("tr", {}, ...COLUMNS.map(([name, key]) => this.head(name, key)))), this.body);

  /** Takes the focus where the row that had it goes. */
  readonly root = el("div", { class: "em-scroll", tabindex: "-1", role: "group",
    "aria-label": "Ranked pairs" }, this.table);

  constructor(private readonly acts: Acts) {}

  /** The pairs of a search; while the next one runs, those before it stay in sight. */
  draw(pairs: readonly Pair[], now: Now): void {
    const waits = pairs.length === 0 && now.busy === "search" && now.subject === this.subject;
    this.table.setAttribute("aria-busy", String(waits));
    if (pairs !== this.pairs && !waits) {
      [this.pairs, this.subject] = [pairs, now.subject];
      const held = this.root.contains(document.activeElement) ? document.activeElement : null;
      this.rows = pairs.map((pair) => this.row(pair));
      this.arrange();
      this.refocus(held);
    }
    this.root.hidden = this.rows.length === 0;
    for (const row of this.rows) row.update(now);
  }

  private head(name: string, key: string): HTMLElement {
    if (key === "") return el("th", { scope: "col" }, name);
    const sort = button(name, () => {
      this.sorted = key;
      this.arrange();
    }, { class: "em-sort", title: `Sort by ${name.toLowerCase()}, best first` });
    const made = el("th", { scope: "col" }, sort);
    this.heads.set(key, made);
    return made;
  }

  private arrange(): void {
    for (const [key, head] of this.heads) {
      head.setAttribute("aria-sort", key === this.sorted ? "ascending" : "none");
    }
    const value = (row: Row): number => row.pair.sort[this.sorted] ?? Infinity;
    const order = [...this.rows].sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      return (a === b ? 0 : a - b) || one.pair.rank - other.pair.rank;
    });
    arrange(this.body, order.flatMap((row) => row.nodes));
    const by = COLUMNS.find(([, key]) => key === this.sorted)?.[0].toLowerCase() ?? "";
    const count = `${this.rows.length} ${this.rows.length === 1 ? "pair" : "pairs"}`;
    this.caption.textContent = `${count}, best ${by === "score" ? "" : `${by} `}first`;
  }

  /** The same button of the new rows, else the table itself. */
  private refocus(held: Element | null): void {
    if (held === null || this.root.contains(document.activeElement)) return;
    const key = held.getAttribute("data-key");
    const same = Array.from(this.root.querySelectorAll<HTMLElement>("[data-key]"))
      .find((each) => each.getAttribute("data-key") === key);
    (same ?? this.root).focus();
  }

  private row(pair: Pair): Row {
    const name = `pair ${pair.rank + 1}`;
    const ids = pair.scenes.map((scene) => scene.id).join("\n");
    const more = el("tr", { class: "em-more" },
      el("td", { colspan: String(COLUMNS.length) }, why(pair)));
    const reasons = button("", () => {
      if (!this.open.delete(ids)) this.open.add(ids);
      turn();
    }, { class: "em-button em-quiet em-why", "data-key": `why ${ids}` });
    const turn = (): void => {
      const open = this.open.has(ids);
      more.hidden = !open;
      reasons.setAttribute("aria-expanded", String(open));
      reasons.setAttribute("aria-label", `Factors and reasons of ${name}`);
      reasons.textContent = open ? "▾" : "▸";
    };
    turn();
    const choose = button("Choose", () => this.acts.choose(pair.rank), { "data-key": `choose ${ids}` });
    // Takes the focus where the button goes, and can't be pressed.
    const mark = el("span", { class: "em-mark", tabindex: "-1", hidden: true });
    const against = this.comparing(pair, ids);
    const scenes = pair.scenes.map((scene) => this.scene(scene));
    const row = el("tr", { class: "em-pair" },
      el("td", { class: "em-choice" }, choose, mark, reasons, against.node),
      el("td", { class: "em-score" }, pair.score),
      el("td", { class: "em-scenes" }, ...scenes.map((each) => each.node)),
      ...COLUMNS.slice(3).map(([, , cell]) => {
        const made = cell?.(pair) ?? "";
        return el("td", {}, ...(typeof made === "string" ? [made] : made));
      }));
    const update = (now: Now): void => {
      const chosen = now.chosen === pair.rank;
      row.classList.toggle("em-chosen", chosen);
      if (chosen) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
      choose.disabled = now.lost || now.busy !== "" || pair.refused !== "";
      const loading = chosen && now.busy === "load";
      if (loading || (chosen && now.loaded)) {
        mark.textContent = loading ? "loading…" : "✓ chosen";
        swap(mark, choose);
      } else swap(choose, mark);
      choose.textContent = chosen ? "Load" : "Choose";
      choose.setAttribute("aria-label", `${choose.textContent} ${name}`);
      for (const each of [against, ...scenes]) each.update(now);
    };
    return { pair, nodes: [row, more], update };
  }

  /** A button that compares the chosen pair with this one, and ends that again. */
  private comparing(pair: Pair, ids: string) {
    let [pressed, rests] = [false, false];
    const node = button("", () => {
      if (!rests) this.acts.compare(pressed ? null : pair.rank);
    }, { class: "em-button em-quiet em-small em-against", "data-key": `against ${ids}` });
    const update = (now: Now): void => {
      pressed = now.before === pair.rank;
      rests = now.lost || now.busy !== "" || (!pressed && pair.refused !== "");
      node.hidden = now.chosen === pair.rank || typeof now.chosen !== "number";
      node.textContent = pressed ? "✓ Before" : "Compare with this";
      node.setAttribute("aria-label", `${pressed ? "Before" : "Compare with this"}: pair ${pair.rank + 1}`);
      node.setAttribute("aria-pressed", String(pressed));
      node.setAttribute("aria-disabled", String(rests)); // not disabled: it would lose the focus
    };
    return { node, update };
  }

  private scene(scene: Scene): { node: HTMLElement; update(now: Now): void } {
    const look = el("img", { class: "em-look", alt: `Quick-look of ${scene.sensor}, ${scene.observed}` });
    const pin = this.picking("Pin", scene.id, "pin");
    const exclude = this.picking("Exclude", scene.id, "exclude");
    const node = el("div", { class: "em-scene", title: scene.id }, look,
      el("div", {}, el("strong", {}, scene.sensor), ` ${scene.observed}`,
        el("div", { class: "em-picks" }, pin.node, exclude.node)));
    const update = (now: Now): void => {
      const url = now.looks[scene.id];
      // Nothing but a JPEG inside its own address: no look-up elsewhere.
      const shown = typeof url === "string" && url.startsWith(DATA_JPEG);
      look.hidden = !shown;
      if (shown && look.getAttribute("src") !== url) look.setAttribute("src", url);
      pin.update(now);
      exclude.update(now);
    };
    return { node, update };
  }

  /** A button that pins or excludes, and takes that back. */
  private picking(words: string, scene: string, how: Pick) {
    let [pressed, rests] = [false, false];
    const node = button(words, () => {
      if (!rests) this.acts.pick(scene, pressed ? "free" : how);
    }, { class: "em-button em-quiet em-small", "data-key": `${how} ${scene}`,
      "aria-label": `${words} ${scene}` });
    const update = (now: Now): void => {
      pressed = now.choices.some((choice) => choice.id === scene && choice.how === how);
      rests = now.lost || now.busy !== "";
      node.setAttribute("aria-pressed", String(pressed));
      // Not disabled: it would lose the focus.
      node.setAttribute("aria-disabled", String(rests));
      node.textContent = pressed ? `✓ ${words}` : words;
    };
    return { node, update };
  }
}

function why(pair: Pair): HTMLElement {
  const factors = pair.factors.map((factor) =>
    el("li", {}, el("strong", {}, factor.name), ` ${factor.value}, ${factor.meaning}`));
  return el("div", { class: "em-why-text" },
    pair.refused === "" ? null
      : el("p", { class: "em-fault" }, `It can't be loaded. ${pair.refused}`),
    el("p", {}, `Score = 100 × ${formula(pair)}:`), el("ul", { class: "em-factors" }, ...factors),
    el("ul", {}, ...pair.reasons.map((reason) => el("li", {}, reason))),
    ...pair.scenes.map((scene) => el("p", { class: "em-ids" },
      `${scene.id}: covers ${scene.coverage} of the area, cloud in the whole scene ${scene.cloud}`)));
}

function formula(pair: Pair): string {
  const near = pair.factors.some((factor) => factor.name === "A");
  return near ? "V × T × Q × A" : "V × T × Q";
}

/** What the user decided in place of the ranking, each with a button that takes it back. */
export function drawChoices(
  root: HTMLElement, choices: readonly Choice[], rests: boolean, free: (scene: string) => void,
): void {
  const key = JSON.stringify([choices, rests]);
  if (root.getAttribute("data-drawn") === key) return;
  root.setAttribute("data-drawn", key);
  const held = root.contains(document.activeElement);
  fill(root, ...choices.map((choice) => {
    const back = button("Take back", () => {
      if (root.getAttribute("data-rests") !== "true") free(choice.id);
    }, { class: "em-button em-quiet em-small", "aria-label": `Take back: ${choice.words} ${choice.id}`,
      "aria-disabled": String(rests) });
    return el("li", {}, `${choice.words}: `, el("span", { class: "em-ids" }, choice.id), " ", back);
  }));
  root.setAttribute("data-rests", String(rests));
  root.hidden = choices.length === 0;
  if (held) (root.querySelector("button") ?? root.parentElement)?.focus();
}

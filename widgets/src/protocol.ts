// What the kernel and the browser say to each other; earthmind_lab/widgets/protocol.py is the
// other side. Both read tests/golden/protocol, one message per file.

export type State = "done" | "stopped" | "failed";

export type FromKernel =
  | { kind: "started"; ask: string; question: string }
  /** `from` counts the Unicode characters (not UTF-16 units) before `text`. */
  | { kind: "tokens"; ask: string; text: string; from: number }
  | { kind: "status"; ask: string | null; text: string }
  | { kind: "ended"; ask: string; state: State; message: string }
  | {
      kind: "snapshot";
      ask: string | null;
      question: string;
      text: string;
      status: string;
      seconds: number;
    }
  // chat: what can be done with a turn
  | { kind: "code"; turn: string; text: string };

export type FromBrowser =
  | { kind: "hello" }
  | { kind: "ask"; text: string }
  | { kind: "stop" }
  | { kind: "undo" }
  | { kind: "show"; turn: string }
  | { kind: "search"; dates: string | null; max_gap: string | null; max_cloud: number | null }
  | { kind: "choose"; rank: number }
  | { kind: "cancel" }
  // chat: what can be done with a turn
  | { kind: "again"; turn: string; text: string | null; without: "sar" | "optical" | null }
  | { kind: "branch"; turn: string | null }
  | { kind: "unmark"; region: string }
  | { kind: "copy"; turn: string };

type Holds = (value: unknown) => boolean;
type Fields = ReadonlyMap<string, Holds>;

export const LONGEST_TEXT = 20_000;

const long: Holds = (value) => typeof value === "string";
// Counted as Python counts: by Unicode characters.
const text: Holds = (value) =>
  typeof value === "string" && (value.length <= LONGEST_TEXT || characters(value) <= LONGEST_TEXT);
const count: Holds = (value) => Number.isInteger(value) && (value as number) >= 0;
const number: Holds = (value) => typeof value === "number" && Number.isFinite(value);
const state: Holds = (value) => value === "done" || value === "stopped" || value === "failed";
const sensor: Holds = (value) => value === "sar" || value === "optical";
const orNull =
  (holds: Holds): Holds =>
  (value) =>
    value === null || holds(value);

function fields(named: Record<string, Holds>): Fields {
  return new Map(Object.entries(named));
}

// Maps, not objects: "constructor" is a key of every object.
const KERNEL: ReadonlyMap<string, Fields> = new Map([
  ["started", fields({ ask: text, question: long })],
  ["tokens", fields({ ask: text, text: long, from: count })],
  ["status", fields({ ask: orNull(text), text: long })],
  ["ended", fields({ ask: text, state, message: long })],
  [
    "snapshot",
    fields({ ask: orNull(text), question: long, text: long, status: long, seconds: number }),
  ],
  // chat: what can be done with a turn
  ["code", fields({ turn: text, text: long })],
]);

const BROWSER: ReadonlyMap<string, Fields> = new Map([
  ["hello", fields({})],
  ["ask", fields({ text })],
  ["stop", fields({})],
  ["undo", fields({})],
  ["show", fields({ turn: text })],
  ["search", fields({ dates: orNull(text), max_gap: orNull(text), max_cloud: orNull(number) })],
  ["choose", fields({ rank: count })],
  ["cancel", fields({})],
  // chat: what can be done with a turn
  ["again", fields({ turn: text, text: orNull(text), without: orNull(sensor) })],
  ["branch", fields({ turn: orNull(text) })],
  ["unmark", fields({ region: text })],
  ["copy", fields({ turn: text })],
]);

/** A message from the kernel with its known fields only; null where it is none. */
export function fromKernel(content: unknown): FromKernel | null {
  return checked(content, KERNEL) as FromKernel | null;
}

/** The kernel's own check of what the browser sends, for tests. */
export function fromBrowser(content: unknown): FromBrowser | null {
  return checked(content, BROWSER) as FromBrowser | null;
}

function checked(content: unknown, known: ReadonlyMap<string, Fields>): object | null {
  if (typeof content !== "object" || content === null || Array.isArray(content)) return null;
  const given = content as Record<string, unknown>;
  const kind = given["kind"];
  const wanted = typeof kind === "string" ? known.get(kind) : undefined;
  if (wanted === undefined) return null;
  const found: Record<string, unknown> = { kind };
  for (const [name, holds] of wanted) {
    if (!Object.hasOwn(given, name) || !holds(given[name])) return null;
    found[name] = given[name];
  }
  return found;
}

/** Length in Unicode characters, as Python counts it. */
export function characters(value: string): number {
  let found = 0;
  for (const _ of value) found += 1;
  return found;
}

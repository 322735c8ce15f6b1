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
  | { kind: "code"; turn: string; text: string }
  // areas
  | { kind: "received"; upload: string; size: number }
  | { kind: "settled"; upload: string }
  // Pairs; `stall` is empty where every server answers.
  | { kind: "progress"; text: string; stall: string }
  // keep; the bytes of a part are its message's only buffer
  | { kind: "file"; file: string; name: string; media: string; size: number }
  | { kind: "part"; file: string; at: number }
  | { kind: "refused"; file: string }
  | { kind: "citation"; turn: string; text: string };

/** What a search asks for; null = as the place, or the settings, have it. */
export interface Terms {
  dates: string | null;
  around: string | null;
  max_gap: string | null;
  max_cloud: number | null;
  purpose: string | null;
  sensors: string | null;
  catalog: string | null;
}

/** Files that a keep panel offers. */
export const FILES = [
  "geojson", "gpkg", "parquet", "mask", "probability", "stac", "record", "points", "report",
  "notebook",
] as const;
export type FileKind = (typeof FILES)[number];

/** What a file of the user's own is. */
export type Role = (typeof ROLES)[number];
export const ROLES = ["optical", "sar", "both", "picture"] as const;

/** What is said of such files, as it was typed; empty = nothing. */
export type Declared = Record<(typeof DECLARED)[number], string>;
export const DECLARED = [
  "bands", "optical_scale", "optical_offset", "optical_level", "sar_quantity", "sar_scale",
  "nodata", "datetime", "gsd",
] as const;

export type Pick = "pin" | "exclude" | "free";

export type FromBrowser =
  | { kind: "hello" }
  | { kind: "ask"; text: string }
  | { kind: "stop" }
  | { kind: "undo" }
  | { kind: "show"; turn: string }
  // Pairs and timeline
  | ({ kind: "search" } & Terms)
  | { kind: "choose"; rank: number }
  | { kind: "dates"; rank: number | null }
  // chat: what can be done with a turn
  | { kind: "again"; turn: string; text: string | null; without: "sar" | "optical" | null }
  | { kind: "branch"; turn: string | null }
  | { kind: "copy"; turn: string }
  | { kind: "pick"; scene: string; how: Pick }
  | { kind: "looks"; on: boolean }
  | { kind: "cancel" }
  // areas
  | { kind: "select"; name: string }
  | { kind: "delete"; name: string }
  | { kind: "rename"; name: string; new: string }
  | { kind: "restore"; name: string; version: number }
  | { kind: "place"; place: string }
  | {
      kind: "box"; west: number; south: number; east: number; north: number; replace: boolean;
    }
  | { kind: "square"; lat: number; lon: number; km: number; replace: boolean }
  | { kind: "view"; replace: boolean }
  | { kind: "paste"; text: string; replace: boolean }
  | { kind: "mode"; mode: "area" | "region" }
  | { kind: "unmark"; region: string }
  | { kind: "upload"; upload: string; name: string; size: number }
  /** Its bytes are the message's only buffer. */
  | { kind: "piece"; upload: string; at: number }
  | { kind: "drop"; upload: string }
  | { kind: "layer"; upload: string; layer: string }
  | { kind: "take"; upload: string; features: number[] }
  // layers
  | { kind: "raster"; sensor: string; visible: boolean; opacity: number; composite: string | null }
  | { kind: "compare"; how: "" | "swipe" | "blink" }
  | { kind: "switch"; turn: string; visible: boolean; probability: boolean; weights: boolean }
  | { kind: "object"; turn: string | null; number: number }
  | { kind: "cut"; turn: string; probability: number }
  | { kind: "fit" }
  | { kind: "remove"; turn: string }
  | { kind: "tiles"; on: boolean }
  | { kind: "reload" }
  | { kind: "squares" }
  // values
  | { kind: "probe"; mode: "" | "values" | "line" }
  | { kind: "locate"; text: string }
  | { kind: "along"; text: string }
  | { kind: "clear" }
  // keep
  | { kind: "keep"; file: string; turn: string; what: FileKind; points: number }
  | { kind: "more"; file: string; at: number }
  | { kind: "leave"; file: string }
  | { kind: "cite"; turn: string }
  | { kind: "verify"; turn: string }
  // own files
  | { kind: "role"; upload: string; role: "" | Role }
  | ({ kind: "open"; inside: boolean } & Declared)
  | { kind: "mask"; turn: string | null };

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
const flag: Holds = (value) => typeof value === "boolean";
const counts: Holds = (value) =>
  Array.isArray(value) && value.length <= 1000 && value.every(count);
const mode: Holds = (value) => value === "area" || value === "region";
const pick: Holds = (value) => value === "pin" || value === "exclude" || value === "free";
const oneOf =
  (...known: string[]): Holds =>
  (value) =>
    known.includes(value as string);
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
  // areas
  ["received", fields({ upload: text, size: count })],
  ["settled", fields({ upload: text })],
  // Pairs
  ["progress", fields({ text: long, stall: long })],
  // keep
  ["file", fields({ file: text, name: text, media: text, size: count })],
  ["part", fields({ file: text, at: count })],
  ["refused", fields({ file: text })],
  ["citation", fields({ turn: text, text: long })],
]);

const BROWSER: ReadonlyMap<string, Fields> = new Map([
  ["hello", fields({})],
  ["ask", fields({ text })],
  ["stop", fields({})],
  ["undo", fields({})],
  ["show", fields({ turn: text })],
  // Pairs and timeline
  [
    "search",
    fields({
      dates: orNull(text), around: orNull(text), max_gap: orNull(text), max_cloud: orNull(number),
      purpose: orNull(text), sensors: orNull(text), catalog: orNull(text),
    }),
  ],
  ["choose", fields({ rank: count })],
  ["dates", fields({ rank: orNull(count) })],
  ["pick", fields({ scene: text, how: pick })],
  ["looks", fields({ on: flag })],
  ["cancel", fields({})],
  // chat: what can be done with a turn
  ["again", fields({ turn: text, text: orNull(text), without: orNull(sensor) })],
  ["branch", fields({ turn: orNull(text) })],
  ["copy", fields({ turn: text })],
  // areas
  ["select", fields({ name: text })],
  ["delete", fields({ name: text })],
  ["rename", fields({ name: text, new: text })],
  ["restore", fields({ name: text, version: count })],
  ["place", fields({ place: text })],
  ["box", fields({ west: number, south: number, east: number, north: number, replace: flag })],
  ["square", fields({ lat: number, lon: number, km: number, replace: flag })],
  ["view", fields({ replace: flag })],
  ["paste", fields({ text, replace: flag })],
  ["mode", fields({ mode })],
  ["unmark", fields({ region: text })],
  ["upload", fields({ upload: text, name: text, size: count })],
  ["piece", fields({ upload: text, at: count })],
  ["drop", fields({ upload: text })],
  ["layer", fields({ upload: text, layer: text })],
  ["take", fields({ upload: text, features: counts })],
  // layers
  [
    "raster",
    fields({ sensor: oneOf("optical", "sar", "optical_before", "sar_before"), visible: flag,
      opacity: number, composite: orNull(text) }),
  ],
  ["compare", fields({ how: oneOf("", "swipe", "blink") })],
  ["switch", fields({ turn: text, visible: flag, probability: flag, weights: flag })],
  ["object", fields({ turn: orNull(text), number: count })],
  ["cut", fields({ turn: text, probability: number })],
  ["fit", fields({})],
  ["remove", fields({ turn: text })],
  ["tiles", fields({ on: flag })],
  ["reload", fields({})],
  ["squares", fields({})],
  // values
  ["probe", fields({ mode: oneOf("", "values", "line") })],
  ["locate", fields({ text })],
  ["along", fields({ text })],
  ["clear", fields({})],
  // keep
  ["keep", fields({ file: text, turn: text, what: oneOf(...FILES), points: count })],
  ["more", fields({ file: text, at: count })],
  ["leave", fields({ file: text })],
  ["cite", fields({ turn: text })],
  ["verify", fields({ turn: text })],
  // own files
  ["role", fields({ upload: text, role: oneOf("", ...ROLES) })],
  ["open", fields({
    inside: flag, ...Object.fromEntries(DECLARED.map((name) => [name, text])),
  })],
  ["mask", fields({ turn: orNull(text) })],
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

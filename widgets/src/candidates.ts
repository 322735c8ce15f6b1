// The candidates of a search, from the compact rows that the kernel sends once.

export interface Scene {
  readonly number: number;
  readonly id: string;
  /** 0 = optical, 1 = SAR. */
  readonly lane: number;
  /** UTC in ms; null = nothing tells. */
  readonly start: number | null;
  readonly end: number | null;
  /** Per cent; null = unknown, or SAR. */
  readonly cloud: number | null;
  readonly words: string;
  /** Ranks of its pairs, best first. */
  readonly ranks: number[];
  /** Its candidates that are no pairs. */
  readonly rejected: Rejected[];
}

export interface Rejected {
  readonly scenes: readonly (Scene | null)[];
  readonly reason: string;
}

export interface Candidates {
  readonly first: number | null;
  readonly last: number | null;
  readonly scenes: readonly Scene[];
  /** By rank. */
  readonly pairs: readonly (readonly (Scene | null)[])[];
  readonly rejected: readonly Rejected[];
}

const DAY = 86_400_000;

export function read(given: unknown): Candidates {
  const data = (typeof given === "object" && given !== null ? given : {}) as Record<string, unknown>;
  const scenes = list(data["scenes"]).map((row, number): Scene => ({
    number, id: String(row[0] ?? ""), lane: row[1] === 1 ? 1 : 0, start: time(row[2]),
    end: time(row[3]), cloud: time(row[4]), words: String(row[5] ?? ""), ranks: [], rejected: [],
  }));
  const both = (row: readonly unknown[]) =>
    [row[0], row[1]].map((number) => (typeof number === "number" ? scenes[number] ?? null : null));
  const pairs = list(data["pairs"]).map(both);
  pairs.forEach((pair, rank) => pair.forEach((scene) => scene?.ranks.push(rank)));
  const reasons = Array.isArray(data["reasons"]) ? data["reasons"].map(String) : [];
  const rejected = list(data["rejected"]).map((row): Rejected => ({
    scenes: both(row), reason: reasons[Number(row[2])] ?? "",
  }));
  for (const each of rejected) for (const scene of each.scenes) scene?.rejected.push(each);
  const last = day(data["last"]);
  return { first: day(data["first"]), last: last === null ? null : last + DAY, scenes, pairs, rejected };
}

/** The middle of when it may have been. */
export function middle(scene: Scene): number | null {
  return scene.start === null || scene.end === null ? null : (scene.start + scene.end) / 2;
}

/** What became of a scene: its best pair, else the reason of its candidate that is nearest in time. */
export function fate(scene: Scene, chosen: number | null): string {
  const best = scene.ranks[0];
  if (best === undefined) return nearest(scene)[0]?.reason ?? "";
  const count = scene.ranks.length;
  const where = count === 1 ? `pair ${best + 1}` : `in ${count} pairs, best is pair ${best + 1}`;
  const mine = chosen !== null && scene.ranks.includes(chosen);
  return mine ? `${where}; pair ${chosen + 1} is chosen` : where;
}

/** Rejected candidates of a scene, the nearest in time first. */
export function nearest(scene: Scene): readonly Rejected[] {
  const off = (each: Rejected): number => {
    const other = partner(each.scenes, scene);
    const [a, b] = [middle(scene), other === null ? null : middle(other)];
    return a === null || b === null ? Infinity : Math.abs(a - b);
  };
  return scene.rejected.map((each) => [off(each), each] as const)
    .sort(([a], [b]) => (a === b ? 0 : a - b)).map(([, each]) => each);
}

export function partner(pair: readonly (Scene | null)[], scene: Scene): Scene | null {
  return pair.find((each) => each !== null && each !== scene) ?? null;
}

function list(value: unknown): readonly (readonly unknown[])[] {
  return Array.isArray(value) ? value.filter((row) => Array.isArray(row)) : [];
}

function time(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

function day(value: unknown): number | null {
  const found = typeof value === "string" ? Date.parse(`${value}T00:00:00Z`) : Number.NaN;
  return Number.isNaN(found) ? null : found;
}

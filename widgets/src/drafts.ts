// What a person wrote and did not send. A view that closes and opens again, as a notebook does with
// what is out of sight, has it still.

/** Panels whose drafts are kept: those of the oldest go, as nobody tells that a panel has ended. */
const MOST_PANELS = 20;
/** Areas and turns with a draft, of one panel. */
const MOST_EACH = 50;

/** Of one panel: the box by area, and the questions that are being edited by turn. */
export class Drafts {
  private readonly boxes = new Map<string, string>();
  private readonly edits = new Map<string, string>();

  box(area: string): string {
    return this.boxes.get(area) ?? "";
  }

  keepBox(area: string, text: string): void {
    keep(this.boxes, area, text === "" ? null : text, MOST_EACH);
  }

  /** The words of a question that is being edited; null = it isn't. */
  edit(turn: string): string | null {
    return this.edits.get(turn) ?? null;
  }

  keepEdit(turn: string, text: string | null): void {
    keep(this.edits, turn, text, MOST_EACH);
  }
}

const panels = new Map<string, Drafts>();

/** Those of a panel, by its name in the page. */
export function draftsOf(panel: string): Drafts {
  const held = panels.get(panel) ?? new Drafts();
  keep(panels, panel, held, MOST_PANELS);
  return held;
}

/** Set, or with null delete; the newest stay. */
function keep<T>(map: Map<string, T>, key: string, value: T | null, most: number): void {
  map.delete(key);
  if (value !== null) map.set(key, value);
  for (const oldest of map.keys()) {
    if (map.size <= most) break;
    map.delete(oldest);
  }
}

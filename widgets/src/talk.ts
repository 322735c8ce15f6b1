// The answer that is being written, as a value: each message makes the next one. And what a panel
// says beside it.

import { characters, type FromKernel } from "./protocol";

/** What the kernel is at, in words. */
export const DOING: ReadonlyMap<string, string> = new Map([
  ["search", "Searching for pairs…"],
  ["load", "Loading the pair…"],
  ["ask", "Thinking…"],
  ["replay", "Checking that an answer replays…"],
]);

/** The status line: words go when what they were about has begun or ended. */
export class Words {
  text = "";
  private busy = "";
  private asked = false;

  /** The user ends what runs: the reply to that stays. */
  ends(): void {
    this.asked = this.busy !== "";
  }

  /** What runs now; "" = nothing. */
  during(busy: string): void {
    if (busy === this.busy) return;
    if (!this.asked) this.text = "";
    this.asked = false;
    this.busy = busy;
  }
}

export interface Live {
  readonly ask: string;
  readonly question: string;
  readonly text: string;
  /** Unicode characters in `text`. */
  readonly count: number;
  readonly status: string;
  /** Clock time in ms at which the ask began. */
  readonly began: number;
}

export interface Step {
  readonly live: Live | null;
  /** Text is missing: ask the kernel for a snapshot. */
  readonly missed: boolean;
  /** Something for the status line that concerns no ask. */
  readonly said: string | null;
}

/** What is there after a message; `now` in ms. */
export function step(live: Live | null, message: FromKernel, now: number): Step {
  const as = (next: Live | null, missed = false, said: string | null = null): Step => ({
    live: next,
    missed,
    said,
  });
  switch (message.kind) {
    case "started":
      if (live?.ask === message.ask) return as({ ...live, question: message.question });
      return as(begin(message.ask, message.question, "", "", now), false, "");
    case "snapshot":
      if (message.ask === null) return as(null);
      return as(
        begin(message.ask, message.question, message.text, message.status,
          now - 1000 * message.seconds),
      );
    case "tokens": {
      if (live?.ask !== message.ask) return as(live, true);
      if (message.from > live.count) return as(live, true);
      const text = joined(live, message.text, message.from);
      // A batch that was seen before must not shorten what is there.
      if (message.from + characters(message.text) <= live.count) return as(live);
      return as({ ...live, text, count: characters(text), status: "" });
    }
    case "status":
      if (message.ask === null) return as(live, false, message.text);
      return as(live?.ask === message.ask ? { ...live, status: message.text } : live);
    case "progress": // of the pairs
      return as(live);
    case "ended":
      if (live?.ask !== message.ask) return as(live);
      return as(null, false, message.state === "failed" ? message.message : "");
    default: // another panel's
      return as(live);
  }
}

function begin(ask: string, question: string, text: string, status: string, began: number): Live {
  return { ask, question, text, count: characters(text), status, began };
}

function joined(live: Live, text: string, from: number): string {
  if (from === live.count) return live.text + text;
  return Array.from(live.text).slice(0, from).join("") + text;
}

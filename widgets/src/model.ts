// The part of anywidget's model that is used here, and what is the same for every view: whether
// the kernel still listens.

import type { FromBrowser } from "./protocol";

export interface Model {
  get(name: string): unknown;
  send(content: unknown, callbacks?: unknown, buffers?: ArrayBuffer[]): void;
  on(event: string, handler: (...given: never[]) => void): void;
  off(event: string, handler: (...given: never[]) => void): void;
}

/** After this long without any word from the kernel, the user is told. */
export const PATIENCE_MS = 5000;

export const SILENT =
  "The kernel has not answered yet. It may be busy with a cell; if it was restarted, run the " +
  "cell of this panel again. Nothing is lost.";
export const GONE =
  "This panel lost its kernel. Run its cell again: what was done is kept in the session.";

export type Link = "ok" | "silent" | "gone";

/** Whether the kernel answers; one per view. */
export class Line {
  private timer: ReturnType<typeof setTimeout> | null = null;
  private link: Link = "ok";

  constructor(
    private readonly model: Model,
    private readonly changed: (link: Link) => void,
  ) {}

  /** Send, with bytes where they belong to it; from now on an answer is expected. */
  send(message: FromBrowser, ...bytes: ArrayBuffer[]): void {
    try {
      if (bytes.length === 0) this.model.send(message);
      else this.model.send(message, undefined, bytes);
    } catch {
      this.set("gone");
      return;
    }
    this.timer ??= setTimeout(() => this.set(this.link === "gone" ? "gone" : "silent"), PATIENCE_MS);
  }

  /** Something came from the kernel. */
  heard(): void {
    this.rest();
    this.set("ok");
  }

  /** The comm was closed or opened again. */
  live(alive: boolean): void {
    if (!alive) this.rest();
    this.set(alive ? "ok" : "gone");
  }

  rest(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }

  private set(link: Link): void {
    if (link === this.link) return;
    this.link = link;
    this.changed(link);
  }
}

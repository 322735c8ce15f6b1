// A file on its way to the kernel, piece by piece: the next one when the one before was taken.
// Jupyter's connection closes on messages of more than 10 MiB.

import type { FromBrowser, FromKernel } from "./protocol";

export interface Limits {
  formats: readonly string[];
  most: number;
  piece: number;
}

export interface Going {
  id: string;
  name: string;
  size: number;
  received: number;
}

type Send = (message: FromBrowser, ...bytes: ArrayBuffer[]) => void;

export class Uploader {
  /** What is on its way; null = nothing. */
  going: Going | null = null;
  /** Id of what was sent last; empty before. */
  last = "";
  private file: Blob | null = null;

  constructor(
    private readonly send: Send,
    private readonly limits: () => Limits,
    private readonly changed: (problem: string) => void,
  ) {}

  start(file: File): void {
    const { most } = this.limits();
    if (this.going !== null) {
      this.changed(`Wait for ${this.going.name}, or cancel it.`);
    } else if (file.size > most) {
      this.changed(`${file.name} is too large: ${megabytes(file.size)}, at most ` +
        `${megabytes(most)}.`);
    } else {
      const id = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
      this.last = id;
      this.going = { id, name: file.name, size: file.size, received: 0 };
      this.file = file;
      this.send({ kind: "upload", upload: id, name: file.name, size: file.size });
      this.changed("");
    }
  }

  cancel(): void {
    if (this.going !== null) this.send({ kind: "drop", upload: this.going.id });
    this.end();
  }

  /** The kernel is gone: nothing will be taken any more. */
  end(): void {
    this.going = null;
    this.file = null;
    this.changed("");
  }

  hear(message: FromKernel): void {
    const going = this.going;
    if (message.kind === "settled" && message.upload === going?.id) this.end();
    if (message.kind !== "received" || message.upload !== going?.id) return;
    going.received = message.size;
    this.changed("");
    if (message.size < going.size) void this.next(going);
  }

  private async next(going: Going): Promise<void> {
    const at = going.received;
    try {
      const bytes = await this.file?.slice(at, at + this.limits().piece).arrayBuffer();
      // Cancelled meanwhile, or answered twice.
      if (bytes === undefined || this.going !== going || going.received !== at) return;
      this.send({ kind: "piece", upload: going.id, at }, bytes);
    } catch {
      if (this.going !== going) return;
      this.cancel();
      this.changed(`${going.name} can't be read by the browser any more.`);
    }
  }
}

export function megabytes(size: number): string {
  return `${(size / 1e6).toFixed(size < 1e7 ? 1 : 0)} MB`;
}

// A file on its way from the kernel, piece by piece: the next one is asked for when the one before
// has come. It is saved when all of it is there; before that nothing reaches the disk.

import type { FileKind, FromBrowser, FromKernel } from "./protocol";
import { megabytes } from "./upload";

export interface Coming {
  id: string;
  /** As the kernel calls it; empty until the file is made. */
  name: string;
  media: string;
  /** Bytes; 0 until the file is made. */
  size: number;
  received: number;
}

type Send = (message: FromBrowser) => void;

export class Downloader {
  /** What is on its way; null = nothing. */
  coming: Coming | null = null;
  private pieces: ArrayBuffer[] = [];
  private again = (): void => undefined;

  constructor(
    private readonly send: Send,
    /** Draw what is on its way; with words where there is something to say. */
    private readonly changed: (said?: string) => void,
    private readonly save: (file: Blob, name: string) => void = saveFile,
  ) {}

  start(what: FileKind, turn: string, points: number): void {
    if (this.coming !== null) return;
    this.again = () => this.start(what, turn, points);
    const id = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
    this.coming = { id, name: "", media: "", size: 0, received: 0 };
    this.send({ kind: "keep", file: id, turn, what, points });
    this.changed();
  }

  cancel(): void {
    if (this.coming !== null) this.send({ kind: "leave", file: this.coming.id });
    this.end("Cancelled; nothing was saved.");
  }

  /** No more of it will come, or it is no longer wanted. */
  end(said: string): void {
    this.coming = null;
    this.pieces = [];
    this.changed(said);
  }

  /** The connection is back: what was asked for may have been lost on the way. */
  resume(): void {
    const coming = this.coming;
    if (coming === null) return;
    if (coming.size > 0) {
      this.more(coming);
      return;
    }
    // Perhaps it is made, and the kernel's word of it never came.
    this.send({ kind: "leave", file: coming.id });
    this.coming = null;
    this.again();
  }

  hear(message: FromKernel, bytes: readonly DataView[]): void {
    const coming = this.coming;
    if (message.kind === "file" && message.file === coming?.id && coming.size === 0) {
      Object.assign(coming, { name: message.name, media: message.media, size: message.size });
      this.changed(`Fetching ${message.name}, ${sized(message.size)}…`);
      this.more(coming);
    } else if (message.kind === "refused" && message.file === coming?.id) {
      this.end("");
    } else if (message.kind === "part" && message.file === coming?.id) {
      // One that comes twice, after a connection that was lost, counts once.
      if (message.at === coming.received) this.take(coming, bytes);
    }
  }

  private take(coming: Coming, bytes: readonly DataView[]): void {
    const piece = bytes[0];
    const length = piece?.byteLength ?? 0;
    if (piece === undefined || length === 0 || coming.received + length > coming.size) {
      this.send({ kind: "leave", file: coming.id });
      this.end(`${coming.name} came in pieces that don't fit; nothing was saved. Try once more.`);
      return;
    }
    // A copy: the view looks into a message that would be kept with it.
    this.pieces.push(new Uint8Array(piece.buffer, piece.byteOffset, length).slice().buffer);
    coming.received += length;
    if (coming.received < coming.size) {
      this.more(coming);
      this.changed();
      return;
    }
    const file = new Blob(this.pieces, { type: coming.media });
    this.send({ kind: "leave", file: coming.id });
    this.save(file, coming.name);
    this.end(`${coming.name}, ${sized(coming.size)}: handed to the browser to save.`);
  }

  private more(coming: Coming): void {
    this.send({ kind: "more", file: coming.id, at: coming.received });
  }
}

/** Bytes for people: "812 bytes", "12 kB", "1.2 MB". */
export function sized(size: number): string {
  if (size < 1000) return `${size} bytes`;
  return size < 1e5 ? `${Math.round(size / 1000)} kB` : megabytes(size);
}

/** Long enough for a browser to take the bytes over. */
const TAKEN_MS = 60_000;

function saveFile(file: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.hidden = true;
  document.body.append(link); // Firefox clicks nothing that is outside the page
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), TAKEN_MS);
}

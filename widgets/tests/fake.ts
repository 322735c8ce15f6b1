// A model as anywidget hands it to a view, without a kernel.

import type { Model } from "../src/model";

type Slot = (sender: unknown, status: unknown) => void;

/** A kernel as JupyterLab's widget manager shows it. */
export class FakeKernel {
  connectionStatus = "connected";
  private readonly slots = { status: new Set<Slot>(), connection: new Set<Slot>() };
  readonly statusChanged = signal(this.slots.status);
  readonly connectionStatusChanged = signal(this.slots.connection);

  becomes(status: string): void {
    for (const slot of this.slots.status) slot(this, status);
  }

  connection(status: string): void {
    this.connectionStatus = status;
    for (const slot of this.slots.connection) slot(this, status);
  }

  get listeners(): number {
    return this.slots.status.size + this.slots.connection.size;
  }
}

function signal(slots: Set<Slot>) {
  return { connect: (slot: Slot) => slots.add(slot), disconnect: (slot: Slot) => slots.delete(slot) };
}

type Handler = (...given: never[]) => void;

export class FakeModel implements Model {
  readonly sent: unknown[] = [];
  saved = 0;
  private readonly handlers = new Map<string, Set<Handler>>();

  constructor(
    private readonly traits: Record<string, unknown>,
    readonly widget_manager: unknown = {},
  ) {}

  get(name: string): unknown {
    return this.traits[name];
  }

  send(content: unknown): void {
    this.sent.push(content);
  }

  on(event: string, handler: Handler): void {
    const held = this.handlers.get(event) ?? new Set();
    this.handlers.set(event, held.add(handler));
  }

  off(event: string, handler: Handler): void {
    this.handlers.get(event)?.delete(handler);
  }

  set(name: string, value: unknown): void {
    this.traits[name] = value;
    this.fire(`change:${name}`);
  }

  /** A view's own changes are synced by this. */
  save_changes(): void {
    this.saved += 1;
  }

  say(message: unknown, ...bytes: DataView[]): void {
    this.fire("msg:custom", message, bytes);
  }

  fire(event: string, ...given: unknown[]): void {
    for (const handler of this.handlers.get(event) ?? []) handler(...(given as never[]));
  }

  get listeners(): number {
    return [...this.handlers.values()].reduce((sum, held) => sum + held.size, 0);
  }
}

// The part of anywidget's model that is used here, and what is the same for every view: whether
// the kernel still listens.

import { type FromBrowser, type FromKernel, fromKernel } from "./protocol";

export interface Model {
  get(name: string): unknown;
  send(content: unknown, callbacks?: unknown, buffers?: ArrayBuffer[]): void;
  on(event: string, handler: (...given: never[]) => void): void;
  off(event: string, handler: (...given: never[]) => void): void;
  /** The host's; JupyterLab's and Notebook's know the kernel's connection. */
  readonly widget_manager?: unknown;
}

type Slot = (sender: unknown, status: unknown) => void;

interface Signal {
  connect(slot: Slot): unknown;
  disconnect(slot: Slot): unknown;
}

interface Kernel {
  readonly connectionStatus: unknown;
  readonly connectionStatusChanged: Signal;
  readonly statusChanged: Signal;
}

/** After this long without any word from the kernel, the user is told. */
export const PATIENCE_MS = 5000;

export const SILENT =
  "The kernel has not answered yet. It may be busy with a cell; if it was restarted, run the " +
  "cell of this panel again. Nothing is lost.";
export const CUT =
  "The connection to the kernel is lost. The kernel goes on, and this panel follows when the " +
  "connection is back; reload the page if it stays away. Nothing is lost.";
export const GONE =
  "This panel lost its kernel. Run its cell again: what was done is kept in the session.";
/** What a kernel's host says of it when its process has ended. */
const ENDED = new Set<unknown>(["autorestarting", "restarting", "dead"]);

export type Link = "ok" | "silent" | "cut" | "gone";

/** Whether the kernel can be reached and answers; one per view. */
export class Line {
  private timer: ReturnType<typeof setTimeout> | null = null;
  private readonly kernel: Kernel | null;
  private silent = false;
  private cut = false;
  private gone = false;
  private link: Link = "ok";
  private readonly ends: (() => void)[] = [];

  constructor(
    private readonly model: Model,
    private readonly changed: (link: Link) => void,
  ) {
    this.kernel = kernelOf(model);
    this.kernel?.statusChanged.connect(this.status);
    this.kernel?.connectionStatusChanged.connect(this.reach);
    for (const event of NETWORK) window.addEventListener(event, this.reach);
  }

  /** Send, with bytes where they belong to it; from now on an answer is expected. */
  send(message: FromBrowser, ...bytes: ArrayBuffer[]): void {
    try {
      if (bytes.length === 0) this.model.send(message);
      else this.model.send(message, undefined, bytes);
    } catch {
      this.live(false);
      return;
    }
    this.timer ??= setTimeout(() => {
      this.silent = true;
      this.tell();
    }, PATIENCE_MS);
  }

  /** Something came from the kernel. */
  heard(): void {
    this.rest();
    this.silent = false;
    this.tell();
  }

  /** The comm was closed or opened again. */
  live(alive: boolean): void {
    if (!alive) this.rest();
    this.gone = !alive;
    this.tell();
  }

  /**
   * Hear the kernel from now on, until `close`, and say hello to it. `synced` draws what is there,
   * now and after each change of the traits; `hear` gets each message, null where it makes no sense,
   * and its binary parts.
   */
  follow(
    root: HTMLElement,
    traits: readonly string[],
    synced: () => void,
    hear: (message: FromKernel | null, bytes: readonly DataView[]) => void,
  ): void {
    const on = (event: string, heard: (content: unknown, bytes: unknown) => void): void => {
      this.model.on(event, heard);
      this.ends.push(() => this.model.off(event, heard));
    };
    on("msg:custom", (content, bytes) => {
      this.heard();
      hear(fromKernel(content), Array.isArray(bytes) ? bytes : []);
    });
    for (const trait of traits) {
      on(`change:${trait}`, () => {
        this.heard();
        synced();
      });
    }
    on("comm_live_update", () => {
      // The model that a view is given hides its state; the view's own frame shows it.
      this.live(root.closest(".jupyter-widgets-disconnected") === null);
    });
    synced();
    this.send({ kind: "hello" });
  }

  /** Listen no more. */
  close(): void {
    this.rest();
    for (const end of this.ends.splice(0)) end();
    this.kernel?.statusChanged.disconnect(this.status);
    this.kernel?.connectionStatusChanged.disconnect(this.reach);
    for (const event of NETWORK) window.removeEventListener(event, this.reach);
  }

  private rest(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }

  private readonly status = (_: unknown, status: unknown): void => {
    if (ENDED.has(status)) this.live(false);
  };

  private readonly reach = (): void => {
    const was = this.cut;
    this.cut = !navigator.onLine || !(this.kernel === null || connected(this.kernel));
    if (was && !this.cut && !this.gone) this.send({ kind: "hello" }); // what was missed
    this.tell();
  };

  private tell(): void {
    const link = this.gone ? "gone" : this.cut ? "cut" : this.silent ? "silent" : "ok";
    if (link === this.link) return;
    this.link = link;
    this.changed(link);
  }
}

const NETWORK = ["online", "offline"] as const;

function connected(kernel: Kernel): boolean {
  return kernel.connectionStatus === "connected";
}

/** The kernel behind a model, where the host shows it. */
function kernelOf(model: Model): Kernel | null {
  const manager = model.widget_manager as { kernel?: Partial<Kernel> | null } | undefined;
  const { statusChanged, connectionStatusChanged } = manager?.kernel ?? {};
  if (!isSignal(statusChanged) || !isSignal(connectionStatusChanged)) return null;
  return manager?.kernel as Kernel;
}

function isSignal(value: Signal | undefined): value is Signal {
  return typeof value?.connect === "function" && typeof value.disconnect === "function";
}

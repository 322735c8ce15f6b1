// What a user has just set stays set while the kernel still speaks of what was before.

/** After this long the kernel is right: it has refused, or it was told otherwise. */
export const WANTED_MS = 2000;

export class Wanted {
  private key = "";
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** @param again - Show what the kernel said last. */
  constructor(private readonly again: () => void) {}

  /** The user wants this, and the kernel has been told. */
  want(...values: readonly unknown[]): void {
    clearTimeout(this.timer);
    this.key = JSON.stringify(values);
    this.timer = setTimeout(() => {
      this.key = "";
      this.again();
    }, WANTED_MS);
  }

  /** Whether what the kernel says may be shown: nothing else is wanted, or it has come to be. */
  agrees(...values: readonly unknown[]): boolean {
    if (this.key !== "" && this.key !== JSON.stringify(values)) return false;
    clearTimeout(this.timer);
    this.key = "";
    return true;
  }
}

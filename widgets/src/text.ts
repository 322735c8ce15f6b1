// Elements are made here and nowhere else. All text goes in as text: what a model, a catalog or a
// user wrote is never read as HTML.

export type Child = Node | string | null;

/** An element with attributes and children; a string child becomes a text node. */
export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, string | boolean>> = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) throw new Error(`${name}: handlers are added as functions`);
    if (value === true) made.setAttribute(name, "");
    else if (value !== false) made.setAttribute(name, value);
  }
  fill(made, ...children);
  return made;
}

/** Replace the children of an element. */
export function fill(parent: Element, ...children: readonly Child[]): void {
  parent.replaceChildren(...children.filter((child): child is Node | string => child !== null));
}

/** Make these the children; one that stays is not moved, nor does it lose the focus. */
export function arrange(parent: Element, children: readonly Element[]): void {
  const wanted = new Set(children);
  for (const child of Array.from(parent.children)) if (!wanted.has(child)) child.remove();
  children.forEach((child, at) => {
    const there = parent.children[at] ?? null;
    if (there !== child) parent.insertBefore(child, there);
  });
}

/** Show one of two that share a place; the focus stays in it. */
export function swap(shown: HTMLElement, away: HTMLElement): void {
  shown.hidden = false;
  handOver(away, shown);
  away.hidden = true;
}

/** Before something goes that may have the focus: else the keyboard starts at the page's top. */
export function handOver(from: HTMLElement, to: HTMLElement): void {
  if (from.contains(document.activeElement)) to.focus();
}

/** Give the focus to the first match; whether there is one. */
export function focusIn(root: Element, selector: string): boolean {
  const found = root.querySelector<HTMLElement>(selector);
  found?.focus();
  return found !== null;
}

/** A button that says what it does. */
export function button(label: string, act: () => void, attributes: Record<string, string> = {}) {
  const made = el("button", { type: "button", class: "em-button", ...attributes }, label);
  made.addEventListener("click", act);
  return made;
}

/** Have a form act on its button, and on Enter in a field of one line. */
export function onSubmit(form: HTMLFormElement, act: () => void): void {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    act();
  });
  // In JupyterLab's output a browser does not submit by itself.
  form.addEventListener("keydown", (event) => {
    // isComposing: Enter that ends a word of an input method.
    if (event.key !== "Enter" || event.isComposing) return;
    if (!(event.target instanceof HTMLInputElement)) return;
    event.preventDefault();
    act();
  });
}

/** Text of an element, written only when it differs: an untouched node is not read out again. */
export function say(element: HTMLElement, words: string): void {
  if (element.textContent !== words) element.textContent = words;
  element.hidden = words === "";
}

/** Seconds for people: "3 s", "1 min 5 s". */
export function seconds(value: number): string {
  const whole = Math.max(0, Math.floor(value));
  if (whole < 60) return `${whole} s`;
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** A trait that should be a list of objects; anything else counts as empty. */
export function rows<T extends object>(value: unknown): readonly T[] {
  if (!Array.isArray(value)) return [];
  return value.filter((row): row is T => typeof row === "object" && row !== null);
}

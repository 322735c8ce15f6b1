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
    if (event.key !== "Enter" || !(event.target instanceof HTMLInputElement)) return;
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

import { beforeEach, expect, test } from "vitest";
import { Fold } from "../src/fold";
import { button, el } from "../src/text";
import { FakeModel } from "./fake";

let model: FakeModel;
let fold: Fold;
let toggle: HTMLButtonElement;

beforeEach(() => {
  model = new FakeModel({});
  fold = new Fold([el("p", {}, "inside"), button("Act", () => undefined)], button("Tool", () => undefined));
  document.body.replaceChildren(fold.head, fold.inside);
  toggle = fold.head.querySelector("h3 button") as HTMLButtonElement;
  fold.update(model, "Pairs", "two of them");
});

function kernel(unfolded: boolean): void {
  model.set("unfolded", unfolded);
  fold.update(model, "Pairs", "two of them");
}

test("a heading shows and hides what is below it; its tools stay", () => {
  expect([toggle.textContent, toggle.getAttribute("aria-expanded"), fold.open]).toEqual(["Pairs", "true", true]);
  const brief = fold.head.querySelector<HTMLElement>(".em-brief");
  expect(brief?.hidden).toBe(true);
  toggle.click();
  expect([toggle.getAttribute("aria-expanded"), fold.open, brief?.hidden]).toEqual(["false", false, false]);
  expect(brief?.textContent).toBe("two of them");
  expect(fold.head.textContent).toContain("Tool");
  toggle.click();
  expect(fold.open).toBe(true);
});

test("the kernel opens by what it knows, and closes what it has opened", () => {
  kernel(false);
  expect(fold.open).toBe(false);
  kernel(true);
  expect(fold.open).toBe(true);
  kernel(false);
  expect(fold.open).toBe(false);
});

test("what the reader opened stays open, and what was closed opens for something new", () => {
  kernel(false);
  toggle.click();
  kernel(true);
  kernel(false);
  expect(fold.open).toBe(true);
  toggle.click();
  kernel(false); // nothing new
  expect(fold.open).toBe(false);
  kernel(true);
  expect(fold.open).toBe(true);
});

test("the focus of what is folded away goes to the heading", () => {
  fold.inside.querySelector("button")?.focus();
  kernel(false);
  expect(document.activeElement).toBe(toggle);
});

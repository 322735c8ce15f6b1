import { readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { expect, test } from "vitest";

import { el, rows, say, seconds } from "../src/text";

const SOURCES = resolve(import.meta.dirname, "../src");
const HTML = /innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|setHTMLUnsafe|srcdoc|eval\(/;

test.each(readdirSync(SOURCES))("%s never reads text as HTML", (name) => {
  expect(readFileSync(resolve(SOURCES, name), "utf8")).not.toMatch(HTML);
});

test("a string child is text", () => {
  const made = el("p", {}, "<img src=x onerror=alert(1)>");
  expect(made.children).toHaveLength(0);
  expect(made.textContent).toBe("<img src=x onerror=alert(1)>");
});

test("no handler comes in as an attribute", () => {
  expect(() => el("p", { onclick: "alert(1)" })).toThrow("onclick");
});

test("empty words hide their element", () => {
  const made = el("p");
  say(made, "");
  expect(made.hidden).toBe(true);
  say(made, "now");
  expect(made.hidden).toBe(false);
});

test("seconds", () => {
  expect([0.4, 59.9, 65].map(seconds)).toEqual(["0 s", "59 s", "1 min 5 s"]);
});

test("a trait of the wrong shape is an empty list", () => {
  expect([rows(null), rows("abc"), rows([1, null, { a: 1 }])]).toEqual([[], [], [{ a: 1 }]]);
});

import { readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, test } from "vitest";

import { characters, fromBrowser, fromKernel, type FromKernel } from "../src/protocol";
import { type Live, step } from "../src/talk";

interface Golden {
  from: "kernel" | "browser";
  valid?: boolean;
  message?: unknown;
  messages?: FromKernel[];
  text?: string;
}

const FOLDER = resolve(import.meta.dirname, "../../tests/golden/protocol");
const FILES = readdirSync(FOLDER).filter((name) => name.endsWith(".json"));
const GOLDEN = FILES.map(
  (name): [string, Golden] => [name, JSON.parse(readFileSync(resolve(FOLDER, name), "utf8"))],
);

test("there are golden messages", () => expect(GOLDEN.length).toBeGreaterThan(25));

describe.each(GOLDEN.filter(([, golden]) => golden.message !== undefined))("%s", (_, golden) => {
  test("is read as the other side reads it", () => {
    const read = golden.from === "kernel" ? fromKernel : fromBrowser;
    expect(read(golden.message)).toEqual(golden.valid ? golden.message : null);
  });
  test("fields nobody knows are dropped", () => {
    if (!golden.valid) return;
    const read = golden.from === "kernel" ? fromKernel : fromBrowser;
    expect(read({ ...(golden.message as object), more: 1 })).toEqual(golden.message);
  });
});

describe.each(GOLDEN.filter(([, golden]) => golden.messages !== undefined))("%s", (_, golden) => {
  const run = (messages: readonly FromKernel[]) => {
    let live: Live | null = null;
    let missed = false;
    for (const message of [{ kind: "started", ask: "a", question: "?" } as const, ...messages]) {
      const next = step(live, message, 0);
      live = next.live;
      missed ||= next.missed;
    }
    return { live: live as Live | null, missed };
  };
  test("becomes the text, offsets counted in characters", () => {
    const { live, missed } = run(golden.messages ?? []);
    expect(live?.text).toBe(golden.text);
    expect(live?.count).toBe(characters(golden.text ?? ""));
    expect(missed).toBe(false);
  });
  test("any batch twice changes nothing", () => {
    const twice = (golden.messages ?? []).flatMap((message) => [message, message]);
    expect(run(twice).live?.text).toBe(golden.text);
  });
  test("a batch that was missed is noticed", () => {
    expect(run((golden.messages ?? []).slice(1)).missed).toBe(true);
  });
});

test("a snapshot puts right what was missed", () => {
  const missed = step(null, { kind: "tokens", ask: "a", text: "water", from: 5 }, 0);
  expect(missed.missed).toBe(true);
  const message: FromKernel = {
    kind: "snapshot", ask: "a", question: "?", text: "Sure, water", status: "", seconds: 2,
  };
  const { live } = step(missed.live, message, 10_000);
  expect(live).toMatchObject({ text: "Sure, water", count: 11, began: 8_000 });
  const after = step(live, { kind: "tokens", ask: "a", text: ".", from: 11 }, 0);
  expect(after).toMatchObject({ missed: false, live: { text: "Sure, water." } });
});

test("words about another ask leave this one alone", () => {
  const { live } = step(null, { kind: "started", ask: "a", question: "?" }, 0);
  for (const message of [
    { kind: "ended", ask: "b", state: "done", message: "" },
    { kind: "status", ask: "b", text: "reading" },
  ] as const) {
    expect(step(live, message, 0).live).toBe(live);
  }
});

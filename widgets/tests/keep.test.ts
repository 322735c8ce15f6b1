import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { Downloader, sized } from "../src/download";
import keep from "../src/keep";
import { FILES, fromBrowser, type FromBrowser } from "../src/protocol";
import { FakeKernel, FakeModel } from "./fake";

const HOSTILE = "<img src=x onerror=alert(1)>";
let root: HTMLElement;
let close: () => void;
let saved: { name: string; file: Blob }[];

const answers = [
  { turn: "ask-4", title: "1. Segment the water. (30.1 ha mapped)", off: {} },
  { turn: "ask-5", title: "2. Is it dry?", off: { probability: "It marks nothing." } },
];

function open(traits: Record<string, unknown> = {}, manager: unknown = {}): FakeModel {
  const model = new FakeModel(
    { answers, about: { name: "spain", busy: "", hint: "" }, checked: {}, fault: "", ...traits },
    manager,
  );
  close = keep.render({ model, el: root });
  return model;
}

const sent = (model: FakeModel): Record<string, unknown>[] => {
  const messages = model.sent.slice(1) as Record<string, unknown>[];
  for (const message of messages) expect(fromBrowser(message)).toEqual(message);
  return messages;
};
const named = (label: string): HTMLButtonElement => {
  const found = Array.from(root.querySelectorAll("button")).find((b) => b.textContent === label);
  if (found === undefined) throw new Error(`no button ${label}`);
  return found;
};
const choice = (): HTMLSelectElement => root.querySelector("select") as HTMLSelectElement;
const status = (): string => root.querySelector(".em-status")?.textContent ?? "";
const bytes = (...values: number[]): DataView => {
  // As a message holds them: a view into something larger.
  const held = new Uint8Array([9, 9, ...values, 9]);
  return new DataView(held.buffer, 2, values.length);
};
/** Bring the file that was asked for, in pieces. */
const bring = (model: FakeModel, ...pieces: number[][]): string => {
  const file = sent(model).filter((m) => m["kind"] === "keep").at(-1)?.["file"] as string;
  const size = pieces.flat().length;
  model.say({ kind: "file", file, name: "spain-report.html", media: "text/html", size });
  let at = 0;
  for (const piece of pieces) {
    expect(sent(model).at(-1)).toEqual({ kind: "more", file, at });
    model.say({ kind: "part", file, at }, bytes(...piece));
    at += piece.length;
  }
  return file;
};

beforeEach(() => {
  root = document.createElement("div");
  document.body.append(root);
  saved = [];
  vi.spyOn(HTMLAnchorElement.prototype, "click").mockImplementation(function (
    this: HTMLAnchorElement,
  ) {
    saved.push({ name: this.download, file: made.get(this.href) as Blob });
  });
  const made = new Map<string, Blob>();
  vi.spyOn(URL, "createObjectURL").mockImplementation((file) => {
    const address = `blob:here/${made.size}`;
    made.set(address, file as Blob);
    return address;
  });
});
afterEach(() => {
  close();
  root.remove();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

test("without an answer there is only a hint", () => {
  const model = open({ answers: [], about: { name: "", busy: "", hint: "Ask something first." } });
  expect(root.querySelector(".em-hint")?.textContent).toBe("Ask something first.");
  expect(root.querySelector<HTMLElement>(".em-controls")?.hidden).toBe(true);
  model.set("answers", answers);
  expect(root.querySelector<HTMLElement>(".em-controls")?.hidden).toBe(false);
});

test("the last answer is chosen, until an older one is", () => {
  const model = open();
  expect(choice().value).toBe("ask-5");
  model.set("answers", [...answers, { turn: "ask-6", title: "3. And now?", off: {} }]);
  expect(choice().value).toBe("ask-6");
  choice().value = "ask-4";
  choice().dispatchEvent(new Event("change"));
  model.set("answers", [...answers, { turn: "ask-7", title: "3. Later?", off: {} }]);
  expect(choice().value).toBe("ask-4");
  model.set("answers", [answers[1]]);
  expect(choice().value).toBe("ask-5");
});

test("every kind of file has a button that asks for it", () => {
  const model = open();
  choice().value = "ask-4";
  choice().dispatchEvent(new Event("change"));
  root.querySelector<HTMLInputElement>("input[type=number]")!.value = "120";
  const asked = FILES.map((what, at) => {
    const labels = ["GeoJSON", "GeoPackage", "GeoParquet", "Mask (COG)", "Probability (COG)",
      "STAC item", "Record", "Points to label", "Report", "Notebook"];
    named(labels[at] as string).click();
    const message = sent(model).at(-1);
    model.say({ kind: "refused", file: message?.["file"] });
    expect(message).toMatchObject({ kind: "keep", turn: "ask-4", what, points: 120 });
    return message?.["file"];
  });
  expect(new Set(asked).size).toBe(FILES.length);
});

test("a file comes in pieces and is saved when it is whole", async () => {
  const model = open();
  named("Report").focus();
  named("Report").click();
  model.say({ kind: "status", ask: null, text: "Making spain-report.html…" });
  expect(status()).toBe("Making spain-report.html…");
  const bar = root.querySelector("progress") as HTMLProgressElement;
  expect(bar.hasAttribute("value")).toBe(false);
  const file = bring(model, [1, 2, 3], [4, 5]);
  expect(saved.map((each) => each.name)).toEqual(["spain-report.html"]);
  expect(Array.from(new Uint8Array(await saved[0]!.file.arrayBuffer()))).toEqual([1, 2, 3, 4, 5]);
  expect(saved[0]!.file.type).toBe("text/html");
  expect(sent(model).at(-1)).toEqual({ kind: "leave", file });
  model.say({ kind: "status", ask: null, text: "" });
  expect(status()).toBe("spain-report.html, 5 bytes: handed to the browser to save.");
  expect(document.activeElement).toBe(named("Report"));
  expect(document.querySelector("a[download]")).toBeNull();
});

test("one file at a time; it can be cancelled, and then nothing is saved", () => {
  const model = open();
  named("Report").click();
  named("GeoJSON").click();
  expect(sent(model)).toHaveLength(1);
  expect(status()).toContain("One file at a time");
  expect(named("GeoJSON").getAttribute("aria-disabled")).toBe("true");
  const file = sent(model)[0]!["file"];
  model.say({ kind: "file", file, name: "r.html", media: "text/html", size: 4 });
  model.say({ kind: "part", file, at: 0 }, bytes(1, 2));
  named("Cancel").focus();
  named("Cancel").click();
  expect(sent(model).at(-1)).toEqual({ kind: "leave", file });
  expect(status()).toBe("Cancelled; nothing was saved.");
  expect(document.activeElement).toBe(choice());
  model.say({ kind: "part", file, at: 2 }, bytes(3, 4));
  expect(saved).toEqual([]);
});

test("pieces that don't fit are no file, those of others neither", () => {
  const model = open();
  named("Report").click();
  const file = sent(model)[0]!["file"];
  model.say({ kind: "file", file: "of another view", name: "x", media: "", size: 1 });
  model.say({ kind: "file", file, name: "r.html", media: "text/html", size: 3 });
  model.say({ kind: "part", file: "of another view", at: 0 }, bytes(1));
  model.say({ kind: "part", file, at: 1 }, bytes(1)); // twice, or late
  expect(sent(model).filter((each) => each["kind"] === "more")).toHaveLength(1);
  model.say({ kind: "part", file, at: 0 }, bytes(1, 2, 3, 4));
  expect(status()).toContain("pieces that don't fit");
  expect(sent(model).at(-1)).toEqual({ kind: "leave", file });
  named("Report").click();
  const next = sent(model).at(-1)!["file"];
  model.say({ kind: "file", file: next, name: "r.html", media: "text/html", size: 3 });
  model.say({ kind: "part", file: next, at: 0 });
  expect(status()).toContain("pieces that don't fit");
  expect(saved).toEqual([]);
});

test("a refusal is said where faults are", () => {
  const model = open();
  named("Report").click();
  model.say({ kind: "status", ask: null, text: "Making…" });
  model.set("fault", "There are fewer pixels than points.");
  model.say({ kind: "refused", file: sent(model)[0]!["file"] });
  expect(root.querySelector("[role=alert]")?.textContent).toContain("fewer pixels");
  expect(root.querySelector<HTMLElement>(".em-row progress")?.closest<HTMLElement>(".em-row")?.hidden)
    .toBe(true);
  expect(status()).toBe("");
});

test("what can't be had says why, and stays in reach of the keyboard", () => {
  const model = open();
  const probability = named("Probability (COG)");
  expect(probability.getAttribute("aria-disabled")).toBe("true");
  expect(probability.disabled).toBe(false);
  const why = document.getElementById(probability.getAttribute("aria-describedby") ?? "");
  expect(why?.textContent).toBe("It marks nothing.");
  probability.click();
  expect(sent(model)).toEqual([]);
  expect(status()).toBe("It marks nothing.");
});

test("references are text to copy, in the view that asked", async () => {
  const copied = vi.fn((_: string) => Promise.resolve());
  vi.stubGlobal("navigator", { clipboard: { writeText: copied }, onLine: true });
  const model = open();
  model.say({ kind: "citation", turn: "ask-5", text: "of another view" });
  const box = root.querySelector("textarea") as HTMLTextAreaElement;
  expect(box.parentElement?.hidden).toBe(true);
  named("Cite").click();
  expect(sent(model)).toEqual([{ kind: "cite", turn: "ask-5" }]);
  model.say({ kind: "citation", turn: "ask-5", text: HOSTILE });
  expect(box.value).toBe(HOSTILE);
  expect(document.activeElement).toBe(box);
  named("Copy").click();
  await vi.waitFor(() => expect(status()).toBe("Copied to the clipboard."));
  expect(copied).toHaveBeenCalledWith(HOSTILE);
  box.focus();
  box.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
  expect(box.parentElement?.hidden).toBe(true);
  expect(document.activeElement).toBe(named("Cite"));
});

test("without a right to the clipboard the text is marked", async () => {
  const refused = () => Promise.reject(new Error("no"));
  vi.stubGlobal("navigator", { clipboard: { writeText: refused }, onLine: true });
  const model = open();
  named("Cite").click();
  model.say({ kind: "citation", turn: "ask-5", text: "words" });
  named("Copy").click();
  await vi.waitFor(() => expect(status()).toContain("copy the marked text"));
  const box = root.querySelector("textarea") as HTMLTextAreaElement;
  expect([box.selectionStart, box.selectionEnd]).toEqual([0, 5]);
});

test("a replay is started, stopped, and its verdict belongs to its answer", () => {
  const model = open();
  named("Check that it replays").click();
  expect(sent(model)).toEqual([{ kind: "verify", turn: "ask-5" }]);
  model.set("about", { name: "spain", busy: "replay", hint: "" });
  model.set("checked", { turn: "ask-5", state: "running", words: [] });
  named("Check that it replays").click();
  expect(status()).toContain("Something runs here");
  named("Stop the check").click();
  expect(sent(model).at(-1)).toEqual({ kind: "cancel" });
  model.set("about", { name: "spain", busy: "", hint: "" });
  model.set("checked", { turn: "ask-5", state: "differs", words: [`files: ${HOSTILE}`] });
  const verdict = root.querySelector(".em-outcome") as HTMLElement;
  expect(verdict.textContent).toBe(`It does not replay.files: ${HOSTILE}`);
  expect(named("Stop the check").hidden).toBe(true);
  choice().value = "ask-4";
  choice().dispatchEvent(new Event("change"));
  expect(verdict.hidden).toBe(true);
});

test("a lost connection goes on where it was, a lost kernel ends it", () => {
  const kernel = new FakeKernel();
  const model = open({}, { kernel });
  named("Report").click();
  const file = sent(model)[0]!["file"];
  model.say({ kind: "file", file, name: "r.html", media: "text/html", size: 4 });
  model.say({ kind: "part", file, at: 0 }, bytes(1, 2));
  kernel.connection("connecting");
  expect(root.querySelector("[role=alert]")?.textContent).toContain("connection");
  kernel.connection("connected");
  expect(sent(model).at(-1)).toEqual({ kind: "more", file, at: 2 });
  kernel.becomes("restarting");
  expect(root.querySelector<HTMLElement>("progress")?.closest<HTMLElement>(".em-row")?.hidden)
    .toBe(true);
  const before = model.sent.length;
  named("Record").click();
  expect(model.sent).toHaveLength(before);
  expect(saved).toEqual([]);
});

test("text of others stays text, and nothing is left behind", () => {
  const model = open({
    answers: [{ turn: "ask-4", title: HOSTILE, off: { mask: HOSTILE } }], fault: HOSTILE,
    checked: { turn: "ask-4", state: HOSTILE, words: [HOSTILE] },
  });
  model.say({ kind: "status", ask: null, text: HOSTILE });
  expect(root.querySelector("img")).toBeNull();
  expect(root.textContent).toContain(HOSTILE);
  named("Report").click();
  close();
  expect(sent(model).at(-1)).toMatchObject({ kind: "leave" });
  expect(model.listeners).toBe(0);
});

test("a file whose offer was lost is asked for anew, one under way goes on", () => {
  const messages: FromBrowser[] = [];
  const saves = vi.fn();
  const downloads = new Downloader((each) => messages.push(each), () => undefined, saves);
  downloads.start("points", "ask-5", 120);
  const lost = downloads.coming!.id;
  downloads.resume();
  const file = downloads.coming!.id;
  expect(file).not.toBe(lost);
  expect(messages.slice(1)).toEqual([
    { kind: "leave", file: lost },
    { kind: "keep", file, turn: "ask-5", what: "points", points: 120 },
  ]);
  downloads.hear({ kind: "file", file: lost, name: "p.gpkg", media: "", size: 1 }, []);
  expect(downloads.coming!.size).toBe(0);
  downloads.hear({ kind: "file", file, name: "p.gpkg", media: "", size: 2 }, []);
  downloads.resume();
  expect(messages.slice(3)).toEqual(Array(2).fill({ kind: "more", file, at: 0 }));
  downloads.hear({ kind: "part", file, at: 0 }, [bytes(1, 2)]);
  expect(saves).toHaveBeenCalledOnce();
});

test("sizes for people", () => {
  expect([812, 12_300, 120_000, 1_234_567, 23_400_000].map(sized)).toEqual(
    ["812 bytes", "12 kB", "0.1 MB", "1.2 MB", "23 MB"]);
  const saves = vi.fn();
  const downloads = new Downloader(() => undefined, () => undefined, saves);
  downloads.resume();
  downloads.hear({ kind: "part", file: "x", at: 0 }, [bytes(1)]);
  expect(saves).not.toHaveBeenCalled();
});

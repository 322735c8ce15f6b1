// What can be done with a turn: edit, ask again, branches, copy, comparison; and the regions.

import { afterEach, beforeEach, expect, test, vi } from "vitest";

import chat from "../src/chat";
import { draftsOf } from "../src/drafts";
import { FakeModel } from "./fake";

const HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>";
const ABOUT = { name: "area 1", key: "a1", kind: "aoi", busy: "", ready: true, hint: "", shows: true, earlier: "" };

function turn(changes: object = {}) {
  return {
    id: "ask-1", question: "Segment the water.", state: "done", text: "Sure.", notice: "",
    message: "", stale: false, features: [], evidence: [], regions: [], how: "", again: true,
    without: ["sar", "optical"], copies: true, at: 1, of: 1, before: "", after: "",
    compared: null, ...changes,
  };
}

let root: HTMLElement;
let close: () => void;

function open(traits: Record<string, unknown> = {}): FakeModel {
  const model = new FakeModel({
    turns: [turn()], about: ABOUT, marks: [], suggestions: [], undo_label: "", fault: "",
    panel: Math.random().toString(), ...traits,
  });
  show(model);
  return model;
}

function show(model: FakeModel): void {
  root = document.createElement("div");
  document.body.append(root);
  close = chat.render({ model, el: root });
}

function again(model: FakeModel): void {
  close();
  root.remove();
  show(model);
}

const one = <T extends HTMLElement = HTMLElement>(selector: string): T => {
  const found = root.querySelector<T>(selector);
  if (found === null) throw new Error(`no ${selector}`);
  return found;
};
const named = (name: string): HTMLButtonElement => {
  const found = [...root.querySelectorAll("button")]
    .find((each) => (each.getAttribute("aria-label") ?? each.textContent) === name);
  if (found === undefined) throw new Error(`no button ${name}`);
  return found;
};
const names = (): (string | null)[] =>
  [...root.querySelectorAll(".em-turn button")].map((each) => each.textContent);
const press = (key: string, more: object = {}): void => {
  const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...more });
  document.activeElement?.dispatchEvent(event);
};
const edit = (text: string): void => {
  const box = one<HTMLTextAreaElement>(".em-edit");
  box.value = text;
  box.dispatchEvent(new Event("input"));
};
const sent = (model: FakeModel): unknown[] => model.sent.slice(1);

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  close();
  root.remove();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

// --- edit and ask again ----------------------------------------------------------------------

test("Edit makes the question a box with the focus, Enter asks again as a branch", () => {
  const model = open();
  named("Edit").focus();
  named("Edit").click();
  expect(document.activeElement).toBe(one(".em-edit"));
  expect(one<HTMLTextAreaElement>(".em-edit").value).toBe("Segment the water.");
  edit("Is there water?");
  press("Enter", { shiftKey: true });
  press("Enter", { isComposing: true });
  expect(sent(model)).toEqual([]);
  press("Enter");
  expect(sent(model)).toEqual([
    { kind: "again", turn: "ask-1", text: "Is there water?", without: null },
  ]);
  expect(root.querySelector(".em-edit")).toBeNull();
  expect(one(".em-question").textContent).toBe("Segment the water.");
});

test("Escape leaves, and no notebook hears of it", () => {
  const model = open();
  const heard = vi.fn();
  root.addEventListener("keydown", heard);
  named("Edit").focus();
  named("Edit").click();
  edit("Is there water?");
  press("Escape");
  expect(heard).not.toHaveBeenCalled();
  expect(root.querySelector(".em-edit")).toBeNull();
  expect(document.activeElement).toBe(named("Edit"));
  expect(sent(model)).toEqual([]);
  named("Edit").click();
  expect(one<HTMLTextAreaElement>(".em-edit").value).toBe("Segment the water.");
  named("Cancel").click();
  expect(root.querySelector(".em-edit")).toBeNull();
});

test("an empty question is not asked, one beside a running answer is kept and says why", () => {
  const model = open();
  named("Edit").click();
  edit("  ");
  named("Ask").click();
  expect(sent(model)).toEqual([]);
  edit("Is there water?");
  model.set("about", { ...ABOUT, busy: "ask" });
  expect(named("Ask").getAttribute("aria-disabled")).toBe("true");
  named("Ask").click();
  expect(sent(model)).toEqual([]);
  expect(one(".em-status").textContent).toBe("Thinking… Ask again afterwards.");
  expect(one<HTMLTextAreaElement>(".em-edit").value).toBe("Is there water?");
  model.set("about", ABOUT);
  expect(named("Ask").getAttribute("aria-disabled")).toBe("false");
  named("Ask").click();
  expect(sent(model)).toHaveLength(1);
});

test("what is being edited survives new turns and a view that opens again", () => {
  const model = open();
  named("Edit").focus();
  named("Edit").click();
  edit("Is there snow?");
  const box = one(".em-edit");
  model.set("turns", [turn(), turn({ id: "ask-2", question: "More?" })]);
  expect(one(".em-edit")).toBe(box);
  expect(document.activeElement).toBe(box);
  again(model);
  expect(one<HTMLTextAreaElement>(".em-edit").value).toBe("Is there snow?");
});

test("Ask again and without a sensor", () => {
  const model = open();
  named("Ask again").click();
  named("Without SAR").click();
  named("Without optical").click();
  expect(sent(model)).toEqual([
    { kind: "again", turn: "ask-1", text: null, without: null },
    { kind: "again", turn: "ask-1", text: null, without: "sar" },
    { kind: "again", turn: "ask-1", text: null, without: "optical" },
  ]);
});

test("only what can be done is offered", () => {
  const model = open({ turns: [turn({ without: [] })] });
  expect(names()).toEqual(["Edit", "Ask again", "Copy as Python"]);
  model.set("turns", [turn({ again: false, copies: false })]);
  expect(names()).toEqual([]);
  expect(root.querySelector(".em-tools")).toBeNull();
});

test("the focus goes on in the box where its turn is gone", () => {
  const model = open({ turns: [turn(), turn({ id: "ask-2" })] });
  const last = [...root.querySelectorAll<HTMLElement>('[data-tool="Ask again"]')].at(-1);
  last?.focus();
  model.set("turns", [turn()]);
  expect(document.activeElement).toBe(one(".em-row .em-box"));
});

// --- branches --------------------------------------------------------------------------------

test("branches are gone through by keyboard from one place", () => {
  const branches = [
    turn({ at: 1, of: 3, after: "ask-2" }),
    turn({ id: "ask-2", at: 2, of: 3, before: "ask-1", after: "ask-3" }),
    turn({ id: "ask-3", at: 3, of: 3, before: "ask-2" }),
  ];
  const model = open({ turns: [branches[1]] });
  expect(one(".em-place").textContent).toBe("2/3");
  expect(one(".em-place").getAttribute("aria-label")).toBe("Version 2 of 3");
  named("Later version").focus();
  named("Later version").click();
  expect(sent(model)).toEqual([{ kind: "branch", turn: "ask-3" }]);
  model.set("turns", [branches[2]]);
  expect(named("Later version").disabled).toBe(true);
  expect(document.activeElement).toBe(named("Earlier version"));
  named("Earlier version").click();
  model.set("turns", [branches[1]]);
  expect(document.activeElement).toBe(named("Earlier version"));
});

test("a new talk, and the way back", () => {
  const model = open();
  named("New talk").click();
  model.set("turns", []);
  model.set("about", { ...ABOUT, earlier: "ask-1" });
  expect(named("New talk").disabled).toBe(true);
  named("Back to the earlier talk").click();
  expect(sent(model)).toEqual([{ kind: "branch", turn: null }, { kind: "branch", turn: "ask-1" }]);
  model.set("turns", [turn()]);
  model.set("about", ABOUT);
  expect(named("Back to the earlier talk").hidden).toBe(true);
});

// --- what is in sight ------------------------------------------------------------------------

test("the log goes to what is new, an answer longer than it from its question on", () => {
  const model = open({ turns: [] });
  const log = one(".em-log");
  const sizes = { clientHeight: 400, scrollHeight: 1000 };
  for (const [name, value] of Object.entries(sizes)) Object.defineProperty(log, name, { value });
  const tall = (node: HTMLElement, offsetTop: number): void => {
    Object.defineProperty(node, "offsetHeight", { value: 500 });
    Object.defineProperty(node, "offsetTop", { value: offsetTop });
  };
  model.set("turns", [turn()]);
  tall(one(".em-turn"), 30);
  model.set("fault", "");
  expect(log.scrollTop).toBe(30);
  log.dispatchEvent(new Event("wheel"));
  log.scrollTop = 200;
  model.set("turns", [turn(), turn({ id: "ask-2" })]);
  expect(log.scrollTop).toBe(200); // somebody reads
  named("Edit").click();
  named("Ask").click();
  expect(log.scrollTop).toBe(1000);
  model.say({ kind: "started", ask: "ask-3", question: "?" });
  tall(one(".em-current"), 600);
  model.say({ kind: "tokens", ask: "ask-3", text: "x", from: 0 });
  expect(log.scrollTop).toBe(1000); // while it is written, its end
});

// --- as Python -------------------------------------------------------------------------------

test("the code is shown, selected, and put on the clipboard", async () => {
  const writeText = vi.fn(() => Promise.resolve());
  vi.stubGlobal("navigator", { ...navigator, onLine: true, clipboard: { writeText } });
  const model = open();
  named("Copy as Python").click();
  expect(sent(model)).toEqual([{ kind: "copy", turn: "ask-1" }]);
  model.say({ kind: "code", turn: "ask-1", text: HOSTILE });
  const box = one<HTMLTextAreaElement>(".em-code");
  expect([box.value, box.readOnly]).toEqual([HOSTILE, true]);
  expect(document.activeElement).toBe(box);
  expect([box.selectionStart, box.selectionEnd]).toEqual([0, HOSTILE.length]);
  expect(root.querySelector("img, script")).toBeNull();
  await vi.runOnlyPendingTimersAsync();
  expect(writeText).toHaveBeenCalledWith(HOSTILE);
  expect(one(".em-status").textContent).toBe("Copied to the clipboard.");
  press("Escape");
  expect(root.querySelector(".em-code")).toBeNull();
  expect(document.activeElement).toBe(named("Copy as Python"));
});

test("without a clipboard it says how", async () => {
  vi.stubGlobal("navigator", { onLine: true });
  const model = open();
  named("Copy as Python").click();
  model.say({ kind: "code", turn: "ask-1", text: "import earthmind_lab" });
  await vi.runOnlyPendingTimersAsync();
  expect(one(".em-status").textContent).toContain("copy it with Ctrl+C");
  named("Close").click();
  expect(root.querySelector(".em-code")).toBeNull();
});

test("code that another view asked for opens nothing", () => {
  const model = open();
  model.say({ kind: "code", turn: "ask-1", text: "import earthmind_lab" });
  expect(root.querySelector(".em-code")).toBeNull();
});

// --- regions, options, comparison ------------------------------------------------------------

test("regions of the next question can be taken out, by keyboard one after the other", () => {
  const marks = [
    { id: "m1", name: "region1", label: "region 1" }, { id: "m2", name: "region2", label: "field" },
  ];
  const model = open({ marks });
  const chips = [...root.querySelectorAll(".em-asked-of")].map((each) => each.textContent);
  expect(chips).toEqual(["region1 ×", "region2 · field ×"]);
  const first = named("Take region1 out of the question");
  first.focus();
  first.click();
  expect(sent(model)).toEqual([{ kind: "unmark", region: "m1" }]);
  model.set("marks", [{ ...marks[1], name: "region1" }]);
  expect(document.activeElement?.textContent).toBe("region1 · field ×");
  model.set("marks", []);
  expect(document.activeElement).toBe(one(".em-row .em-box"));
});

test("a turn says its regions and options, and how the two answers compare", () => {
  const compared = {
    title: "With and without SAR", sentences: ["Depends on SAR: without it no water is marked."],
    head: ["marked", "with both", "without SAR", "IoU"], rows: [["water", "8 ha", "none", "0.00"]],
  };
  open({ turns: [turn({ regions: ["region1 “field”"], how: "without SAR", compared })] });
  expect(one(".em-asked").textContent).toBe("about region1 “field” · without SAR");
  expect(one(".em-compared li").textContent).toBe("Depends on SAR: without it no water is marked.");
  expect([...root.querySelectorAll(".em-sides tbody tr > *")].map((cell) => cell.textContent))
    .toEqual(["water", "8 ha", "none", "0.00"]);
});

test("text of users and models is text", () => {
  const compared = { title: HOSTILE, sentences: [HOSTILE], head: [HOSTILE], rows: [[HOSTILE]] };
  open({
    turns: [turn({ question: HOSTILE, regions: [HOSTILE], how: HOSTILE, compared })],
    marks: [{ id: HOSTILE, name: HOSTILE, label: HOSTILE }],
  });
  named("Edit").click();
  expect(root.querySelector("img, script")).toBeNull();
});

// --- drafts ----------------------------------------------------------------------------------

test("each area has a draft of its own", () => {
  const model = open();
  const box = one<HTMLTextAreaElement>(".em-row .em-box");
  box.value = "half a quest";
  box.dispatchEvent(new Event("input"));
  model.set("about", { ...ABOUT, name: "the field" });
  expect(box.value).toBe("half a quest");
  model.set("about", { ...ABOUT, name: "area 2", key: "a2" });
  expect(box.value).toBe("");
  model.set("about", ABOUT);
  expect(box.value).toBe("half a quest");
});

test("drafts of panels long gone are forgotten", () => {
  draftsOf("first").keepBox("a", "words");
  for (let n = 0; n < 20; n += 1) draftsOf(`panel ${n}`);
  expect(draftsOf("first").box("a")).toBe("");
  const drafts = draftsOf("second");
  for (let n = 0; n < 60; n += 1) drafts.keepEdit(`ask-${n}`, "words");
  expect([drafts.edit("ask-0"), drafts.edit("ask-59")]).toEqual([null, "words"]);
});

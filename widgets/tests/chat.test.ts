import { afterEach, beforeEach, expect, test, vi } from "vitest";

import chat from "../src/chat";
import { CUT, GONE, PATIENCE_MS } from "../src/model";
import { FakeKernel, FakeModel } from "./fake";

const HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>";
const READY = { name: "area 1", key: "a1", kind: "aoi", busy: "", ready: true, hint: "", shows: true, earlier: "" };

function turn(changes: object = {}) {
  return {
    id: "ask-1", question: "Segment the water.", state: "done", text: "Sure, the water.",
    notice: "a small model", message: "", stale: false,
    features: [{ label: "water", count: 46, area: "1.62 km²", source: "from Sentinel-1, 17 Sep 2019" }],
    evidence: [
      { verdict: "supported", kind: "presence", sentence: "18.5% of the AOI" },
      { verdict: "contradicted", kind: "cover", sentence: "mostly crops" },
      { verdict: "uncheckable", kind: "count", sentence: "no mask to measure" },
    ],
    regions: [], how: "", again: true, without: ["sar", "optical"], copies: true, at: 1, of: 1,
    before: "", after: "", compared: null,
    ...changes,
  };
}

let root: HTMLElement;
let close: () => void;

function open(traits: Record<string, unknown> = {}, manager: unknown = {}): FakeModel {
  const model = new FakeModel({
    turns: [], about: READY, marks: [], suggestions: ["Segment the water."], undo_label: "", fault: "",
    panel: Math.random().toString(), ...traits,
  }, manager);
  show(model);
  return model;
}

function show(model: FakeModel): void {
  root = document.createElement("div");
  document.body.append(root);
  close = chat.render({ model, el: root });
}

const one = <T extends HTMLElement = HTMLElement>(selector: string): T => {
  const found = root.querySelector<T>(selector);
  if (found === null) throw new Error(`no ${selector}`);
  return found;
};
const named = (name: string): HTMLButtonElement => {
  const found = [...root.querySelectorAll("button")].find((each) => each.textContent === name);
  if (found === undefined) throw new Error(`no button ${name}`);
  return found;
};
const press = (key: string, more: object = {}): void => {
  one(".em-box").dispatchEvent(new KeyboardEvent("keydown", { key, cancelable: true, ...more }));
};
const type = (text: string): void => {
  const box = one<HTMLTextAreaElement>(".em-box");
  box.value = text;
  box.dispatchEvent(new Event("input"));
};

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  close();
  root.remove();
  vi.useRealTimers();
});

test("a view says hello when it opens and listens no more when it closes", () => {
  const model = open();
  expect(model.sent).toEqual([{ kind: "hello" }]);
  close();
  expect(model.listeners).toBe(0);
  expect(vi.getTimerCount()).toBe(0);
});

test("Enter sends, Shift+Enter and an input method's Enter do not", () => {
  const model = open();
  type("Where is the water?");
  press("Enter", { shiftKey: true });
  press("Enter", { isComposing: true });
  expect(model.sent).toHaveLength(1);
  press("Enter");
  expect(model.sent[1]).toEqual({ kind: "ask", text: "Where is the water?" });
  expect(one<HTMLTextAreaElement>(".em-box").value).toBe("");
});

test("an answer is written as it comes, then becomes the turn", () => {
  const model = open();
  model.say({ kind: "started", ask: "ask-1", question: "Segment the water." });
  expect(one(".em-waiting").textContent).toBe("thinking · 0 s");
  vi.advanceTimersByTime(3000);
  expect(one(".em-waiting").textContent).toBe("thinking · 3 s");
  model.say({ kind: "tokens", ask: "ask-1", text: "Sure, ", from: 0 });
  model.say({ kind: "tokens", ask: "ask-1", text: "the water.", from: 6 });
  expect(one(".em-current .em-text").textContent).toBe("Sure, the water.");
  expect(one(".em-current").getAttribute("aria-busy")).toBe("true");
  expect([named("Stop").hidden, named("Send").hidden]).toEqual([false, true]);
  model.set("turns", [turn()]);
  expect(root.querySelectorAll(".em-turn")).toHaveLength(1);
  model.say({ kind: "ended", ask: "ask-1", state: "done", message: "" });
  expect(root.querySelector(".em-current")).toBeNull();
  expect([named("Stop").hidden, named("Send").hidden]).toEqual([true, false]);
});

test("missed text is asked for again", () => {
  const model = open();
  model.say({ kind: "tokens", ask: "ask-1", text: "water", from: 10 });
  expect(model.sent).toEqual([{ kind: "hello" }, { kind: "hello" }]);
});

test("Stop, Undo, Show and a suggestion send their messages", () => {
  const model = open({ turns: [turn()], undo_label: "the question" });
  named("Undo").click();
  named("Show on map").click();
  named("Segment the water.").click();
  model.set("about", { ...READY, busy: "ask" });
  named("Stop").click();
  expect(model.sent.slice(1)).toEqual([
    { kind: "undo" }, { kind: "show", turn: "ask-1" },
    { kind: "ask", text: "Segment the water." }, { kind: "stop" },
  ]);
});

test("evidence says its verdict in words and signs", () => {
  open({ turns: [turn()] });
  const claims = [...root.querySelectorAll(".em-claim")].map((claim) => claim.textContent);
  expect(claims).toEqual([
    "✓supported 18.5% of the AOI", "✗contradicted mostly crops", "?uncheckable no mask to measure",
  ]);
  expect(one(".em-features li").textContent).toBe(
    "water · 46 features · mapped area 1.62 km² · from Sentinel-1, 17 Sep 2019",
  );
});

test("the notice stands beside the text, not in it", () => {
  open({ turns: [turn()] });
  expect(one(".em-text").textContent).toBe("Sure, the water.");
  expect(one(".em-notice").textContent).toBe("a small model");
});

test("what failed and what was stopped says so, with the text so far", () => {
  open({ turns: [
    turn({ id: "a", state: "failed", text: "", message: "No memory. Try: less." }),
    turn({ id: "b", state: "stopped", text: "Sure, the", message: "Try: ask again." }),
  ] });
  const ends = [...root.querySelectorAll(".em-end")].map((each) => each.textContent);
  expect(ends).toEqual(["Failed: No memory. Try: less.", "Stopped: Try: ask again."]);
  expect(one(".em-stopped .em-text").textContent).toBe("Sure, the");
});

test("hostile text anywhere stays text", () => {
  const model = open({
    turns: [turn({
      id: HOSTILE, question: HOSTILE, text: HOSTILE, notice: HOSTILE, message: HOSTILE,
      state: "failed",
      features: [{ label: HOSTILE, count: 1, area: HOSTILE, source: HOSTILE }],
      evidence: [{ verdict: HOSTILE, kind: HOSTILE, sentence: HOSTILE }],
    })],
    about: { ...READY, name: HOSTILE, hint: HOSTILE },
    suggestions: [HOSTILE], undo_label: HOSTILE, fault: HOSTILE,
  });
  model.say({ kind: "started", ask: "x", question: HOSTILE });
  model.say({ kind: "tokens", ask: "x", text: HOSTILE, from: 0 });
  model.say({ kind: "status", ask: "x", text: HOSTILE });
  model.say({ kind: "status", ask: null, text: HOSTILE });
  expect(root.querySelectorAll("img, script")).toHaveLength(0);
  expect(one(".em-current .em-text").textContent).toBe(HOSTILE);
  expect(one(".em-claim").className).toBe("em-claim em-uncheckable");
});

test("garbage from the kernel changes nothing", () => {
  const model = open({ turns: [turn()] });
  const before = root.textContent;
  for (const bad of [null, 3, "x", {}, { kind: "tokens" }, { kind: "constructor" }]) model.say(bad);
  expect(root.textContent).toBe(before);
});

test("a turn that has not changed keeps its element", () => {
  const model = open({ turns: [turn()] });
  const node = one(".em-turn");
  model.set("turns", [turn(), turn({ id: "ask-2", text: "And more." })]);
  expect(root.querySelectorAll(".em-turn")[0]).toBe(node);
  model.set("turns", [turn({ stale: true })]);
  expect(one(".em-stale").textContent).toContain("another pair");
});

test("what was typed is there when the panel opens again", () => {
  const model = open();
  type("half a question");
  close();
  root.remove();
  show(model);
  expect(one<HTMLTextAreaElement>(".em-box").value).toBe("half a question");
});

test("before a pair is chosen, it says what to do and keeps the question", () => {
  const model = open({ about: { ...READY, ready: false, hint: "Choose a pair." } });
  type("What is this?");
  press("Enter");
  expect(one(".em-status").textContent).toBe("Choose a pair.");
  expect(one<HTMLTextAreaElement>(".em-box").value).toBe("What is this?");
  expect(model.sent).toHaveLength(1);
});

test("while something runs, the question is kept", () => {
  const model = open({ about: { ...READY, busy: "load" } });
  type("What is this?");
  press("Enter");
  expect(one(".em-status").textContent).toContain("Your question is kept");
  expect(model.sent).toHaveLength(1);
});

test("a kernel that does not answer is said, and forgiven when it does", () => {
  const model = open();
  vi.advanceTimersByTime(PATIENCE_MS + 1);
  expect(one(".em-status").textContent).toContain("has not answered");
  model.say({ kind: "status", ask: null, text: "" });
  expect(one(".em-status").hidden).toBe(true);
});

test("a kernel that was restarted is said, and nothing can be sent into the void", () => {
  const model = open({ turns: [turn()] });
  root.classList.add("jupyter-widgets-disconnected");
  model.fire("comm_live_update");
  expect(one(".em-fault").textContent).toBe(GONE);
  expect(named("Send").disabled).toBe(true);
  expect(one(".em-text").textContent).toBe("Sure, the water.");
});

test("a kernel whose process ended is said, where the host tells of it", () => {
  const kernel = new FakeKernel();
  const model = open({ about: { ...READY, busy: "ask" } }, { kernel });
  model.say({ kind: "started", ask: "ask-1", question: "Segment the water." });
  kernel.becomes("busy");
  expect(one(".em-fault").hidden).toBe(true);
  kernel.becomes("autorestarting");
  expect(one(".em-fault").textContent).toBe(GONE);
  expect(named("Stop").disabled).toBe(true);
  expect(one(".em-waiting").hidden).toBe(true); // nobody writes any more
  kernel.connection("connecting"); // as its host finds the new one
  kernel.connection("connected");
  expect(one(".em-fault").textContent).toBe(GONE);
  close();
  expect(kernel.listeners).toBe(0);
});

test("a lost connection is said; back again, what was missed is asked for", () => {
  const kernel = new FakeKernel();
  const model = open({}, { kernel });
  type("What is this?");
  kernel.connection("connecting");
  expect(one(".em-fault").textContent).toBe(CUT);
  expect(named("Send").disabled).toBe(true);
  press("Enter");
  expect(one<HTMLTextAreaElement>(".em-box").value).toBe("What is this?");
  expect(model.sent).toEqual([{ kind: "hello" }]);
  kernel.connection("connected");
  expect(one(".em-fault").hidden).toBe(true);
  expect(model.sent).toEqual([{ kind: "hello" }, { kind: "hello" }]);
  press("Enter");
  expect(model.sent.at(-1)).toEqual({ kind: "ask", text: "What is this?" });
});

test.each([{}, undefined, { kernel: null }, { kernel: {} }, { kernel: { statusChanged: 3 } }])(
  "a browser without network is told in any host: %j",
  (manager) => {
    open({}, manager);
    const online = vi.spyOn(navigator, "onLine", "get").mockReturnValue(false);
    window.dispatchEvent(new Event("offline"));
    expect(one(".em-fault").textContent).toBe(CUT);
    online.mockRestore();
    window.dispatchEvent(new Event("online"));
    expect(one(".em-fault").hidden).toBe(true);
  },
);

test("what was said gives way to what begins, and goes when it ends", () => {
  const model = open({ undo_label: "the question" });
  named("Undo").click();
  model.say({ kind: "status", ask: null, text: "Undone: the question." });
  expect(one(".em-status").textContent).toBe("Undone: the question.");
  model.set("about", { ...READY, busy: "load" });
  expect(one(".em-status").textContent).toBe("Loading the pair…");
  model.say({ kind: "status", ask: null, text: "loading the pixels" });
  expect(one(".em-status").textContent).toBe("loading the pixels");
  model.set("about", READY);
  expect(one(".em-status").hidden).toBe(true);
});

test("the reply to what ended something stays", () => {
  const model = open({ undo_label: "the question", about: { ...READY, busy: "ask" } });
  named("Undo").click();
  model.say({ kind: "status", ask: null, text: "Undone: the question." });
  model.set("about", READY);
  expect(one(".em-status").textContent).toBe("Undone: the question.");
});

test("a button that goes leaves the focus in the box", () => {
  const model = open({ undo_label: "the question" });
  for (const name of ["Segment the water.", "Send", "Undo"]) {
    type("Is there water?");
    named(name).focus();
    model.set("undo_label", "");
    model.set("about", { ...READY, busy: "ask" });
    expect(document.activeElement).toBe(one(".em-box"));
    model.set("about", READY);
    model.set("undo_label", "the question");
  }
});

test("a new turn leaves the focus where it is", () => {
  const model = open({ turns: [turn()] });
  const show = named("Show on map");
  show.focus();
  model.set("turns", [turn(), turn({ id: "ask-2", text: "And more." })]);
  expect(document.activeElement).toBe(show);
});

test("labels for those who don't see it", () => {
  open({ fault: "broken" });
  expect(one("[role=log]").getAttribute("aria-live")).toBe("polite");
  expect(one("textarea").getAttribute("aria-label")).toBe("Question");
  expect(one("[role=alert]").textContent).toBe("broken");
});

test("questions about two dates are said to be", () => {
  const model = open();
  const said = root.querySelector<HTMLElement>(".em-dates")!;
  expect([said.hidden, said.getAttribute("role")]).toEqual([true, "status"]);
  model.set("about", { ...READY, dates: `Questions are about two dates: ${HOSTILE}` });
  expect(said.textContent).toBe(`Questions are about two dates: ${HOSTILE}`);
  expect(root.querySelector("img")).toBeNull();
});

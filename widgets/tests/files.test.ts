import { afterEach, beforeEach, expect, test } from "vitest";

import files from "../src/files";
import { DECLARED, fromBrowser } from "../src/protocol";
import { FakeModel } from "./fake";

const HOSTILE = "<img src=x onerror=alert(1)>";
const JPEG = "data:image/jpeg;base64,AAAA";

let root: HTMLElement;
let close: () => void;
let model: FakeModel;

const about = (more: object = {}) => ({
  formats: [".tif", ".png"], most: 100, piece: 4, inside: "", loading: "", ...more,
});
const waiting = (number: number, more: object = {}) => ({
  upload: `u-${number}`, name: `s${number}.tif`, size: 2_000_000, role: "", ...more,
});

function open(traits: Record<string, unknown> = {}): void {
  model = new FakeModel({
    files: [], form: { asks: [], message: "" }, about: about(), picture: {}, fault: "", ...traits,
  });
  root = document.createElement("div");
  document.body.append(root);
  close = files.render({ model, el: root });
}
/** What was sent after the greeting; the kernel's own check reads it. */
const sent = (): Record<string, unknown>[] => {
  const messages = model.sent.slice(1) as Record<string, unknown>[];
  for (const message of messages) expect(fromBrowser(message)).toEqual(message);
  return messages;
};
function one<T extends HTMLElement>(selector: string): T {
  const found = root.querySelector<T>(selector);
  if (found === null) throw new Error(`no ${selector}`);
  return found;
}
function field(label: string): HTMLInputElement | HTMLSelectElement {
  const found = [...root.querySelectorAll("label")]
    .find((each) => each.textContent?.startsWith(label));
  const input = found?.querySelector<HTMLInputElement | HTMLSelectElement>("input, select");
  if (input == null) throw new Error(`no field ${label}`);
  return input;
}
function button(name: string): HTMLButtonElement {
  const found = [...root.querySelectorAll("button")].find((each) =>
    (each.getAttribute("aria-label") ?? each.textContent) === name);
  if (found === undefined) throw new Error(`no button ${name}`);
  return found;
}
const submit = (): void => {
  one("form").dispatchEvent(new Event("submit", { bubbles: true, cancelable: true }));
};
function drop(...given: File[]): void {
  const event = new Event("drop", { bubbles: true, cancelable: true });
  Object.defineProperty(event, "dataTransfer", { value: { files: given } });
  one("section").dispatchEvent(event);
}
const status = (): string => [...root.querySelectorAll(".em-status")]
  .map((each) => each.textContent).join();

beforeEach(() => open());
afterEach(() => {
  close();
  root.remove();
});
function again(traits: Record<string, unknown>): void {
  close();
  root.remove();
  open(traits);
}

test("two files that are dropped come one after the other", async () => {
  again({ unfolded: false });
  expect(one<HTMLElement>(".em-inside").hidden).toBe(true);
  drop(new File(["12345"], "a.tif"), new File(["1"], "b.tif"));
  expect(one<HTMLElement>(".em-inside").hidden).toBe(false);
  expect(sent()).toMatchObject([{ kind: "upload", name: "a.tif", size: 5 }]);
  const first = sent()[0]?.["upload"];
  model.say({ kind: "received", upload: first, size: 0 });
  await Promise.resolve();
  await new Promise((done) => setTimeout(done, 0));
  expect(sent().at(-1)).toEqual({ kind: "piece", upload: first, at: 0 });
  expect(root.textContent).toContain("a.tif: 0.0 MB of 0.0 MB");
  model.say({ kind: "settled", upload: first });
  expect(sent().at(-1)).toMatchObject({ kind: "upload", name: "b.tif", size: 1 });
});

test("cancel stops the files that wait, too", () => {
  drop(new File(["1"], "a.tif"), new File(["1"], "b.tif"));
  button("Cancel upload").click();
  expect(sent().map((each) => each["kind"])).toEqual(["upload", "drop"]);
});

test("a too large file is refused here, and the next one comes", () => {
  drop(new File(["1".repeat(101)], "large.tif"), new File(["1"], "b.tif"));
  expect(status()).toContain("large.tif is too large: 0.0 MB, at most 0.0 MB");
  expect(sent()).toMatchObject([{ kind: "upload", name: "b.tif" }]);
});

test("what a file is, is said by hand where the file does not say", () => {
  again({ files: [waiting(1), waiting(2, { role: "sar" })] });
  const [first, second] = root.querySelectorAll("select");
  expect([first?.value, second?.value]).toEqual(["", "sar"]);
  expect(first?.getAttribute("aria-label")).toBe("What s1.tif is");
  if (first === undefined) throw new Error("no select");
  first.value = "optical";
  first.dispatchEvent(new Event("change"));
  button("Put away s2.tif").click();
  expect(sent()).toEqual([
    { kind: "role", upload: "u-1", role: "optical" }, { kind: "drop", upload: "u-2" },
  ]);
});

test("what is asked for comes first, and keeps what was typed", () => {
  again({ files: [waiting(1, { role: "optical" })] });
  submit();
  const nothing = Object.fromEntries(DECLARED.map((name) => [name, ""]));
  expect(sent()).toEqual([{ kind: "open", inside: false, ...nothing }]);
  model.set("form", { asks: ["optical_scale", "optical_offset"], message: `No scale. ${HOSTILE}` });
  expect(one(".em-why").textContent).toBe(`No scale. ${HOSTILE}`);
  expect([...root.querySelectorAll(".em-declare > .em-fields label")]
    .map((each) => each.textContent?.trim())).toEqual(["Optical scale", "Optical offset"]);
  expect(document.activeElement).toBe(field("Optical scale"));
  field("Optical scale").value = "0.0001";
  model.set("form", { asks: ["optical_scale", "optical_offset", "sar_scale"], message: "SAR." });
  expect(document.activeElement).toBe(field("Optical offset"));
  field("SAR scale").value = "dB";
  model.set("form", { asks: [], message: "Not declared: sar_quantity, sar_scale=…; 4 bands." });
  expect(one(".em-why").textContent)
    .toBe("Not declared: “SAR quantity”, “SAR scale” …; 4 bands.");
  submit();
  expect(sent().at(-1)).toEqual(
    { kind: "open", inside: false, ...nothing, optical_scale: "0.0001", sar_scale: "dB" });
});

test("only a part is read where the active area is wanted", () => {
  again({ files: [waiting(1)], about: about({ inside: "my field" }) });
  const box = one<HTMLInputElement>("input[type=checkbox]");
  expect(box.closest("label")?.textContent).toBe("only what lies inside my field");
  box.checked = true;
  submit();
  expect(sent().at(-1)).toMatchObject({ kind: "open", inside: true });
  model.set("about", about());
  submit();
  expect(sent().at(-1)).toMatchObject({ kind: "open", inside: false });
});

test("while pixels are read nothing is opened, and the load can be stopped", () => {
  again({ files: [waiting(1)], about: about({ loading: "s1" }) });
  expect(button("Open").disabled).toBe(true);
  button("Cancel loading").click();
  expect(sent()).toEqual([{ kind: "cancel" }]);
  model.set("about", about());
  expect(button("Cancel loading").hidden).toBe(true);
});

test("a picture has nothing to declare, and shows the masks of an answer", () => {
  again({ files: [waiting(1, { role: "picture" })] });
  expect(one(".em-declare").hidden).toBe(true);
  const answers = [{ id: "ask-1", title: HOSTILE, words: "water: 144 px (25.0 %)" }];
  model.set("picture", { name: HOSTILE, url: JPEG, words: "24 × 24 px", shown: "ask-1", fault: "",
    answers });
  const image = one<HTMLImageElement>("figure img");
  expect(image.getAttribute("src")).toBe(JPEG);
  expect(image.alt).toBe(`${HOSTILE} with the masks of ${HOSTILE}`);
  expect(one("figcaption").textContent).toContain("water: 144 px");
  const masks = field("Masks of");
  masks.value = "";
  masks.dispatchEvent(new Event("change"));
  expect(sent()).toEqual([{ kind: "mask", turn: null }]);
  expect(root.querySelector("[onerror]")).toBeNull();
  model.set("picture", { name: "a", url: "https://elsewhere/x.png", words: "", shown: "", fault: "",
    answers: [] });
  expect(one<HTMLImageElement>("figure img").hidden).toBe(true);
  model.set("picture", {});
  expect(one("figure").hidden).toBe(true);
});

test("names stay text", () => {
  again({ files: [waiting(1, { name: HOSTILE })], fault: HOSTILE });
  expect(root.querySelector("img[src=x], [onerror]")).toBeNull();
  expect(one(".em-fault[role=alert]").textContent).toBe(HOSTILE);
});

test("a file that is put away hands the focus on", () => {
  again({ files: [waiting(1), waiting(2)] });
  button("Put away s1.tif").focus();
  model.set("files", [waiting(2)]);
  expect(document.activeElement?.getAttribute("aria-label")).toBe("What s2.tif is");
  button("Put away s2.tif").focus();
  model.set("files", []);
  expect(document.activeElement).toBe(field("Files"));
});

test("a lost kernel locks the form and forgets what waits; a closed panel hears nothing", () => {
  drop(new File(["1"], "a.tif"), new File(["1"], "b.tif"));
  root.classList.add("jupyter-widgets-disconnected");
  model.fire("comm_live_update");
  expect(one<HTMLFieldSetElement>("fieldset").disabled).toBe(true);
  expect(one("[role=alert]").textContent).toContain("lost its kernel");
  expect(button("Cancel upload").parentElement?.hidden).toBe(true);
  expect(sent()).toHaveLength(1);
  close();
  expect(model.listeners).toBe(0);
});

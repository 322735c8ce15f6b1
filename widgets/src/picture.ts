// A plain picture with the masks of one of its answers drawn on it.

import { el, fill, say } from "./text";

export interface Shown {
  name: string;
  url: string;
  words: string;
  shown: string;
  fault: string;
  answers: { id: string; title: string; words: string }[];
}

/** A picture that the kernel made, and nothing else that an address can name. */
const PICTURE = /^data:image\/jpeg;base64,[A-Za-z0-9+/=]+$/;
const NONE = "";

export class PictureView {
  readonly element = el("figure", { class: "em-picture" });
  private readonly image = el("img", { alt: "" });
  private readonly words = el("span", { class: "em-hint" });
  private readonly fault = el("p", { class: "em-fault" });
  private readonly masks = el("select", { class: "em-field" });
  private readonly choice = el("label", { class: "em-row" }, "Masks of ", this.masks);
  private readonly marked = el("p", { class: "em-hint" });
  private drawn = "";

  constructor(choose: (turn: string | null) => void) {
    fill(this.element, this.image,
      el("figcaption", {}, this.words, this.choice, this.marked, this.fault));
    this.masks.addEventListener("change", () =>
      choose(this.masks.value === NONE ? null : this.masks.value));
  }

  update(given: Partial<Shown>): void {
    const { name = "", url = "", words = "", shown = "", fault = "", answers = [] } = given;
    this.element.hidden = name === "";
    if (name === "") return;
    this.image.hidden = !PICTURE.test(url);
    if (PICTURE.test(url) && this.image.getAttribute("src") !== url) this.image.src = url;
    const answer = answers.find((each) => each.id === shown);
    this.image.alt = answer === undefined ? name : `${name} with the masks of ${answer.title}`;
    say(this.words, `${name}: ${words}`);
    say(this.fault, fault);
    this.choice.hidden = answers.length === 0;
    const key = JSON.stringify(answers);
    if (key !== this.drawn) {
      this.drawn = key;
      fill(this.masks, el("option", { value: NONE }, "none"), ...answers.map((each) =>
        el("option", { value: each.id }, each.title)));
    }
    this.masks.value = shown;
    say(this.marked, answer?.words ?? "");
  }
}

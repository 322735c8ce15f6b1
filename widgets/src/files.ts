// Files of the user's own: dropped or chosen, said what they are, opened. What has to be declared
// is asked for when the kernel says so. A plain picture is shown here, with its masks.

import { FileForm } from "./file_form";
import { Fold } from "./fold";
import { keepKeys } from "./keys";
import { CUT, GONE, Line, type Link, type Model, SILENT } from "./model";
import { PictureView, type Shown } from "./picture";
import { type FromKernel, type Role, ROLES } from "./protocol";
import { arrange, button, el, fill, focusIn, onSubmit, rows, say } from "./text";
import { type Limits, megabytes, Uploader } from "./upload";

interface Waiting {
  upload: string;
  name: string;
  size: number;
  role: string;
}

const TRAITS = ["files", "form", "about", "picture", "unfolded", "fault"] as const;
/** Nothing can be sent, and why. */
const FAULTS = new Map<Link, string>([["gone", GONE], ["cut", CUT]]);
const WORDS: Record<Role, string> = {
  optical: "optical", sar: "SAR", both: "optical and SAR", picture: "a plain picture",
};

class Panel {
  private link: Link = "ok";
  private said = "";
  private queue: File[] = [];
  private readonly line: Line;
  private readonly uploader: Uploader;
  private readonly held = new Map<string, ReturnType<typeof fileRow>>();

  private readonly file = el("input", { type: "file", multiple: true, class: "em-file" });
  private readonly limit = el("span", { class: "em-hint" });
  private readonly progress = el("progress", { "aria-label": "Upload" });
  private readonly way = el("span");
  private readonly going = el("div", { class: "em-row" }, this.progress, this.way,
    button("Cancel", () => this.cancel(),
      { class: "em-button em-stop", "aria-label": "Cancel upload" }));
  private readonly list = el("ul", { class: "em-given", "aria-label": "Files to open" });
  private readonly form = new FileForm();
  private readonly open = el("button", { type: "submit", class: "em-button" }, "Open");
  private readonly stop = button("Cancel", () => this.line.send({ kind: "cancel" }),
    { class: "em-button em-stop", "aria-label": "Cancel loading" });
  private readonly asked = el("form", { "aria-label": "Files to open", novalidate: true },
    this.list, this.form.element, el("div", { class: "em-row" }, this.open));
  private readonly view: PictureView;
  private readonly fold: Fold;
  private readonly fault = el("p", { class: "em-fault", role: "alert" });
  private readonly status = el("p", { class: "em-status", role: "status" });
  private readonly controls = el("fieldset", { class: "em-plain", role: "none" });

  constructor(
    private readonly model: Model,
    root: HTMLElement,
  ) {
    this.line = new Line(model, (link) => {
      this.link = link;
      if (FAULTS.has(link)) this.drop();
      this.update();
    });
    this.uploader = new Uploader((message, ...bytes) => this.line.send(message, ...bytes),
      () => this.limits(), (problem) => {
        if (problem !== "") this.said = problem;
        this.next();
        this.update();
      });
    this.view = new PictureView((turn) => this.line.send({ kind: "mask", turn }));
    this.fold = new Fold([this.controls, el("div", { class: "em-row" }, this.stop),
      this.view.element, this.fault, this.status]);
    keepKeys(root);
    this.build(root);
    this.line.follow(root, TRAITS, () => this.update(), this.hear);
  }

  close(): void {
    this.line.close();
  }

  private build(root: HTMLElement): void {
    fill(this.controls,
      el("p", { class: "em-hint" },
        "An optical and a SAR GeoTIFF, one of them, or a plain picture. They stay with this " +
        "session, on the kernel’s machine."),
      el("div", { class: "em-row em-drop" },
        el("label", {}, "Files ", this.file), this.limit),
      this.going, this.asked);
    this.file.addEventListener("change", () => {
      this.take(this.file.files);
      this.file.value = "";
    });
    onSubmit(this.asked, () => this.line.send(this.form.message()));
    const panel = el("section", { class: "em-panel em-files", "aria-label": "Own files" },
      this.fold.head, this.fold.inside);
    this.acceptDrops(panel);
    fill(root, panel);
  }

  private acceptDrops(panel: HTMLElement): void {
    panel.addEventListener("dragover", (event) => {
      event.preventDefault();
      panel.classList.add("em-dropping");
    });
    panel.addEventListener("dragleave", () => panel.classList.remove("em-dropping"));
    panel.addEventListener("drop", (event) => {
      event.preventDefault();
      event.stopPropagation(); // JupyterLab would upload it to its own folder
      panel.classList.remove("em-dropping");
      this.fold.show(true);
      this.take(event.dataTransfer?.files ?? null);
    });
  }

  private readonly hear = (message: FromKernel | null): void => {
    if (message === null) return;
    if (message.kind === "status") this.said = message.text;
    this.uploader.hear(message);
    this.update();
  };

  private take(files: FileList | null): void {
    this.queue.push(...(files ?? []));
    this.next();
    this.update();
  }

  /** The next of several, when the one before is over. */
  private next(): void {
    if (this.uploader.going !== null) return;
    const file = this.queue.shift();
    if (file !== undefined) this.uploader.start(file);
  }

  private cancel(): void {
    this.queue = [];
    this.uploader.cancel();
  }

  private drop(): void {
    this.queue = [];
    this.uploader.end();
  }

  private about(): { inside: string; loading: string } {
    const about = (this.model.get("about") ?? {}) as { inside?: unknown; loading?: unknown };
    return { inside: String(about.inside ?? ""), loading: String(about.loading ?? "") };
  }

  private limits(): Limits {
    const about = (this.model.get("about") ?? {}) as Partial<Limits>;
    return {
      formats: about.formats ?? [], most: Number(about.most ?? 0), piece: Number(about.piece ?? 1),
    };
  }

  private update(): void {
    const { inside, loading } = this.about();
    const files = rows<Waiting>(this.model.get("files"));
    const { formats, most } = this.limits();
    this.controls.disabled = FAULTS.has(this.link);
    this.file.accept = formats.join(",");
    say(this.limit, `${formats.join(", ")}, at most ${megabytes(most)} each; or drop them here`);
    const going = this.uploader.going;
    this.going.hidden = going === null;
    if (going !== null) {
      this.progress.max = going.size;
      this.progress.value = going.received;
      say(this.way, `${going.name}: ${megabytes(going.received)} of ${megabytes(going.size)}`);
    }
    this.drawFiles(files);
    this.asked.hidden = files.length === 0;
    this.form.update(this.model.get("form"), inside, files.every((each) => each.role === "picture"));
    this.open.disabled = loading !== "";
    this.stop.hidden = loading === "";
    this.stop.disabled = FAULTS.has(this.link);
    this.view.update((this.model.get("picture") ?? {}) as Partial<Shown>);
    say(this.fault, FAULTS.get(this.link) ?? String(this.model.get("fault") ?? ""));
    say(this.status, this.link === "silent" ? SILENT : this.said);
    this.fold.update(this.model, "Your own files", this.fault.textContent ||
      this.status.textContent || "GeoTIFFs or a picture: drop them here");
  }

  private drawFiles(files: readonly Waiting[]): void {
    const now = new Set(files.map((each) => each.upload));
    const gone = [...this.held].filter(([upload]) => !now.has(upload));
    const lost = gone.some(([, row]) => row.node.contains(document.activeElement));
    for (const [upload] of gone) this.held.delete(upload);
    arrange(this.list, files.map((file) => {
      const row = this.held.get(file.upload) ?? fileRow(file, (message) => this.line.send(message));
      this.held.set(file.upload, row);
      row.update(file);
      return row.node;
    }));
    if (lost && !focusIn(this.list, "select")) this.file.focus();
  }
}

function fileRow(file: Waiting, send: Line["send"]) {
  const { upload, name } = file;
  const role = el("select", { class: "em-field", "aria-label": `What ${name} is` },
    el("option", { value: "" }, "Choose what it is…"),
    ...ROLES.map((each) => el("option", { value: each }, WORDS[each])));
  role.addEventListener("change", () =>
    send({ kind: "role", upload, role: ROLES.find((each) => each === role.value) ?? "" }));
  const node = el("li", { class: "em-row" },
    el("span", { class: "em-name" }, name), el("span", { class: "em-hint" }, megabytes(file.size)),
    role,
    button("Put away", () => send({ kind: "drop", upload }),
      { class: "em-button em-quiet", "aria-label": `Put away ${name}` }));
  return {
    node,
    update: (now: Waiting): void => {
      role.value = now.role;
    },
  };
}

export default {
  render({ model, el: root }: { model: Model; el: HTMLElement }): () => void {
    const panel = new Panel(model, root);
    return () => panel.close();
  },
};

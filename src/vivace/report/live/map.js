// One map: a canvas with its choice of colour, legend and tools.

const REACH = 14; // pixels from a cell at which it is still pointed at

class CellMap {
  constructor(explorer, view, number) {
    Object.assign(this, { explorer, number, space: explorer.spaces[view.space] });
    this.build();
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    this.choose(view.colour);
  }

  build() {
    const { content } = this.explorer;
    const id = `${this.explorer.id}-${this.number}`;
    this.column = make("select", { id: `${id}-column`, onchange: () => this.choose(Number(this.column.value)) },
      ...content.colours.map((colour, k) => make("option", { value: k }, colour.name)));
    this.gene = make("input", { id: `${id}-gene`, list: `${this.explorer.id}-genes`, placeholder: "name of a gene", autocomplete: "off", spellcheck: "false",
      onchange: () => this.chooseGene(this.gene.value) });
    this.canvas = make("canvas", { tabindex: 0, role: "application", "aria-label": "", "aria-describedby": `${this.explorer.id}-keys` });
    this.tip = make("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    this.title = make("h3", {}, "");
    this.legend = make("ul", { class: "legend" });
    this.ramp = make("p", { class: "ramp", hidden: true });
    this.lasso = make("button", { type: "button", "aria-pressed": "false", onclick: () => this.setLasso(!this.drawing) }, "Select");
    const tool = (text, label, action) => make("button", { type: "button", "aria-label": label, onclick: action }, text);
    const tools = make("div", { class: "tools" }, tool("+", "Zoom in", () => this.zoom(1.5)), tool("−", "Zoom out", () => this.zoom(1 / 1.5)),
      tool("Whole map", "Show the whole map", () => this.reset()), this.lasso);
    if (this.space.picture) tools.append(this.pictureSwitch());
    const genes = content.genes ? [make("label", { for: `${id}-gene` }, "or gene "), this.gene] : [];
    this.element = make("figure", { class: "map" }, this.title,
      make("div", { class: "choice" }, make("label", { for: `${id}-column` }, "Colour by "), this.column, ...genes),
      make("div", { class: "stage" }, this.canvas, this.tip), tools, this.ramp, this.legend,
      saveButtons("map", () => this.asSvg()));
  }

  pictureSwitch() {
    this.space.showPicture = true;
    this.space.picture.onload = () => this.explorer.draw();
    const button = make("button", { type: "button", "aria-pressed": "true", onclick: () => {
      this.space.showPicture = !this.space.showPicture;
      button.setAttribute("aria-pressed", this.space.showPicture);
      this.explorer.draw();
    } }, "Tissue");
    return button;
  }

  async choose(k) {
    const colour = await this.explorer.column(k);
    this.column.value = k;
    this.gene.value = "";
    this.show(colour);
  }

  async chooseGene(name) {
    if (!name.trim()) return;
    const colour = await this.explorer.geneNamed(name.trim());
    if (!colour) return;
    this.column.selectedIndex = -1;
    this.show(colour);
  }

  show(colour) {
    this.colour = this.explorer.onSharedScale(colour);
    this.given = colour;
    this.places = colour.groups ? namePlaces(this.space, colour) : [];
    this.title.textContent = `${this.space.name}, coloured by ${colour.name}`;
    this.describe();
    this.drawLegend();
    this.draw();
  }

  describe() {
    const { n, unit } = this.explorer.content;
    this.canvas.setAttribute("aria-label", `Map of ${n.toLocaleString("en")} ${unit} (${this.space.name}), coloured by ${this.colour.name}`);
  }

  drawLegend() {
    const { colour } = this;
    this.legend.hidden = !colour.groups;
    this.ramp.hidden = !!colour.groups;
    if (!colour.groups) {
      const ends = colour.range.map((value) => make("span", {}, shown(value, colour)));
      this.ramp.replaceChildren(ends[0], make("i"), ends[1], ...(colour.unit ? [make("small", {}, colour.unit)] : []));
      return;
    }
    const keys = colour.labels.map((label, g) => make("li", {}, make("button", { type: "button", class: "key", title: `Select ${label}`, onclick: () => this.explorer.selectGroup(colour, g) },
      mark(colour.shape[g], colour.fill[g]), make("span", {}, label), make("small", {}, colour.sizes[g].toLocaleString("en")))));
    this.legend.replaceChildren(...keys);
  }

  draw() {
    const { canvas, space } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.round(side * ratio));
    if (!width || !height || !this.colour) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    this.frame = paint(canvas, space, this.colour, this.explorer.selection, null);
    this.overlay(canvas.getContext("2d"), ratio);
  }

  overlay(context, ratio) {
    const size = 12.5 * ratio;
    context.font = `600 ${size}px system-ui, sans-serif`;
    Object.assign(context, { textAlign: "center", textBaseline: "middle", lineJoin: "round", lineWidth: 3.5 * ratio, strokeStyle: ink("--card"), fillStyle: ink("--ink") });
    for (const { label, px, py } of nameLayout(this.places, this.frame, context, size)) {
      context.strokeText(label, px, py);
      context.fillText(label, px, py);
    }
    const at = this.explorer.pointed;
    if (at >= 0) {
      const [x, y] = this.pixel(at);
      context.beginPath();
      context.arc(x, y, 7 * ratio, 0, 7);
      Object.assign(context, { lineWidth: 2 * ratio, strokeStyle: ink("--ink") });
      context.stroke();
    }
    if (this.line) {
      context.beginPath();
      this.line.forEach(([x, y]) => context.lineTo(x, y));
      Object.assign(context, { lineWidth: 1.5 * ratio, strokeStyle: ink("--accent") });
      context.stroke();
    }
  }

  pixel(i) {
    const { frame, space } = this;
    return [frame.left + (space.x[i] / 65535) * frame.scale, frame.top + (space.y[i] / 65535) * frame.scale];
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const ratio = this.canvas.width / box.width;
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio, ratio];
  }

  listen() {
    const { canvas } = this;
    const pointers = new Map();
    canvas.addEventListener("pointerdown", (event) => {
      pointers.set(event.pointerId, this.place(event));
      if (event.shiftKey || this.drawing) this.line = [this.place(event).slice(0, 2)];
      if (event.pointerType === "mouse" || this.drawing) canvas.setPointerCapture(event.pointerId);
      this.tipAt(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return this.tipAt(event);
      const now = this.place(event);
      if (this.line) this.line.push(now.slice(0, 2));
      else if (pointers.size === 2) this.pinch(pointers, event.pointerId, now);
      else this.space.move(now[0] - before[0], now[1] - before[1], this.frame);
      pointers.set(event.pointerId, now);
      this.hideTip();
      if (this.line) this.draw();
      else this.explorer.draw();
    });
    const end = (event) => {
      pointers.delete(event.pointerId);
      if (this.line) this.endLasso();
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("pointerleave", () => this.hideTip());
    canvas.addEventListener("dblclick", (event) => this.zoom(2, ...this.place(event)));
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return;
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 300), ...this.place(event));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  pinch(pointers, id, now) {
    const other = [...pointers.entries()].find(([key]) => key !== id)[1];
    const before = pointers.get(id);
    const apart = (a, b) => Math.max(Math.hypot(a[0] - b[0], a[1] - b[1]), 1);
    const middle = [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2];
    this.space.closer(apart(now, other) / apart(before, other), ...middle, this.canvas.width, this.canvas.height);
  }

  zoom(factor, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    this.space.closer(factor, x, y, this.canvas.width, this.canvas.height);
    this.explorer.draw();
  }

  reset() {
    this.space.reset();
    this.explorer.draw();
  }

  key(event) {
    const far = 40;
    const moves = { ArrowLeft: [far, 0], ArrowRight: [-far, 0], ArrowUp: [0, far], ArrowDown: [0, -far] };
    if (moves[event.key]) this.space.move(...moves[event.key], this.frame);
    else if (event.key === "+" || event.key === "=") return this.zoom(1.5);
    else if (event.key === "-") return this.zoom(1 / 1.5);
    else if (event.key === "0") return this.reset();
    else if (event.key === "Escape") return this.explorer.select(null);
    else if (event.key === "Enter") return this.read();
    else return undefined;
    event.preventDefault();
    return this.explorer.draw();
  }

  // What lies in the middle of the map, said aloud.
  read() {
    const i = this.space.nearest(this.canvas.width / 2, this.canvas.height / 2, this.frame, this.canvas.width);
    if (i >= 0) this.explorer.point(i, this.explorer.words(i, this.colour).join(", "));
  }

  tipAt(event) {
    const [x, y, ratio] = this.place(event);
    const i = this.space.nearest(x, y, this.frame, REACH * ratio);
    this.explorer.point(i);
    if (i < 0) return this.hideTip();
    this.tip.replaceChildren(...this.explorer.words(i, this.colour).map((line, k) => make(k ? "div" : "strong", {}, line)));
    this.tip.hidden = false;
    const room = this.canvas.clientWidth;
    const left = Math.min(x / ratio + 14, Math.max(room - this.tip.offsetWidth - 4, 0));
    Object.assign(this.tip.style, { left: `${left}px`, top: `${y / ratio + 16}px` });
    return undefined;
  }

  hideTip() {
    this.tip.hidden = true;
    this.explorer.point(-1);
  }

  setLasso(on) {
    this.drawing = on;
    this.lasso.setAttribute("aria-pressed", on);
    this.canvas.classList.toggle("lasso", on);
  }

  endLasso() {
    const line = this.line;
    this.line = null;
    this.setLasso(false);
    this.explorer.select(line.length > 2 ? this.space.inside(line, this.frame) : null);
  }

  // The picture as it is seen: dots as pixels, words as words.
  asSvg() {
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const ratio = this.canvas.width / width;
    const copy = make("canvas", { width: this.canvas.width, height: this.canvas.height });
    paint(copy, this.space, this.colour, this.explorer.selection, ink("--card"));
    const context = copy.getContext("2d");
    context.font = `600 ${12.5 * ratio}px system-ui, sans-serif`;
    const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
    const names = nameLayout(this.places, this.frame, context, 12.5 * ratio).map(({ label, px, py }) =>
      `<text x="${(px / ratio).toFixed(1)}" y="${(py / ratio + 4).toFixed(1)}" text-anchor="middle" font-size="12.5" font-weight="600" paint-order="stroke" stroke="${ink("--card")}" stroke-width="3" fill="${ink("--ink")}">${escape(label)}</text>`);
    const keys = this.legendSvg(height + 20, escape);
    const text = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height + keys.height + 24}" font-family="sans-serif"><rect width="100%" height="100%" fill="${ink("--card")}"/>` +
      `<image href="${copy.toDataURL()}" width="${width}" height="${height}"/>${names.join("")}${keys.text}</svg>`;
    return { text, width, height: height + keys.height + 24 };
  }

  legendSvg(top, escape) {
    const { colour } = this;
    const line = (x, y, text) => `<text x="${x}" y="${y}" font-size="12" fill="${ink("--ink")}">${escape(text)}</text>`;
    if (!colour.groups) {
      const [low, high] = colour.range.map((value) => shown(value, colour));
      const steps = RAMP.map((fill, k) => `<rect x="${12 + 3 * k}" y="${top}" width="3.5" height="8" fill="rgb(${fill})"/>`).join("");
      return { height: 40, text: `${steps}${line(12, top + 24, low)}${line(180, top + 24, high)}${line(220, top + 9, colour.name)}` };
    }
    const keys = colour.labels.map((label, g) => `<circle cx="16" cy="${top + 18 * g}" r="5" fill="rgb(${colour.fill[g]})"/>${line(28, top + 18 * g + 4, label)}`);
    return { height: 18 * keys.length + 6, text: keys.join("") };
  }
}

const PATHS = { o: "M5 1a4 4 0 1 0 .001 0z", "^": "M5 1L9.2 8.6H.8z", s: "M1.5 1.5h7v7h-7z", D: "M5 .6L9.4 5L5 9.4L.6 5z" };
function mark(shape, fill) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 10 10");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", PATHS[shape] || PATHS.o);
  path.setAttribute("fill", `rgb(${fill})`);
  svg.append(path);
  return svg;
}

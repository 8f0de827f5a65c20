// Two maps of the same cells: what is pointed at and selected in one is so in the other.

class Explorer {
  static async open(element) {
    const content = JSON.parse(element.querySelector("script").textContent);
    const names = (await inflateText(content.names)).split("\n");
    const spaces = [];
    for (const given of content.spaces) spaces.push(new Space(given, await inflateWords(given.x), await inflateWords(given.y)));
    return new Explorer(element, content, names, spaces);
  }

  constructor(element, content, names, spaces) {
    Object.assign(this, { element, content, names, spaces, id: element.id, pointed: -1, selection: null, opened: new Map() });
    this.status = make("p", { class: "status", role: "status" }, this.hint());
    this.actions = make("p", { class: "selected", hidden: true });
    const genes = content.genes ? content.genes.names : [];
    const list = make("datalist", { id: `${this.id}-genes` }, ...genes.map((name) => make("option", { value: name })));
    this.maps = content.views.map((view, k) => new CellMap(this, view, k));
    this.shared = this.scaleSwitch();
    element.append(list, ...(this.shared ? [this.shared] : []), make("div", { class: "maps" }, ...this.maps.map((map) => map.element)), this.status, this.actions,
      make("p", { class: "keys", id: `${this.id}-keys` }, "Drag to move, double-click, pinch or + and − to zoom, Shift and drag (or Select) to select. Keys: arrows move, Enter reads out the middle, 0 shows all, Escape clears the selection."));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  hint() {
    const { n, unit } = this.content;
    return `${n.toLocaleString("en")} ${unit}. Point at one to see what it is; click a name of the legend to select its ${unit}.`;
  }

  scaleSwitch() {
    const family = this.content.colours.filter((colour) => colour.family);
    if (family.length < 2) return null;
    this.highest = Math.max(...family.map((colour) => colour.ends[1]));
    const box = make("input", { type: "checkbox", onchange: () => {
      this.oneScale = box.checked;
      for (const map of this.maps) map.show(map.given);
    } });
    return make("p", { class: "choice" }, make("label", {}, box, ` One scale for all types (0 to ${Math.round(100 * this.highest)} %)`));
  }

  onSharedScale(colour) {
    return this.oneScale && colour.family ? scaled(colour, [0, this.highest]) : colour;
  }

  column(k) {
    if (!this.opened.has(k)) {
      const given = this.content.colours[k];
      const opening = given ? (given.codes ? groupColour(given) : numberColour(given)) : plainColour(this.content.n);
      this.opened.set(k, opening);
    }
    return this.opened.get(k);
  }

  async geneNamed(name) {
    const { genes } = this.content;
    const wanted = name.toLowerCase();
    const k = genes.names.findIndex((gene) => gene.toLowerCase() === wanted);
    if (k < 0) {
      const near = genes.names.filter((gene) => gene.toLowerCase().includes(wanted)).slice(0, 6);
      this.say(`${name} is not among the ${genes.names.length} genes of this page. ${near.length ? `Did you mean ${near.join(", ")}?` : `"vivace report RUN --genes ${name} --data CELLS" adds it.`}`);
      return null;
    }
    return geneColour(genes, k);
  }

  // What is known of a cell, a line each: its name, its columns, its gene.
  words(i, colour) {
    const lines = [this.names[i]];
    const columns = this.ready || [];
    const shares = columns.filter((column) => column.family).sort((a, b) => b.value(i) - a.value(i)).slice(0, 4);
    for (const column of [...columns.filter((one) => !one.family), ...shares]) lines.push(`${column.log10 ? "counts" : column.name}: ${column.text(i)}`);
    if (colour.family && !shares.some((column) => column.name === colour.name)) lines.push(`${colour.name}: ${colour.text(i)}`);
    if (colour.gene) lines.push(`${colour.name}: ${colour.text(i)}`);
    return lines;
  }

  async openAll() {
    this.ready = await Promise.all(this.content.colours.map((_, k) => this.column(k)));
  }

  point(i, aloud = null) {
    if (aloud) this.say(aloud);
    if (i === this.pointed) return;
    this.pointed = i;
    this.draw();
  }

  say(text) {
    this.status.textContent = text;
  }

  selectGroup(colour, g) {
    const same = this.chosen && this.chosen.name === colour.name && this.chosen.g === g;
    this.select(same ? null : Uint8Array.from(colour.step, (code) => (code === g ? 1 : 0)));
    this.chosen = same ? null : { name: colour.name, g };
  }

  select(flags) {
    const n = flags ? flags.reduce((sum, flag) => sum + flag, 0) : 0;
    this.selection = n ? flags : null;
    this.chosen = null;
    this.actions.hidden = !n;
    this.say(n ? `${n.toLocaleString("en")} of ${this.content.n.toLocaleString("en")} ${this.content.unit} selected${this.madeOf()}.` : this.hint());
    if (n) {
      this.actions.replaceChildren(
        make("button", { type: "button", onclick: () => this.saveSelection() }, "Save the selected (CSV)"), " ",
        make("button", { type: "button", onclick: () => this.select(null) }, "Clear the selection"));
    }
    this.draw();
  }

  // The selected in the groups of the first column that has some.
  madeOf() {
    const column = this.ready?.find((colour) => colour.groups);
    if (!column) return "";
    const counts = new Array(column.labels.length).fill(0);
    this.selection.forEach((flag, i) => { if (flag) counts[column.step[i]]++; });
    const listed = counts.map((count, g) => [count, column.labels[g]]).filter(([count]) => count).sort((a, b) => b[0] - a[0]).slice(0, 5);
    return `; ${column.name}: ${listed.map(([count, label]) => `${label} ${count.toLocaleString("en")}`).join(", ")}`;
  }

  saveSelection() {
    const columns = this.ready || [];
    const lines = [[this.content.unit.replace(/s$/, ""), ...columns.map((column) => column.name)].map(csvCell).join(",")];
    this.selection.forEach((flag, i) => { if (flag) lines.push([this.names[i], ...columns.map((column) => column.text(i).replaceAll(",", ""))].map(csvCell).join(",")); });
    save("selected.csv", "text/csv", `${lines.join("\n")}\n`);
  }

  draw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      for (const map of this.maps) map.draw();
    });
  }
}

const plainColour = async (n) => ({ name: "nothing", groups: true, labels: ["all"], sizes: [n], shape: ["o"], fill: [rgb("#3f90da")], step: new Uint8Array(n), text: () => "" });

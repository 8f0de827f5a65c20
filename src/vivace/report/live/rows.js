// A table of the run that can be searched, sorted and saved, its numbers as they stand in the file.

const SHOWN = 25;

function csvRows(text) {
  const rows = [];
  let [row, cell, quoted] = [[], "", false];
  for (let i = 0; i < text.length; i++) {
    const sign = text[i];
    if (quoted) {
      if (sign !== '"') cell += sign;
      else if (text[i + 1] === '"') [cell, i] = [cell + '"', i + 1];
      else quoted = false;
    } else if (sign === '"') quoted = true;
    else if (sign === ",") { row.push(cell); cell = ""; }
    else if (sign === "\n") { rows.push([...row, cell]); row = []; cell = ""; }
    else cell += sign;
  }
  return rows;
}

class RowTable {
  static async open(element) {
    const content = JSON.parse(element.querySelector("script").textContent);
    const [header, ...rows] = csvRows(await inflateText(content.lines));
    return new RowTable(element, content, header, rows);
  }

  constructor(element, content, header, rows) {
    Object.assign(this, { element, content, header, rows, limit: SHOWN, sorted: null });
    this.numeric = header.map((_, c) => c > 0 && c !== content.group && rows.every((row) => row[c] === "" || Number.isFinite(Number(row[c]))));
    this.search = make("input", { type: "search", id: `${element.id}-search`, placeholder: "gene", oninput: () => this.refresh(), autocomplete: "off", spellcheck: "false" });
    const groups = [...new Set(rows.map((row) => row[content.group]))];
    this.group = make("select", { id: `${element.id}-group`, onchange: () => this.refresh() }, make("option", { value: "" }, "all groups"), ...groups.map((name) => make("option", {}, name)));
    this.body = make("tbody");
    this.count = make("p", { class: "status", role: "status" });
    this.more = make("button", { type: "button", onclick: () => { this.limit += 4 * SHOWN; this.render(); } }, "More rows");
    this.heads = header.map((name, c) => make("th", { scope: "col", class: c && !this.numeric[c] ? "words" : null }, make("button", { type: "button", class: "sort", onclick: () => this.sort(c) }, content.titles[c] || name)));
    element.append(
      make("div", { class: "choice" }, make("label", { for: this.search.id }, "Search "), this.search, make("label", { for: this.group.id }, " in "), this.group, " ",
        make("button", { type: "button", onclick: () => this.save() }, "Save as CSV")),
      make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": content.caption }, make("table", { class: "rows" }, make("thead", {}, make("tr", {}, ...this.heads)), this.body)),
      this.count, this.more);
    this.refresh();
  }

  refresh() {
    const wanted = this.search.value.trim().toLowerCase();
    const { group } = this.content;
    this.found = this.rows.filter((row) => row[0].toLowerCase().includes(wanted) && (!this.group.value || row[group] === this.group.value));
    this.limit = SHOWN;
    this.arrange();
  }

  sort(column) {
    const down = this.sorted?.column === column ? !this.sorted.down : this.numeric[column];
    this.sorted = { column, down };
    this.heads.forEach((head, c) => (c === column ? head.setAttribute("aria-sort", down ? "descending" : "ascending") : head.removeAttribute("aria-sort")));
    this.arrange();
  }

  arrange() {
    if (this.sorted) {
      const { column, down } = this.sorted;
      const compare = this.numeric[column] ? (a, b) => Number(a[column]) - Number(b[column]) : (a, b) => a[column].localeCompare(b[column]);
      this.found.sort((a, b) => (down ? compare(b, a) : compare(a, b)));
    }
    this.render();
  }

  render() {
    const rows = this.found.slice(0, this.limit).map((row) => make("tr", {}, ...row.map((cell, c) => (c ? make("td", this.numeric[c] ? {} : { class: "words" }, this.numeric[c] ? rounded(cell) : cell) : make("th", { scope: "row" }, cell)))));
    this.body.replaceChildren(...rows);
    this.count.textContent = `${this.found.length.toLocaleString("en")} of ${this.rows.length.toLocaleString("en")} rows${this.found.length > this.limit ? `, the first ${this.limit} are shown` : ""}.`;
    this.more.hidden = this.found.length <= this.limit;
  }

  save() {
    const lines = [this.header, ...this.found].map((row) => row.map(csvCell).join(","));
    save(`${fileName(this.content.caption)}.csv`, "text/csv", `${lines.join("\n")}\n`);
  }
}

const rounded = (text) => (text === "" ? "–" : Math.abs(Number(text)) >= 1000 ? Math.round(Number(text)).toLocaleString("en") : String(Number(Number(text).toPrecision(3))).replace("-", "−"));

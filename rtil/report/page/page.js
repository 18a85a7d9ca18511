"use strict";
(() => {
  const FIRST_ROWS = 6;
  const DECODED_SHEETS = 48;
  const json = (id) => JSON.parse(document.getElementById(id).textContent);
  const make = (name, properties = {}, ...inside) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...inside);
    return element;
  };

  // ---- colours of the page
  const root = document.documentElement;
  const themes = [...document.querySelectorAll("[data-theme-choice]")];
  const setTheme = (theme) => {
    root.dataset.theme = theme;
    for (const button of themes) button.setAttribute("aria-pressed", String(button.dataset.themeChoice === theme));
  };
  const remembered = () => { try { return localStorage.getItem("rtil-theme"); } catch { return null; } };
  if (["light", "dark"].includes(remembered())) setTheme(remembered());
  for (const button of themes) {
    button.addEventListener("click", () => {
      setTheme(button.dataset.themeChoice);
      try { localStorage.setItem("rtil-theme", button.dataset.themeChoice); } catch { /* files may have no storage */ }
    });
  }

  // ---- tables
  const collator = new Intl.Collator("en", { numeric: true });
  const keyOf = (row, column) => row.cells[column].dataset.key;
  const isNumber = (key) => key !== "" && !Number.isNaN(Number(key));
  const compare = (a, b) => (isNumber(a) && isNumber(b) ? Number(a) - Number(b) : collator.compare(a, b));
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const first = head.classList.contains("number") ? "descending" : "ascending";
        const other = first === "descending" ? "ascending" : "descending";
        const order = before === first ? other : first;
        for (const each of heads) each.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => {
          const [first, second] = [keyOf(a, column), keyOf(b, column)];
          if (first === "" || second === "") return (first === "") - (second === "");
          return sign * compare(first, second);
        });
        table.tBodies[0].append(...rows);
      });
    });
  }

  // ---- sheets of pictures, decoded when one of them is wanted
  const decoded = new Map();
  const decode = (id) => {
    if (!decoded.has(id)) {
      const image = new Image();
      image.src = `data:image/webp;base64,${document.getElementById(id).textContent}`;
      decoded.set(id, image.decode().then(() => image));
    } else {
      const found = decoded.get(id);
      decoded.delete(id);
      decoded.set(id, found);
    }
    while (decoded.size > DECODED_SHEETS) decoded.delete(decoded.keys().next().value);
    return decoded.get(id);
  };
  const cut = async (layout, sheet, index) => {
    const image = await decode(`${sheet}-${Math.floor(index / layout.per_sheet)}`);
    const place = index % layout.per_sheet;
    const left = (place % layout.across) * layout.side;
    const top = Math.floor(place / layout.across) * layout.side;
    return [image, left, top];
  };
  const paint = async (canvas, layout, sheet, index) => {
    const [image, left, top] = await cut(layout, sheet, index);
    canvas.width = canvas.height = layout.side;
    canvas.getContext("2d").drawImage(image, left, top, layout.side, layout.side, 0, 0, layout.side, layout.side);
  };
  const pixels = async (layout, sheet, index) => {
    const canvas = make("canvas");
    const context = canvas.getContext("2d", { willReadFrequently: true });
    await paint(canvas, layout, sheet, index);
    return context.getImageData(0, 0, layout.side, layout.side);
  };
  const colours = json("colours");
  const white = json("white-error");
  const paintError = async (canvas, layout, truth, sheet, index) => {
    const [a, b] = await Promise.all([pixels(layout, truth, index), pixels(layout, sheet, index)]);
    for (let i = 0; i < a.data.length; i += 4) {
      const sum = [0, 1, 2].reduce((total, c) => total + Math.abs(a.data[i + c] - b.data[i + c]), 0);
      const colour = colours[Math.min(255, Math.round(sum / 3 / white))];
      for (const c of [0, 1, 2]) a.data[i + c] = colour[c];
    }
    canvas.width = canvas.height = layout.side;
    canvas.getContext("2d").putImageData(a, 0, 0);
  };

  // ---- galleries
  class Gallery {
    constructor(element) {
      this.element = element;
      this.data = json(`gallery-${element.dataset.gallery}`);
      this.cells = element.querySelector(".cells");
      this.view = "result";
      this.allTruth = false;
      this.hiddenNames = new Set();
      this.unit = this.data.truth ? "dB" : "";
      element.querySelector(".of-truth").hidden = !this.data.truth;
      element.querySelector(".of-spread").hidden = !this.data.cells.some((cell) => cell.columns.some((c) => c.spread));
      if (!this.data.truth) element.querySelector(".help").hidden = true;
      this.watcher = new IntersectionObserver((entries) => {
        for (const { target, isIntersecting } of entries) {
          target.isSeen = isIntersecting;
          for (const tile of target.tiles) isIntersecting ? this.draw(tile) : this.forget(tile);
        }
      }, { rootMargin: "300px" });
      this.order = element.querySelector("[data-order]");
      this.by = element.querySelector("[data-by]");
      for (const select of [this.order, this.by]) select.addEventListener("change", () => this.arrangeAll());
      for (const radio of element.querySelectorAll("input[type=radio]")) {
        radio.addEventListener("change", () => this.show(radio.value));
      }
      element.addEventListener("keydown", (event) => this.key(event));
      element.addEventListener("submit", (event) => event.preventDefault());
      this.paintScale();
      this.sections = this.data.cells.map((cell) => this.section(cell));
      this.cells.append(...this.sections);
    }

    paintScale() {
      const canvas = this.element.querySelector(".scale canvas");
      const context = canvas.getContext("2d");
      for (let x = 0; x < canvas.width; x++) {
        context.fillStyle = `rgb(${colours[Math.round((x * 255) / (canvas.width - 1))].join(" ")})`;
        context.fillRect(x, 0, 1, canvas.height);
      }
    }

    section(cell) {
      const section = make("section", { className: "cell" });
      section.cell = cell;
      section.dataset.task = cell.task;
      section.dataset.cell = cell.label;
      const heading = make("h4", { textContent: cell.label });
      section.rows = make("div", { className: "rows" });
      section.more = make("button", { type: "button", className: "more" });
      section.more.addEventListener("click", () => {
        const next = section.rows.children.length;
        this.extend(section, section.ranked.length);
        section.rows.children[next]?.querySelector("button")?.focus();
      });
      section.append(heading, section.rows, section.more);
      this.arrange(section);
      return section;
    }

    arrangeAll() {
      for (const section of this.sections) this.arrange(section);
      this.element.querySelector(".status").textContent = `Ordered: ${this.order.selectedOptions[0].textContent}`;
    }

    arrange(section) {
      const scores = this.data.pictures.map((_, index) => this.score(section.cell, index));
      const known = scores.map((_, index) => index).filter((index) => scores[index] !== null);
      const unknown = scores.map((_, index) => index).filter((index) => scores[index] === null);
      const ascending = [...known].sort((a, b) => scores[a] - scores[b] || a - b);
      section.rank = new Map(ascending.map((index, place) => [index, place]));
      section.ranked = [...this.ordered(section.cell, ascending, known), ...unknown];
      for (const row of section.rows.children) this.watcher.unobserve(row);
      section.rows.replaceChildren();
      this.extend(section, FIRST_ROWS);
    }

    ordered(cell, ascending, known) {
      const order = this.order.value;
      if (order === "worst") return ascending;
      if (order === "best") return [...ascending].reverse();
      if (order === "listed") return known;
      if (order === "apart") return [...known].sort((a, b) => this.range(cell, b) - this.range(cell, a));
      const half = Math.min(Math.ceil(ascending.length / 2), FIRST_ROWS / 2);
      const worst = ascending.slice(0, half);
      const best = ascending.slice(half).reverse().slice(0, FIRST_ROWS - half);
      return [...worst, ...best, ...ascending.filter((index) => !worst.includes(index) && !best.includes(index))];
    }

    numbers(cell, index) {
      return cell.columns
        .filter((column) => !this.hiddenNames.has(column.name) && (!this.by.value || column.name === this.by.value))
        .map((column) => column.values[index])
        .filter((value) => value !== null)
        .map((value) => (value === "inf" ? 200 : value === "-inf" ? -200 : value));
    }

    score(cell, index) {
      const numbers = this.numbers(cell, index);
      return numbers.length ? numbers.reduce((a, b) => a + b) / numbers.length : null;
    }

    range(cell, index) {
      const all = cell.columns.map((column) => column.values[index]).filter((value) => typeof value === "number");
      return all.length ? Math.max(...all) - Math.min(...all) : 0;
    }

    extend(section, count) {
      const have = section.rows.children.length;
      for (const index of section.ranked.slice(have, count)) {
        const row = this.row(section, index);
        section.rows.append(row);
        this.watcher.observe(row);
      }
      const left = section.ranked.length - section.rows.children.length;
      section.more.hidden = left <= 0;
      section.more.textContent = `Show ${left} more of ${section.cell.label}`;
      this.tabStop(section);
    }

    tabStop(section) {
      const buttons = [...section.rows.querySelectorAll(".tile button")];
      buttons.forEach((button, place) => { button.tabIndex = place === 0 ? 0 : -1; });
    }

    row(section, index) {
      const { cell, rank } = section;
      const place = rank.get(index);
      const where = place === undefined ? "" : `, ${this.placeText(place, rank.size)}`;
      const row = make("div", { className: "row" });
      row.setAttribute("role", "group");
      row.setAttribute("aria-label", `${cell.label}, picture ${this.data.pictures[index]}${where}`);
      row.tiles = [];
      const tiles = make("div", { className: "tiles" });
      const add = (tile) => { row.tiles.push(tile); tiles.append(tile.figure); };
      if (this.data.truth) add(this.tile(cell, index, { name: "truth", sheet: this.data.truth }, false));
      if (cell.measured) add(this.tile(cell, index, { name: "measurement", sheet: cell.measured }, false));
      const best = Math.max(...cell.columns.map((c) => (typeof c.values[index] === "number" ? c.values[index] : -Infinity)));
      for (const column of cell.columns) {
        if (column.sheet) add(this.tile(cell, index, column, column.values[index] === best && cell.columns.length > 1));
      }
      row.append(make("p", { textContent: `${this.data.pictures[index]}${where}` }), tiles);
      return row;
    }

    placeText(place, count) {
      const isWorse = place < count / 2;
      const number = isWorse ? place + 1 : count - place;
      const ordinal = { one: "st", two: "nd", few: "rd" }[new Intl.PluralRules("en", { type: "ordinal" }).select(number)] ?? "th";
      return `${number === 1 ? "" : `${number}${ordinal} `}${isWorse ? "worst" : "best"} of ${count}`;
    }

    tile(cell, index, column, leads) {
      const isMethod = Boolean(column.values);
      const canvas = make("canvas", { width: 1, height: 1 });
      const tile = { index, column, canvas, isMethod, flipped: false, held: false, cell };
      tile.figure = make("figure", { className: this.data.layout.side >= 128 ? "tile smooth" : "tile" });
      tile.caption = make("figcaption");
      if (isMethod) {
        tile.figure.dataset.name = column.name;
        tile.figure.hidden = this.hiddenNames.has(column.name);
        tile.value = make("b", { textContent: this.worth(column, index), className: leads ? "lead" : "" });
        tile.who = make("span", { textContent: column.name });
        tile.caption.append(tile.who, tile.value);
        canvas.setAttribute("aria-hidden", "true");
        tile.button = make("button", { type: "button" }, canvas);
        tile.button.tile = tile;
        if (this.data.truth) this.flips(tile);
        this.describe(tile);
      } else {
        tile.caption.append(column.name);
        canvas.setAttribute("role", "img");
        canvas.setAttribute("aria-label", `${column.name} of ${this.data.pictures[index]}, ${cell.label}`);
      }
      tile.figure.append(tile.button ?? make("div", { className: "plain" }, canvas), tile.caption);
      return tile;
    }

    flips(tile) {
      tile.button.setAttribute("aria-pressed", "false");
      tile.button.addEventListener("click", () => { tile.held = !tile.held; this.flip(tile, tile.held); });
      tile.button.addEventListener("pointerenter", (event) => { if (event.pointerType !== "touch") this.flip(tile, true); });
      tile.button.addEventListener("pointerleave", () => this.flip(tile, tile.held));
    }

    flip(tile, flipped) {
      tile.flipped = flipped;
      tile.button.setAttribute("aria-pressed", String(tile.held));
      this.describe(tile);
      this.draw(tile);
    }

    worth(column, index) {
      const value = column.values[index];
      const diverged = column.diverged.includes(index) ? ", diverged" : "";
      if (value === null) return "n/a";
      if (typeof value === "string") return `${value.replace("inf", "\u221e")} dB${diverged}`;
      return (this.unit ? `${value.toFixed(2)} ${this.unit}` : `p ${value.toFixed(3)}`) + diverged;
    }

    describe(tile) {
      const shown = tile.flipped ? "the truth" : { result: "the reconstruction", error: "the error", spread: "the spread" }[this.view];
      const { name } = tile.column;
      const words = [name, this.data.pictures[tile.index], tile.cell.label, this.worth(tile.column, tile.index)];
      tile.button.setAttribute("aria-label", `${words.join(", ")}, showing ${shown}`);
      tile.who.textContent = tile.flipped ? "truth" : name;
    }

    async draw(tile) {
      const { layout, truth } = this.data;
      const { column, index, canvas } = tile;
      const wanted = (tile.turn = (tile.turn ?? 0) + 1);
      const scratch = make("canvas");
      if (tile.isMethod && !tile.flipped && this.view === "error" && truth) {
        await paintError(scratch, layout, truth, column.sheet, index);
      } else if (tile.isMethod && !tile.flipped && this.view === "spread" && column.spread) {
        await paint(scratch, layout, column.spread, index);
      } else {
        await paint(scratch, layout, tile.isMethod && tile.flipped ? truth : column.sheet, index);
      }
      if (wanted !== tile.turn) return;
      canvas.width = canvas.height = layout.side;
      canvas.getContext("2d").drawImage(scratch, 0, 0);
    }

    forget(tile) {
      tile.turn = (tile.turn ?? 0) + 1;
      tile.canvas.width = tile.canvas.height = 1;
    }

    redraw() {
      for (const row of this.cells.querySelectorAll(".row")) {
        for (const tile of row.tiles) {
          if (tile.isMethod) this.describe(tile);
          if (row.isSeen) this.draw(tile);
        }
      }
    }

    show(view) {
      this.view = view;
      this.element.querySelector(`input[value=${view}]`).checked = true;
      this.element.querySelector(".scale").hidden = view === "result";
      this.redraw();
    }

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input")) return;
      const letter = event.key.toLowerCase();
      if (letter === "e") {
        const views = [...this.element.querySelectorAll("input[type=radio]")].filter((r) => !r.parentElement.hidden);
        this.show(views[(views.findIndex((r) => r.checked) + 1) % views.length].value);
      } else if (letter === "t" && this.data.truth) {
        this.allTruth = !this.allTruth;
        for (const row of this.cells.querySelectorAll(".row")) {
          for (const tile of row.tiles) if (tile.isMethod) this.flip(Object.assign(tile, { held: this.allTruth }), this.allTruth);
        }
        this.element.querySelector(".status").textContent = this.allTruth ? "All show the truth" : "All show their method";
      } else if (event.key.startsWith("Arrow") && event.target.tile) {
        this.move(event);
      }
    }

    move(event) {
      const row = event.target.closest(".row");
      const inRow = (some) => [...some.querySelectorAll(".tile button")].filter((b) => !b.closest(".tile").hidden);
      const place = inRow(row).indexOf(event.target);
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const other = { ArrowUp: row.previousElementSibling, ArrowDown: row.nextElementSibling }[event.key];
      const next = step ? inRow(row)[place + step] : other && inRow(other)[place];
      if (!next) return;
      event.preventDefault();
      event.target.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    }

    filter(task, cell, names) {
      this.hiddenNames = names;
      for (const section of this.sections) {
        section.hidden = (task && section.dataset.task !== task) || (cell && section.dataset.cell !== cell) || false;
        for (const figure of section.querySelectorAll(".tile[data-name]")) figure.hidden = names.has(figure.dataset.name);
      }
    }
  }

  // ---- filters
  for (const part of document.querySelectorAll("[data-part]")) {
    const element = part.querySelector("[data-gallery]");
    const gallery = element && new Gallery(element);
    const form = part.querySelector("form.filters");
    const [tasks, cells] = ["task", "cell"].map((name) => form.querySelector(`[data-filter=${name}]`));
    const boxes = [...form.querySelectorAll("[data-filter=name]")];
    const apply = () => {
      for (const option of cells.options) option.hidden = Boolean(option.dataset.task && tasks.value && option.dataset.task !== tasks.value);
      if (cells.selectedOptions[0].hidden) cells.value = "";
      const off = new Set(boxes.filter((box) => !box.checked).map((box) => box.value));
      for (const row of part.querySelectorAll("tbody tr[data-name]")) {
        const isOther = (tasks.value && row.dataset.task !== tasks.value) || (cells.value && row.dataset.cell !== cells.value);
        row.hidden = Boolean(isOther || off.has(row.dataset.name));
      }
      for (const chart of part.querySelectorAll(".chart[data-task]")) {
        chart.hidden = Boolean(tasks.value && chart.dataset.task !== tasks.value);
      }
      for (const series of part.querySelectorAll(".series[data-name]")) series.toggleAttribute("hidden", off.has(series.dataset.name));
      gallery?.filter(tasks.value, cells.value, off);
    };
    form.addEventListener("change", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
  }
  root.dataset.ready = "true";
})();

"use strict";
// The only script of the page: slice viewer, turntable, sorting tables. It loads nothing and stores nothing.
(() => {
  const DIRECTIONS = ["z", "y", "x"];
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const make = (name, parent, properties = {}) => parent.appendChild(Object.assign(document.createElement(name), properties));

  async function unpacked(base64) {
    const packed = Uint8Array.from(atob(base64.trim()), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // ---- slice viewer -------------------------------------------------------------------------------------------------
  async function startViewer(root) {
    const facts = JSON.parse(root.dataset.facts);
    const bytes = await unpacked(root.querySelector("script").textContent);
    const [nz, ny, nx] = facts.shape;
    const channel = Object.fromEntries(facts.channels.map((name, k) => [name, bytes.subarray(k * nz * ny * nx, (k + 1) * nz * ny * nx)]));
    const slider = root.querySelector("input[type=range]");
    const greys = root.querySelector("select");
    const readout = root.querySelector(".readout");
    const state = { axis: 0, at: facts.shape.map((n) => n >> 1), window: 0 };

    // Grey values are stored as square roots, finer where silicon is.
    const value = (code) => facts.low + (code / 255) ** 2 * (facts.high - facts.low);
    const grey = (code) => {
      const [low, high] = facts.windows[state.window].span;
      return clamp(255 * (value(code) - low) / (high - low), 0, 255);
    };
    const rgb = (text) => [1, 3, 5].map((k) => parseInt(text.slice(k, k + 2), 16));
    const phases = facts.phases.map((phase) => ({ ...phase, rgb: rgb(phase.colour) }));
    const errors = facts.errors.map((kind) => ({ ...kind, rgb: rgb(kind.colour) }));
    const isTrue = (code) => phases[code & 15].silicon, isFound = (code) => phases[code >> 4].silicon;
    const errorOf = (code) => (isTrue(code) ? 1 : 0) + (isFound(code) ? 2 : 0);
    const paint = {
      truth: (k, greyOf) => greyOf(channel.truth[k]),
      reconstruction: (k, greyOf) => greyOf(channel.reconstruction[k]),
      segmentation: (k) => phases[channel.labels[k] >> 4].rgb,
      error: (k) => errors[errorOf(channel.labels[k])].rgb,
    };

    // Across, down and through: the axes of the slices of each direction.
    const axes = () => [[2, 1, 0], [2, 0, 1], [0, 1, 2]][state.axis];
    const strides = [ny * nx, nx, 1];
    const panes = facts.panes.map(({ name, title }) => {
      const pane = make("div", root.querySelector(".panes"), { className: "pane" });
      make("h3", pane, { textContent: title });
      const cut = make("div", pane, { className: "cut" });
      const canvas = make("canvas", cut);
      canvas.setAttribute("role", "img");
      const lines = ["row", "column", "bar"].map((className) => make("i", cut, { className }));
      const point = (event) => {
        const box = canvas.getBoundingClientRect(), [across, down] = axes();
        state.at[across] = clamp(Math.floor((event.clientX - box.left) / box.width * facts.shape[across]), 0, facts.shape[across] - 1);
        state.at[down] = clamp(Math.floor((event.clientY - box.top) / box.height * facts.shape[down]), 0, facts.shape[down] - 1);
        show(false);
      };
      cut.addEventListener("pointerdown", (event) => { cut.setPointerCapture(event.pointerId); point(event); });
      cut.addEventListener("pointermove", (event) => { if (event.buttons) point(event); });
      return { name, title, cut, canvas, lines };
    });

    const index = (axis) => state.at[axis] * facts.steps[axis] + (facts.steps[axis] >> 1);
    function draw(pane) {
      const [across, down, through] = axes(), columns = facts.shape[across], rows = facts.shape[down];
      Object.assign(pane.canvas, { width: columns, height: rows });
      // A slice that is higher than wide shall not fill the width.
      pane.cut.style.maxWidth = `${30 * columns / rows}rem`;
      const picture = new ImageData(columns, rows);
      const table = Array.from({ length: 256 }, (_, code) => { const g = grey(code); return [g, g, g]; });
      const colour = paint[pane.name];
      for (let v = 0, place = 0; v < rows; v++) {
        let k = state.at[through] * strides[through] + v * strides[down];
        for (let u = 0; u < columns; u++, k += strides[across], place += 4) {
          const [r, g, b] = colour(k, (code) => table[code]);
          picture.data[place] = r; picture.data[place + 1] = g; picture.data[place + 2] = b; picture.data[place + 3] = 255;
        }
      }
      pane.canvas.getContext("2d").putImageData(picture, 0, 0);
      pane.canvas.setAttribute("aria-label", `${pane.title}, slice ${DIRECTIONS[through]} = ${index(through)}`);
      if (facts.voxel_um) {
        const width = columns * facts.steps[across] * facts.voxel_um;
        const length = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50].filter((um) => um <= width / 3).pop();
        pane.lines[2].style.width = `${100 * (length || 0) / width}%`;
        pane.lines[2].title = `${length} µm`;
        root.dataset.bar = length ? `white bar ${length} µm; ` : "";
      }
    }
    function tell() {
      const k = state.at.reduce((sum, at, axis) => sum + at * strides[axis], 0);
      const number = (code) => `${code === 255 ? "≥ " : code === 0 ? "≤ " : ""}${value(code).toPrecision(3)} ${facts.unit}`;
      const told = [`${root.dataset.bar || ""}at z ${index(0)}, y ${index(1)}, x ${index(2)}`];
      if (channel.truth) told.push(`truth ${number(channel.truth[k])}, ${phases[channel.labels[k] & 15].name}`);
      told.push(`reconstruction ${number(channel.reconstruction[k])}`);
      if (channel.labels) told.push(`segmented as ${phases[channel.labels[k] >> 4].name}`);
      readout.textContent = told.join("; ") + ".";
    }
    function show(redraw = true) {
      const [across, down, through] = axes();
      if (redraw) {
        panes.forEach(draw);
        Object.assign(slider, { max: facts.shape[through] - 1, value: state.at[through] });
        const name = `slice ${DIRECTIONS[through]} = ${index(through)}`;
        slider.setAttribute("aria-valuetext", name);
        slider.previousElementSibling.textContent = name;
        root.querySelectorAll(".choices input").forEach((input, k) => { input.checked = k === state.axis; });
      }
      for (const { lines: [row, column] } of panes) {
        row.style.top = `${100 * (state.at[down] + 0.5) / facts.shape[down]}%`;
        column.style.left = `${100 * (state.at[across] + 0.5) / facts.shape[across]}%`;
      }
      tell();
    }
    const turn = (axis) => { state.axis = axis; show(); };
    const go = (axis, to) => { state.at[axis] = clamp(to, 0, facts.shape[axis] - 1); show(); };

    facts.directions.forEach((title, k) => {
      const label = make("label", root.querySelector(".choices"));
      const input = make("input", label, { type: "radio", name: "direction" });
      input.addEventListener("change", () => turn(k));
      label.append(` ${title}`);
    });
    facts.windows.forEach(({ name }) => make("option", greys, { textContent: name }));
    greys.addEventListener("change", () => { state.window = greys.selectedIndex; show(); });
    slider.addEventListener("input", () => go(axes()[2], Number(slider.value)));
    for (const { name, colour } of [...facts.phases.filter((phase) => phase.there), ...(facts.channels.includes("truth") ? facts.errors.filter((kind) => kind.wrong) : [])]) {
      make("span", root.querySelector(".legend"), { textContent: name }).style.setProperty("--swatch", colour);
    }
    root.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const [across, down, through] = axes(), native = event.target.matches("input, select");
      const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
      if (["1", "2", "3"].includes(event.key)) turn(Number(event.key) - 1);
      else if (native) return;
      else if (step && event.shiftKey) { const axis = event.key.match(/Left|Right/) ? across : down; go(axis, state.at[axis] + step); }
      else if (step) go(through, state.at[through] + step);
      else if (event.key === "Home") go(through, 0);
      else if (event.key === "End") go(through, Infinity);
      else return;
      event.preventDefault();
    });
    // #direction=y&slice=12 opens the page there; slices count as in the files.
    function follow() {
      const asked = new URLSearchParams(location.hash.slice(1)), axis = DIRECTIONS.indexOf(asked.get("direction"));
      if (axis >= 0) state.axis = axis;
      const slice = parseInt(asked.get("slice"), 10), through = axes()[2];
      if (slice >= 0) state.at[through] = clamp(Math.floor(slice / facts.steps[through]), 0, facts.shape[through] - 1);
      show();
    }
    addEventListener("hashchange", follow);
    root.hidden = false;
    follow();
    document.documentElement.classList.add("scripted");
  }

  // ---- turntable ----------------------------------------------------------------------------------------------------
  function startTurntable(root) {
    const slider = root.querySelector("input"), told = root.querySelector("output");
    const angles = slider.dataset.angles.split(" ").map(Number);
    const strips = [...root.querySelectorAll(".frames")].map((strip) => [...strip.children]);
    const show = () => {
      const at = Number(slider.value);
      for (const strip of strips) strip.forEach((frame, k) => { frame.hidden = k !== at; });
      told.textContent = `${angles[at]}°`;
      slider.setAttribute("aria-valuetext", `${angles[at]} degrees`);
    };
    slider.addEventListener("input", show);
    for (const strip of root.querySelectorAll(".frames")) {
      let from = null;
      strip.addEventListener("pointerdown", (event) => { from = [event.clientX, Number(slider.value)]; strip.setPointerCapture(event.pointerId); });
      strip.addEventListener("pointermove", (event) => {
        if (!from || !event.buttons) return;
        const turned = Math.round((event.clientX - from[0]) / strip.clientWidth * angles.length);
        slider.value = (((from[1] - turned) % angles.length) + angles.length) % angles.length;
        show();
      });
    }
    show();
  }

  // ---- tables -------------------------------------------------------------------------------------------------------
  function startTable(table) {
    const body = table.tBodies[0], original = [...body.rows], headers = [...table.tHead.rows[0].cells];
    // A number, its spread or comparison aside; dashes and empty cells come last, whichever way.
    const key = (row, column) => {
      const text = row.cells[column].textContent.trim();
      const number = parseFloat(text.replace(/^(up to|[~<>=≤≥])+\s*/, "").replace("−", "-"));
      return text === "" || text === "–" ? null : Number.isNaN(number) ? text.toLowerCase() : number;
    };
    const compare = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
    headers.forEach((header, column) => {
      const button = make("button", header, { type: "button", textContent: header.textContent });
      header.replaceChildren(button);
      button.addEventListener("click", () => {
        const next = { ascending: "descending", descending: null }[header.getAttribute("aria-sort")];
        const order = next === undefined ? "ascending" : next;
        headers.forEach((other) => other.removeAttribute("aria-sort"));
        if (order) header.setAttribute("aria-sort", order);
        const keyed = original.map((row) => [key(row, column), row]);
        const sign = order === "descending" ? -1 : 1;
        if (order) keyed.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : sign * compare(a, b)));
        body.append(...keyed.map(([, row]) => row));
      });
    });
  }

  document.querySelectorAll("table").forEach(startTable);
  document.querySelectorAll(".turntable").forEach(startTurntable);
  // Where a browser cannot unpack the volumes, the still pictures stay.
  if ("DecompressionStream" in window) document.querySelectorAll(".viewer").forEach(startViewer);
})();

// What a report answers to: values of curves and tables, a look into pictures and text. It asks nothing of anyone.
"use strict";
document.documentElement.classList.add("js");

const SVG = "http://www.w3.org/2000/svg";
const number = (value) => (value === null || value === undefined ? "not a number" : String(Number(value.toPrecision(6))));
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function make(parent, name, fields = {}, space = null) {
  const element = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(fields)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

function along(ramp, share) {
  const place = clamp(share, 0, 1) * (ramp.length - 1);
  const low = Math.min(Math.floor(place), ramp.length - 2), part = place - low;
  return ramp[low].map((value, i) => Math.round(value + part * (ramp[low + 1][i] - value)));
}

// black or white, whichever is read better on a colour (relative luminance of WCAG 2)
function ink(color) {
  const [r, g, b] = color.map((value) => (value <= 10 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
}

// where in a drawing's own units an event happened
function within(svg, event) {
  const box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
  return [((event.clientX - box.left) / box.width) * view.width, ((event.clientY - box.top) / box.height) * view.height];
}

// a drawing that tells the value that is pointed at, or stepped to by arrow keys
function pointed(svg, what, nearest, step, show) {
  let here = null;
  const say = (next) => { if (next) { here = next; show(here); } };
  svg.closest(".panel").querySelector(".readout").textContent = "Point at it, or use arrow keys: its values stand here.";
  svg.setAttribute("tabindex", "0");
  svg.setAttribute("role", "application");
  svg.setAttribute("aria-roledescription", what);
  svg.setAttribute("aria-label", `${svg.getAttribute("aria-label")}. Arrow keys tell values`);
  for (const name of ["pointermove", "pointerdown"]) svg.addEventListener(name, (event) => say(nearest(...within(svg, event))));
  svg.addEventListener("keydown", (event) => {
    if (!(event.key in steps)) return;
    say(step(here, ...steps[event.key]));
    event.preventDefault();
  });
}

function chart(svg) {
  const { box: [left, top, width, height], x, y, xTitle, series } = JSON.parse(svg.dataset.chart);
  const out = svg.parentElement.querySelector(".readout");
  const points = series.map((own) => own.x.map((at, i) => ({ own, i, cx: left + (width * (at - x[0])) / (x[1] - x[0]), cy: own.y[i] === null ? null : top + (height * (y[1] - own.y[i])) / (y[1] - y[0]) })).filter((p) => p.cy !== null)).filter((all) => all.length);
  if (!points.length) return;
  const ring = make(svg, "circle", { class: "here", r: "4.5", visibility: "hidden" }, SVG);
  const nearest = (px, py) => {
    let best = null, least = Infinity;
    for (const all of points) for (const p of all) {
      const far = (p.cx - px) ** 2 + (p.cy - py) ** 2;
      if (far < least) [best, least] = [p, far];
    }
    return best;
  };
  const step = (here, right, down) => {
    if (!here) return points[0][0];
    const which = points.findIndex((all) => all.includes(here));
    if (down) {
      const other = points[(which + down + points.length) % points.length];
      return other.reduce((a, b) => (Math.abs(b.cx - here.cx) < Math.abs(a.cx - here.cx) ? b : a));
    }
    const all = points[which];
    return all[clamp(all.indexOf(here) + right, 0, all.length - 1)];
  };
  pointed(svg, "chart", nearest, step, (p) => {
    for (const [key, value] of [["cx", p.cx], ["cy", p.cy], ["visibility", "visible"]]) ring.setAttribute(key, value);
    const spread = p.own.spread.length ? `, standard deviation ${number(p.own.spread[p.i])}` : "";
    out.textContent = `${p.own.name}: ${xTitle} ${number(p.own.x[p.i])}, value ${number(p.own.y[p.i])}${spread}`;
  });
}

function heat(svg) {
  const { box: [left, top, width, height], values, rowTitle, columnTitle, rows, columns } = JSON.parse(svg.dataset.heat);
  const out = svg.closest(".panel").querySelector(".readout");
  const w = width / columns.length, h = height / rows.length;
  const ring = make(svg, "rect", { class: "here", width: w, height: h, visibility: "hidden" }, SVG);
  const nearest = (px, py) => {
    const cell = [Math.floor((py - top) / h), Math.floor((px - left) / w)];
    return cell[0] >= 0 && cell[0] < rows.length && cell[1] >= 0 && cell[1] < columns.length ? cell : null;
  };
  const step = (here, right, down) => (here ? [clamp(here[0] + down, 0, rows.length - 1), clamp(here[1] + right, 0, columns.length - 1)] : [0, 0]);
  pointed(svg, "table of colours", nearest, step, ([row, column]) => {
    for (const [key, value] of [["x", left + column * w], ["y", top + row * h], ["visibility", "visible"]]) ring.setAttribute(key, value);
    out.textContent = `${rowTitle} ${rows[row]}, ${columnTitle} ${columns[column]}: ${number(values[row][column])}`;
  });
}

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

// what a layer made of a sample: weights are 8 bits and a largest a row, codes 7 bits, a sign and a largest a layer
function opened(packed) {
  return {
    queries: packed.queries,
    weights: bytes(packed.weights),
    tops: new Float32Array(bytes(packed.tops).buffer),
    nonzeros: new Uint32Array(bytes(packed.nonzeros).buffer),
    codes: new Int8Array(bytes(packed.codes).buffer),
    top: packed.top,
    width: packed.width,
  };
}

function paint(canvas, values, [rows, columns], kind, alpha = 255) {
  [canvas.width, canvas.height] = [columns, rows];
  const image = new ImageData(columns, rows);
  const low = Math.min(...values), high = Math.max(...values), most = Math.max(high, -low);
  values.forEach((value, i) => {
    const share = kind === "signed" ? (most > 0 ? 0.5 + (0.5 * value) / most : 0.5) : high > low ? (value - low) / (high - low) : 0;
    image.data.set([...along(RAMPS[kind], share), alpha], 4 * i);
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return kind === "signed" ? [-most, most] : [low, high];
}

function viewer(root) {
  const data = JSON.parse(root.querySelector("script").textContent);
  const { grid, prefix, kept, text, membership, heads } = data;
  const [rows, columns] = grid, cells = rows * columns;
  const find = (selector) => root.querySelector(selector);
  const state = { item: 0, layer: data.start, head: -1, token: kept, over: "attention", neuron: 0 };
  const unpacked = new Map(); // one layer of one sample is opened when it is looked at
  const layerOf = () => {
    const key = `${state.item} ${state.layer}`;
    if (!unpacked.has(key)) unpacked.set(key, opened(data.items[state.item].layers[state.layer]));
    return unpacked.get(key);
  };
  const tokens = () => (text ? data.items[state.item].tokens : null);
  const count = () => (text ? tokens().length : prefix + cells);
  const shape = () => (text ? [1, count()] : grid);
  const asked = (layer) => (layer.queries === 1 ? kept : state.token); // whose weights can be shown
  const called = (token) => {
    if (text) return `token ${token} “${tokens()[token]}”`;
    return token < prefix ? "the class token" : `the patch in row ${Math.floor((token - prefix) / columns)}, column ${(token - prefix) % columns}`;
  };

  const weights = (layer, head) => {
    const n = count(), row = layer.queries === 1 ? 0 : state.token, found = new Float64Array(n);
    const chosen = head < 0 ? Array.from({ length: heads }, (_, i) => i) : [head];
    for (const one of chosen) {
      const start = one * layer.queries + row, scale = layer.tops[start] / 255 / chosen.length;
      for (let i = 0; i < n; i++) found[i] += layer.weights[start * n + i] * scale;
    }
    return Array.from(found);
  };
  const codeOf = (layer, token) => Array.from(layer.codes.subarray(token * layer.width, (token + 1) * layer.width), (v) => (v * layer.top) / 127);
  const shown = (layer) => {
    if (state.over === "nonzeros" && layer.nonzeros.length) return [Array.from(layer.nonzeros, (v) => v / layer.width), "amount"];
    if (state.over === "neuron" && layer.codes.length) {
      const values = Array.from({ length: count() }, (_, token) => (layer.codes[token * layer.width + state.neuron] * layer.top) / 127);
      return [values, values.some((v) => v < 0) ? "signed" : "amount"];
    }
    return [state.over === "attention" ? weights(layer, state.head) : null, "amount"];
  };

  function said(layer) {
    const head = state.head < 0 ? "mean of the heads" : `head ${state.head}`;
    const where = `Layer ${data.layers[state.layer]}`;
    if (state.over === "nonzeros") return layer.nonzeros.length ? `${where}: which share of each code's entries is not 0` : `${where} makes no code`;
    if (state.over === "neuron") return layer.codes.length ? `${where}, neuron ${state.neuron}: where it fires` : `${where}: this page holds no code of it for this sample`;
    if (membership) return `${where}, ${head}: how far each patch belongs to it`;
    const missing = asked(layer) !== state.token ? ` (this page holds no weights of ${called(state.token)} here)` : "";
    return `${where}, ${head}: where ${called(asked(layer))} looks${missing}`;
  }

  const stage = find(".stage"), words = find(".tokens"), over = find(".over"), told = find(".value");
  let values = null; // on the screen, of each token

  function drawHeads(layer) {
    root.querySelectorAll(".heads button").forEach((button) => {
      const head = Number(button.dataset.head), own = weights(layer, head);
      button.setAttribute("aria-pressed", String(state.over === "attention" && head === state.head));
      paint(button.querySelector("canvas"), text ? own : own.slice(prefix), shape(), "amount");
    });
  }

  function drawCode(layer) {
    const box = find(".neurons"), line = find(".code-of"), strip = find(".strip");
    const held = layer.codes.length > 0, code = held ? codeOf(layer, state.token) : [];
    strip.hidden = !held;
    box.replaceChildren();
    if (!layer.nonzeros.length) { line.textContent = "This layer makes no code."; return; }
    const share = `${layer.nonzeros[state.token]} of ${layer.width} entries of the code of ${called(state.token)} are not 0`;
    line.textContent = held ? `${share}. The strongest (choose one to see where it fires):` : `${share}. This page does not hold the entries themselves.`;
    if (!held) return;
    paint(strip, code, [1, layer.width], code.some((v) => v < 0) ? "signed" : "amount");
    const order = code.map((v, i) => i).filter((i) => code[i] !== 0).sort((a, b) => Math.abs(code[b]) - Math.abs(code[a])).slice(0, 8);
    for (const neuron of order) {
      const button = make(box, "button", { type: "button", "aria-pressed": String(state.over === "neuron" && neuron === state.neuron) });
      button.textContent = `${neuron}: ${code[neuron].toPrecision(3)}`;
      button.setAttribute("aria-label", `neuron ${neuron}, value ${code[neuron].toPrecision(3)}`);
      button.addEventListener("click", () => { set({ over: "neuron", neuron }); find(`.neurons button[aria-pressed="true"]`)?.focus(); });
    }
  }

  function drawPicture(kind) {
    stage.querySelector("img").src = root.querySelectorAll(".thumbs img")[state.item].src;
    if (values) paint(over, values.slice(prefix), grid, kind, 165);
    over.hidden = !values;
    const patch = state.token - prefix, frame = stage.querySelector("rect");
    frame.setAttribute("visibility", patch >= 0 ? "visible" : "hidden");
    if (patch >= 0) { frame.setAttribute("x", patch % columns); frame.setAttribute("y", Math.floor(patch / columns)); }
    stage.setAttribute("aria-label", `Picture of ${rows} by ${columns} patches; chosen: ${called(state.token)}. Arrow keys choose a patch${prefix ? ", Home the class token" : ""}`);
  }

  function drawWords(kind) {
    if (words.childElementCount !== count() || words.dataset.item !== String(state.item)) {
      words.replaceChildren();
      words.dataset.item = state.item;
      tokens().forEach((word, i) => {
        const button = make(words, "button", { type: "button" });
        button.textContent = word.replaceAll("\n", "⏎") || "∅";
        button.addEventListener("click", () => set({ token: i }));
        button.addEventListener("pointerenter", () => tell(i));
      });
    }
    const ends = values ? [Math.min(...values), Math.max(...values)] : [0, 0], most = Math.max(ends[1], -ends[0], 1e-12);
    [...words.children].forEach((button, i) => {
      const color = values ? along(RAMPS[kind], kind === "signed" ? 0.5 + (0.5 * values[i]) / most : values[i] / most) : null;
      button.style.background = color ? `rgb(${color.join(" ")})` : "";
      button.style.color = color ? ink(color) : "";
      button.tabIndex = i === state.token ? 0 : -1;
      button.classList.toggle("query", i === state.token);
      button.setAttribute("aria-pressed", String(i === state.token));
      button.setAttribute("aria-label", `token ${i}, ${tokens()[i]}${values ? `, ${number(values[i])}` : ""}`);
    });
  }

  function tell(token) {
    told.textContent = values ? `${called(token)}: ${values[token].toPrecision(3)}` : "";
  }

  function draw() {
    const layer = layerOf();
    let kind;
    [values, kind] = shown(layer);
    find(".said").textContent = said(layer);
    find(".layer-number").textContent = data.layers[state.layer];
    find(".layer").setAttribute("aria-valuetext", `layer ${data.layers[state.layer]}`);
    find(".caption").textContent = data.items[state.item].name;
    root.querySelectorAll(".thumbs button").forEach((button, i) => button.setAttribute("aria-pressed", String(i === state.item)));
    find(".what").value = state.over;
    find(".what option[value=neuron]").textContent = `neuron ${state.neuron} of the codes`;
    if (text) drawWords(kind);
    else drawPicture(kind);
    const scale = find(".scale"), own = values && (text ? values : values.slice(prefix));
    scale.hidden = !values;
    if (values) {
      const most = Math.max(...own), least = Math.min(...own), far = Math.max(most, -least);
      const low = kind === "signed" ? -far : text ? 0 : least;
      scale.children[0].textContent = low.toPrecision(2);
      scale.children[1].className = `ramp ${kind}`;
      scale.children[2].textContent = (kind === "signed" ? far : most).toPrecision(2);
      tell(own.indexOf(most) + (text ? 0 : prefix));
    } else told.textContent = "";
    drawHeads(layer);
    drawCode(layer);
  }
  function set(change) {
    Object.assign(state, change);
    state.token = Math.min(state.token, count() - 1);
    draw();
  }

  root.querySelectorAll(".thumbs button").forEach((button, item) => button.addEventListener("click", () => set({ item })));
  root.querySelectorAll(".heads button").forEach((button) => button.addEventListener("click", () => set({ head: Number(button.dataset.head), over: "attention" })));
  find(".layer").addEventListener("input", (event) => set({ layer: Number(event.target.value) }));
  find(".what").addEventListener("change", (event) => set({ over: event.target.value }));
  if (text) {
    words.addEventListener("keydown", (event) => {
      if (!(event.key in steps)) return;
      const [right, down] = steps[event.key];
      set({ token: clamp(state.token + right + down, 0, count() - 1) });
      words.children[state.token].focus();
      event.preventDefault();
    });
  } else {
    const patchAt = (event) => {
      const area = over.parentElement.getBoundingClientRect();
      const column = Math.floor(((event.clientX - area.left) / area.width) * columns);
      const row = Math.floor(((event.clientY - area.top) / area.height) * rows);
      return row >= 0 && row < rows && column >= 0 && column < columns ? row * columns + column + prefix : null;
    };
    stage.addEventListener("pointermove", (event) => { const token = patchAt(event); if (token !== null) tell(token); });
    stage.addEventListener("pointerdown", (event) => { const token = patchAt(event); if (token !== null) set({ token }); });
    stage.addEventListener("keydown", (event) => {
      if (event.key === "Home" && prefix) set({ token: 0 });
      else if (event.key in steps) {
        const [right, down] = steps[event.key], patch = state.token - prefix;
        const row = patch < 0 ? 0 : Math.floor(patch / columns) + down, column = patch < 0 ? 0 : (patch % columns) + right;
        if (row >= 0 && row < rows && column >= 0 && column < columns) set({ token: prefix + row * columns + column });
      } else return;
      event.preventDefault();
    });
  }
  root.hidden = false;
  draw();
}

document.querySelectorAll("svg.chart").forEach(chart);
document.querySelectorAll("svg.heat").forEach(heat);
document.querySelectorAll(".viewer").forEach(viewer);

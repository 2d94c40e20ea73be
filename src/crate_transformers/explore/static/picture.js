// The picture: choose a patch, paint patches over, see a map over them; small maps of every layer and head.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { amount, signed } from "./colours.js";

// a picture with a name, or one that only repeats what stands beside it
const named = (label) => (label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" });

export function Pixels({ array, label, className }) {
  const canvas = useRef(null);
  const [height, width] = array.shape;
  useEffect(() => {
    const image = new ImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = array.values[3 * i + c];
      image.data[4 * i + 3] = 255;
    }
    canvas.current.getContext("2d").putImageData(image, 0, 0);
  }, [array]);
  return html`<canvas ref=${canvas} width=${width} height=${height} class=${className || "pixels"} ...${named(label)} />`;
}

// values of the patches -> their colours; amounts run from their least to their most, signs are symmetric about 0
function coloured(values, kind, most) {
  if (kind === "signed") return values.map((v) => signed(v, most));
  const low = Math.min(...values), high = Math.max(...values);
  return values.map((v) => amount(high > low ? (v - low) / (high - low) : 0));
}

function draw(canvas, colours, [rows, columns], alpha = 255) {
  const image = new ImageData(columns, rows);
  colours.forEach(([r, g, b], i) => image.data.set([r, g, b, alpha], 4 * i));
  if (canvas.width !== columns || canvas.height !== rows) [canvas.width, canvas.height] = [columns, rows];
  canvas.getContext("2d").putImageData(image, 0, 0);
}

export function SmallMap({ values, grid, kind, most, label }) {
  const canvas = useRef(null), drawn = useRef("");
  useEffect(() => { // most maps stay as they are while one drags
    const key = `${kind} ${kind === "signed" ? most : ""} ${grid} ${values.join()}`;
    if (key !== drawn.current) draw(canvas.current, coloured(Array.from(values), kind, most), grid);
    drawn.current = key;
  }, [values, kind, most]);
  return html`<canvas ref=${canvas} class="small-map" ...${named(label)} />`;
}

export function Stage({ picture, grid, prefix, state, set, map, kind, painting }) {
  const over = useRef(null), box = useRef(null);
  const [drawing, setDrawing] = useState(false);
  const [rows, columns] = grid;
  const chosen = state.token - prefix;
  useEffect(() => {
    if (map) draw(over.current, coloured(Array.from(map), kind, Math.max(...map.map(Math.abs))), grid, 165);
    else over.current.getContext("2d").clearRect(0, 0, over.current.width, over.current.height);
  }, [map, kind]);
  const patchAt = (event) => {
    const area = box.current.getBoundingClientRect();
    const column = Math.floor(((event.clientX - area.left) / area.width) * columns);
    const row = Math.floor(((event.clientY - area.top) / area.height) * rows);
    return row >= 0 && row < rows && column >= 0 && column < columns ? row * columns + column : null;
  };
  const paint = (patch, toggle) => {
    const painted = new Set(state.painted);
    if (painted.has(patch) && toggle) painted.delete(patch);
    else painted.add(patch);
    set({ painted: [...painted].sort((a, b) => a - b) });
  };
  const down = (event) => {
    const patch = patchAt(event);
    if (patch === null) return;
    if (painting) { setDrawing(true); paint(patch, true); }
    else set({ token: patch + prefix });
  };
  const key = (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    const here = Math.max(chosen, 0);
    if (event.key in steps) {
      const next = chosen < 0 ? 0 : here + steps[event.key];
      if (next >= 0 && next < rows * columns) set({ token: next + prefix });
      event.preventDefault();
    } else if (event.key === "Enter" || event.key === " ") {
      if (painting) paint(here, true);
      event.preventDefault();
    } else if (event.key === "Home" && prefix) {
      set({ token: 0 });
      event.preventDefault();
    }
  };
  const words = chosen < 0 ? "class token" : `patch in row ${Math.floor(chosen / columns)}, column ${chosen % columns}`;
  return html`<div class="stage" ref=${box} tabindex="0" role="application" aria-roledescription="picture of patches"
      aria-label="Picture of ${rows} by ${columns} patches; chosen: ${words}. Arrow keys choose a patch${painting ? ", Enter paints it" : ""}${prefix ? ", Home chooses the class token" : ""}."
      onPointerDown=${down} onPointerMove=${(e) => drawing && paint(patchAt(e) ?? state.painted[0], false)} onPointerUp=${() => setDrawing(false)}
      onPointerLeave=${() => setDrawing(false)} onKeyDown=${key}>
    <${Pixels} array=${picture} label="the picture as the model reads it" />
    <canvas ref=${over} class="over" aria-hidden="true" />
    <svg class="over" viewBox="0 0 ${columns} ${rows}" preserveAspectRatio="none" aria-hidden="true">
      ${chosen >= 0 && html`<rect x=${chosen % columns} y=${Math.floor(chosen / columns)} width="1" height="1" class="chosen-patch" />`}
    </svg>
  </div>`;
}

// one row a layer, one column a head
export function Heads({ array, info, state, set, kind, name, which, off }) {
  const [layers, heads, tokens] = array.shape;
  const prefix = info.prefix || 0, size = tokens - prefix;
  const grid = info.grid || [1, tokens];
  const from = info.grid ? prefix : 0;
  let most = 0;
  if (kind === "signed") for (const v of array.values) most = Math.max(most, Math.abs(v));
  const cell = (layer, head) => {
    const start = (layer * heads + head) * tokens;
    return array.values.subarray(start + from, start + tokens);
  };
  const chosen = (layer, head) => layer === state.layer && head === state.head;
  return html`<div class="wide"><table class="heads ${info.grid ? "" : "of-text"}"><caption>${name}</caption>
    <thead><tr><th scope="col">layer</th>${Array.from({ length: heads }, (_, h) => html`<th scope="col">${h}</th>`)}</tr></thead>
    <tbody>${Array.from({ length: layers }, (_, l) => html`<tr><th scope="row">${l}</th>
      ${Array.from({ length: heads }, (_, h) => html`<td><button class="map ${chosen(l, h) ? "chosen" : ""} ${off(l, h) ? "off" : ""}" aria-pressed=${chosen(l, h)}
        aria-label="${which === "other" ? name + ", " : ""}layer ${l}, head ${h}${off(l, h) ? ", off" : ""}" onClick=${() => set({ layer: l, head: h, neuron: null })}>
        <${SmallMap} values=${cell(l, h)} grid=${grid} kind=${kind} most=${most} label="" /></button></td>`)}</tr>`)}</tbody></table></div>`;
}

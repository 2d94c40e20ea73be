// Change the model: lambda and eta of one layer or all, heads and neurons; everything that is changed, listed.
import { html, useState } from "./vendor/htm-preact.js";
import { short } from "./ladder.js";

export function Change({ about, state, set, changed, reset }) {
  const [all, setAll] = useState(true);
  const steps = about.lambda.map((v, i) => (v === null ? null : i)).filter((i) => i !== null);
  const layers = all ? steps : steps.filter((i) => i === state.layer);
  const value = (name) => state[name][layers[0]] ?? about[name][layers[0]];
  const slide = (name, most) => {
    const now = layers.length ? value(name) : null;
    const set_ = (v) => { const next = { ...state[name] }; for (const l of layers) next[l] = v; set({ [name]: next }); };
    return html`<label class="slide">${name === "lambda" ? "λ, threshold" : "η, step size"}
      <input type="range" aria-label=${name} min=${name === "eta" ? most / 100 : 0} max=${most} step=${most / 100} value=${now ?? 0} disabled=${now === null} onInput=${(e) => set_(+e.target.value)} /> <output>${now === null ? "–" : short(now)}</output></label>`;
  };
  const head = state.head !== null && about.heads_can_be_off[state.layer];
  const isOff = state.heads_off.some(([l, h]) => l === state.layer && h === state.head);
  const toggle = () => set({ heads_off: isOff ? state.heads_off.filter(([l, h]) => l !== state.layer || h !== state.head) : [...state.heads_off, [state.layer, state.head]] });
  const list = [
    ...["lambda", "eta"].flatMap((name) => { const keys = Object.keys(state[name]); return keys.length ? [[`${name === "lambda" ? "λ" : "η"} of ${keys.length > 1 ? keys.length + " layers" : "layer " + keys[0]}: ${short(state[name][keys[0]])}${new Set(Object.values(state[name])).size > 1 ? " and others" : ""}`, () => set({ [name]: {} })]] : []; }),
    ...state.heads_off.map(([l, h]) => [`head ${h} of layer ${l} off`, () => set({ heads_off: state.heads_off.filter(([a, b]) => a !== l || b !== h) })]),
    ...state.neurons.map(([l, n, v]) => [`neuron ${n} of layer ${l}: ${short(v)}`, () => set({ neurons: state.neurons.filter(([a, b]) => a !== l || b !== n) })]),
    ...(state.painted.length ? [[`${state.painted.length} patches painted over`, () => set({ painted: [] })]] : []),
  ];
  return html`<section aria-labelledby="change"><h2 id="change">Change it</h2>
    ${steps.length ? html`<div class="row"><label><input type="radio" name="scope" checked=${all} onChange=${() => setAll(true)} /> all layers</label>
      <label><input type="radio" name="scope" checked=${!all} onChange=${() => setAll(false)} /> layer ${state.layer}</label></div>
      ${slide("lambda", 1)} ${slide("eta", 0.5)}` : html`<p class="note">${about.name} takes no step of ISTA: it has neither λ nor η.</p>`}
    <div class="row">${head ? html`<button aria-pressed=${isOff} onClick=${toggle}>${isOff ? "switch on" : "switch off"} head ${state.head} of layer ${state.layer}</button>`
      : html`<span class="note">${state.head === null ? "Choose a head in the maps to switch it off." : "The heads of this layer cannot be switched off one by one."}</span>`}</div>
    ${list.length > 0 && html`<ul class="changes">${list.map(([words, undo]) => html`<li>${words} <button aria-label="undo: ${words}" onClick=${undo}>undo</button></li>`)}</ul>`}
    <button disabled=${!changed} onClick=${reset}>reset everything</button>
  </section>`;
}

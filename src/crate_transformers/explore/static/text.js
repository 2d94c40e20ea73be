// A text as tokens: choose one, see what it attends to, let the model go on.
import { html, useState, useEffect } from "./vendor/htm-preact.js";
import { amount, signed, rgb, ink } from "./colours.js";

export function Tokens({ tokens, state, set, map, kind }) {
  const most = map ? Math.max(...map.map(Math.abs), 1e-9) : 0;
  return html`<div class="tokens" role="group" aria-label="The text, token by token">${tokens.texts.map((word, i) => {
    const colour = map && i < map.length ? (kind === "signed" ? signed(map[i], most) : amount(map[i] / most)) : null;
    return html`<button key=${i} class=${i === state.token ? "chosen" : ""} aria-pressed=${i === state.token} style=${colour ? { background: rgb(colour), color: ink(colour) } : {}}
      title="token ${i}${map && i < map.length ? ": " + map[i].toFixed(4) : ""}" onClick=${() => set({ token: i })}>${word}</button>`; })}</div>`;
}

export function Writing({ state, set, texts, grow, writes }) {
  const [draft, setDraft] = useState(state.text);
  const [temperature, setTemperature] = useState(0);
  const [busy, setBusy] = useState(false);
  const write = async (count) => { setBusy(true); await grow(count, temperature); setBusy(false); };
  useEffect(() => setDraft(state.text), [state.text]);
  return html`<div class="writing"><label>text <textarea rows="4" value=${draft} onInput=${(e) => setDraft(e.target.value)} /></label>
    <div class="row"><button onClick=${() => set({ text: draft })}>look at it</button>
      <label>an example <select value="" onChange=${(e) => e.target.value !== "" && set({ text: texts[+e.target.value] })}><option value="">choose …</option>${texts.map((t, i) => html`<option value=${i}>${t.slice(0, 50)}</option>`)}</select></label></div>
    ${writes && html`<div class="row"><button disabled=${busy} onClick=${() => write(1)}>write a token</button><button disabled=${busy} onClick=${() => write(20)}>write 20</button>
      <label class="slide">temperature <input type="range" min="0" max="1.5" step="0.1" value=${temperature} onInput=${(e) => setTemperature(+e.target.value)} /> ${temperature}</label></div>`}</div>`;
}

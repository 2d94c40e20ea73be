// The ladder: every measure at the three points of every layer, and whether each half-step does what the theory says.
import { html, useState } from "./vendor/htm-preact.js";

const PANELS = [
  ["coding_rate", "R^c, coding rate under the subspaces (nats)", "should fall at each compression"],
  ["rate", "R, coding rate of the tokens (nats)", ""],
  ["rate_reduction", "ΔR = R − R^c (nats)", ""],
  ["sparse_rate_reduction", "objective: ΔR − λ‖Z‖₀ (nats)", "the model was derived to raise it"],
  ["nonzero_fraction", "non-zero entries (fraction)", "should fall at each sparsification"],
];
const PLACES = [0.1, 0.45, 0.8];
const W = 300, H = 150, LEFT = 46, RIGHT = 8, TOP = 8, BOTTOM = 22;

export const short = (value) =>
  value === null || value === undefined ? "–" : Math.abs(value) >= 1000 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(3);

function Panel({ column, title, aim, series, layers, layer, onLayer, points }) {
  const [hover, setHover] = useState(null);
  const all = series.flatMap((s) => s.values.flat()).filter((v) => v !== null);
  if (!all.length) return null;
  let low = Math.min(...all), high = Math.max(...all);
  if (high - low < 1e-9) [low, high] = [low - 0.5, high + 0.5];
  const x = (index, place) => LEFT + ((index + PLACES[place]) / layers) * (W - LEFT - RIGHT);
  const y = (value) => TOP + (1 - (value - low) / (high - low)) * (H - TOP - BOTTOM);
  const line = (values, index) =>
    values.map((v, place) => (v === null ? "" : `${x(index, place)},${y(v)}`)).filter(Boolean).join(" ");
  const move = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const at = (((event.clientX - box.left) / box.width) * W - LEFT) / ((W - LEFT - RIGHT) / layers);
    const index = Math.min(Math.max(Math.floor(at), 0), layers - 1);
    const place = [0, 1, 2].sort((a, b) => Math.abs(at - index - PLACES[a]) - Math.abs(at - index - PLACES[b]))[0];
    setHover({ index, place });
  };
  const at = hover || { index: layer, place: 2 };
  const told = series.map((s) => `${s.name} ${short((s.values[at.index] || [])[at.place])}`).join(", ");
  return html`<figure class="panel">
    <figcaption>${title}${aim && html`<small> ${aim}</small>`}</figcaption>
    <svg viewBox="0 0 ${W} ${H}" role="img" aria-label="${title}, by layer; layer ${at.index}: ${told}"
      onPointerMove=${move} onPointerLeave=${() => setHover(null)} onClick=${() => hover && onLayer(hover.index)}>
      ${Array.from({ length: layers }, (_, i) => html`
        <rect x=${LEFT + (i / layers) * (W - LEFT - RIGHT)} y=${TOP} width=${(W - LEFT - RIGHT) / layers} height=${H - TOP - BOTTOM}
          class=${i === layer ? "band chosen" : i % 2 ? "band" : "band even"} />
        ${(layers <= 16 || i % 4 === 0) && html`<text x=${LEFT + ((i + 0.5) / layers) * (W - LEFT - RIGHT)} y=${H - 7} class="tick middle">${i}</text>`}`)}
      ${[low, (low + high) / 2, high].map((v) => html`<text x=${LEFT - 4} y=${y(v) + 3} class="tick end">${short(v)}</text>`)}
      ${series.map((s) => s.values.slice(0, layers).map((values, i) => html`
        <polyline points=${line(values, i)} class="line ${s.kind}" />
        ${s.kind !== "faint" && values.map((v, place) => v !== null && html`
          <circle cx=${x(i, place)} cy=${y(v)} r=${hover && hover.index === i && hover.place === place ? 4 : 2.2} class="dot ${s.kind}" />`)}`))}
    </svg>
    <p class="readout">layer ${at.index}, ${points[at.place]}: ${told}</p>
  </figure>`;
}

const ANSWERS = { true: ["✓", "good", "as the theory says"], false: ["✗", "bad", "not as the theory says"], null: ["·", "none", "has no such measure"] };

function Marks({ entry, layers, layer, onLayer, angles, name }) {
  const rows = [["compress", entry.now.compresses, "R^c falls"], ["sparsify", entry.now.sparsifies, "R − λ‖Z‖₀ rises"]];
  return html`<div class="wide"><table class="marks">
    <caption>Half-steps of ${name}: ${rows.map(([what, answers]) => `${answers.filter((a) => a).length} of ${answers.length} ${what}`).join(", ")} as the theory says</caption>
    <thead><tr><th scope="col">layer</th>${Array.from({ length: layers }, (_, i) => html`<th scope="col"><button class=${i === layer ? "chosen" : ""} aria-pressed=${i === layer} onClick=${() => onLayer(i)}>${i}</button></th>`)}</tr></thead>
    <tbody>${rows.map(([what, answers, sign]) => html`<tr><th scope="row">${what} <small>${sign}</small></th>
      ${answers.map((answer) => { const [mark, kind, words] = ANSWERS[answer]; return html`<td class=${kind} title=${words}><span aria-hidden="true">${mark}</span><span class="hidden">${words}</span></td>`; })}</tr>`)}
      ${angles && html`<tr><th scope="row">angle <small>to steepest descent of R^c</small></th>${angles.map((a) => html`<td>${a === null ? "–" : a.toFixed(0) + "°"}</td>`)}</tr>`}
    </tbody></table></div>`;
}

export function Ladder({ ladder, angles, state, set, changed, onAngles }) {
  const layers = ladder.model.now.coding_rate.length;
  const onLayer = (layer) => set({ layer, neuron: null });
  const seriesOf = (column) => {
    const series = [{ name: ladder.model.name, values: ladder.model.now[column], kind: "first" }];
    if (changed && state.which === "model") series.unshift({ name: "unchanged", values: ladder.model.before[column], kind: "faint" });
    if (ladder.other) series.push({ name: ladder.other.name, values: ladder.other.now[column], kind: "second" });
    return series;
  };
  const of = ladder.model.coding_rate_of[state.layer];
  return html`<section aria-labelledby="ladder"><h2 id="ladder">The ladder</h2>
    <p class="note">Three points a layer: before it, after it compresses, after it sparsifies; all under that layer's own U.
      ${of && of !== "subspaces" && ` R^c of ${ladder.model.name} is of ${of}.`}</p>
    <p class="legend"><span class="key first"></span>${ladder.model.name} ${ladder.other && html`<span class="key second"></span>${ladder.other.name}`}
      ${changed && html`<span class="key faint"></span>unchanged`}</p>
    <div class="row"><label>rates <select value=${state.mode} onChange=${(e) => set({ mode: e.target.value })}>
      <option value="official">of LN(Z), unit tokens (official)</option><option value="paper">of Z as it is (paper)</option></select></label>
      <button aria-pressed=${!!angles} onClick=${onAngles}>angles to the gradient</button></div>
    <div class="panels">${PANELS.map(([column, title, aim]) => html`<${Panel} key=${column} ...${{ column, title, aim, layers, onLayer }}
      series=${seriesOf(column)} layer=${state.layer} points=${ladder.points} />`)}</div>
    <div class="beside"><${Marks} entry=${ladder.model} name=${ladder.model.name} layer=${state.layer} angles=${angles && angles.model} ...${{ layers, onLayer }} />
    ${ladder.other && html`<${Marks} entry=${ladder.other} name=${ladder.other.name} layer=${state.layer} angles=${angles && angles.other}
      layers=${ladder.other.now.coding_rate.length} onLayer=${onLayer} />`}</div>
  </section>`;
}
